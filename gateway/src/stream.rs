//! Answers without end: what is there, then what happens, until the caller leaves.
//!
//! A stream is pulled: the next message is made when the last one is on its way, so a client that reads slowly holds
//! back its own stream and nothing else.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use tonic::Status;

use crate::failure::Failure;
use crate::live::Live;

/// A stream of messages as tonic wants it.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// After this long without a message a heartbeat goes out, with a token that has moved on.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Makes one message after the other.
pub(crate) trait Source: Send + 'static {
    /// What it makes.
    type Message: Send + 'static;

    /// The next message; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Message>, Failure>> + Send;
}

/// The messages of `source`, until it ends or this node stops.
pub(crate) fn messages<S: Source>(live: &Live, source: S) -> Messages<S::Message> {
    Box::pin(try_unfold((source, live.clone()), |(mut source, live)| async move {
        let named = live.log_name().clone();
        let message = tokio::select! {
            biased;
            () = live.stopped() => return Err(Failure::Stopping.into()),
            message = named.name_in(source.next()) => message?,
        };
        Ok(message.map(|message| (message, (source, live))))
    }))
}
