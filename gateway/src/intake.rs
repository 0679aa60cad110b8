//! The message of a call, as it comes in: within a time, and all of them together within a bound of memory.
//!
//! A message is put together before anybody looks at it. Clients that begin large ones and never end them would fill the
//! memory, one call each; and were a call carried out from its first byte on, they would take the places of those who have
//! something to do. So a call is carried out once its message is here.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use crate::failure::{Crowd, Failure};
use crate::shares::refused;

/// How long the one message of a call may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(20);
/// Bytes of messages that are still arriving, over all calls; beyond it only small ones are taken.
const ARRIVING_MAX: usize = 64 * 1024 * 1024;
/// What a call may always send: that many calls at once are bounded anyway.
const SMALL: usize = 32 * 1024;

/// Bytes of messages that have arrived or are about to.
#[derive(Debug, Default)]
pub(crate) struct Arriving(AtomicUsize);

/// The body of a call that is here.
struct Arrived {
    frames: VecDeque<Result<Frame<Bytes>, Status>>,
    /// `None`: it has ended. Else more than anybody would take.
    rest: Option<Body>,
    counted: Counted,
}

/// Bytes of one call, counted until this is dropped.
struct Counted {
    arriving: Arc<Arriving>,
    bytes: usize,
}

/// The same body, once it is here or so much of it that it is more than `message_max` bytes, which whoever decodes it
/// refuses.
///
/// # Errors
/// [`Failure::TooSlow`], and [`Failure::Crowded`] where too much is arriving.
pub(crate) async fn arrived<B>(body: B, arriving: &Arc<Arriving>, message_max: usize) -> Result<Body, Failure>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let counted = Counted { arriving: arriving.clone(), bytes: 0 };
    let mut arrived = Arrived { frames: VecDeque::with_capacity(1), rest: Some(Body::new(body)), counted };
    match timeout(ARRIVAL, arrived.fill(message_max)).await {
        Ok(filled) => filled.map(|()| Body::new(arrived)),
        Err(_elapsed) => {
            refused("call", "slow_message");
            Err(Failure::TooSlow)
        }
    }
}

impl Arrived {
    async fn fill(&mut self, message_max: usize) -> Result<(), Failure> {
        while let Some(rest) = self.rest.as_mut().filter(|_| self.counted.bytes <= message_max) {
            let frame = poll_fn(|context| Pin::new(&mut *rest).poll_frame(context)).await;
            match &frame {
                Some(Ok(frame)) => self.counted.add(frame.data_ref().map_or(0, Buf::remaining))?,
                None | Some(Err(_)) => self.rest = None,
            }
            self.frames.extend(frame);
        }
        Ok(())
    }
}

impl HttpBody for Arrived {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match (self.frames.pop_front(), &mut self.rest) {
            (Some(frame), _) => Poll::Ready(Some(frame)),
            (None, Some(rest)) => Pin::new(rest).poll_frame(context),
            (None, None) => Poll::Ready(None),
        }
    }
}

impl Counted {
    fn add(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        let all = self.arriving.0.fetch_add(bytes, Relaxed) + bytes;
        if all > ARRIVING_MAX && self.bytes > SMALL {
            refused("call", "arriving");
            return Err(Failure::Crowded(Crowd::Arriving));
        }
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.arriving.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 2 * ARRIVING_MAX;

    /// Sends these bytes, then ends, or lets wait for ever.
    struct Sent(Option<Bytes>, Then);

    #[derive(Clone, Copy, PartialEq)]
    enum Then {
        Ends,
        Waits,
    }

    impl HttpBody for Sent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match (self.0.take(), self.1) {
                (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                (None, Then::Ends) => Poll::Ready(None),
                (None, Then::Waits) => Poll::Pending,
            }
        }
    }

    fn sent(bytes: usize, then: Then) -> Sent {
        Sent(Some(vec![0; bytes].into()), then)
    }

    async fn read(mut body: Body) -> usize {
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            bytes += frame.expect("it arrived").data_ref().map_or(0, Bytes::len);
        }
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_passed_on_once_it_is_here_and_one_that_never_ends_is_given_up() {
        let arriving = Arc::default();
        let body = arrived(sent(3, Then::Ends), &arriving, MAX).await.expect("it is here");
        assert_eq!(read(body).await, 3);
        assert_eq!(arrived(sent(3, Then::Waits), &arriving, MAX).await.err(), Some(Failure::TooSlow));
        assert_eq!(arriving.0.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_would_take_is_not_waited_for() {
        let arriving = Arc::default();
        assert!(arrived(sent(101, Then::Waits), &arriving, 100).await.is_ok());
        assert_eq!(arrived(sent(100, Then::Waits), &arriving, 100).await.err(), Some(Failure::TooSlow));
    }

    #[tokio::test]
    async fn what_arrives_is_bounded_over_all_calls() {
        let arriving = Arc::default();
        let all = arrived(sent(ARRIVING_MAX, Then::Ends), &arriving, MAX).await.expect("there is room");
        let small =
            arrived(sent(SMALL, Then::Ends), &arriving, MAX).await.expect("small ones are always taken");
        assert_eq!(read(small).await, SMALL);
        let large = || arrived(sent(SMALL + 1, Then::Ends), &arriving, MAX);
        assert_eq!(large().await.err(), Some(Failure::Crowded(Crowd::Arriving)));
        drop(all);
        assert!(large().await.is_ok());
        assert_eq!(arriving.0.load(Relaxed), 0);
    }
}
