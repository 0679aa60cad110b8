//! A request's body, as it comes in: within a time, and all of them together within a bound of memory.
//!
//! A message is put together before anybody looks at it. Clients that begin large ones and never end them would fill the
//! memory, one call each.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame};
use tokio::time::Sleep;
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

/// Bytes of messages that are arriving.
#[derive(Debug, Default)]
pub(crate) struct Arriving(AtomicUsize);

/// The body of a call.
pub(crate) struct Intake {
    inner: Body,
    arriving: Arc<Arriving>,
    bytes: usize,
    /// Begun when the client lets us wait for the first time.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Intake {
    pub(crate) fn new<B>(inner: B, arriving: &Arc<Arriving>) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        Self { inner: Body::new(inner), arriving: arriving.clone(), bytes: 0, patience: None }
    }

    fn take(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes += bytes;
        let all = self.arriving.0.fetch_add(bytes, Relaxed) + bytes;
        if all > ARRIVING_MAX && self.bytes > SMALL {
            refused("call", "arriving");
            return Err(Failure::Crowded(Crowd::Arriving).into());
        }
        Ok(())
    }
}

impl HttpBody for Intake {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Buf::remaining);
                Poll::Ready(Some(self.take(bytes).map(|()| frame)))
            }
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => {
                let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(ARRIVAL)));
                patience.as_mut().poll(context).map(|()| {
                    refused("call", "slow_message");
                    Some(Err(Failure::TooSlow.into()))
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.arriving.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::poll_fn;

    use tonic::{Code, Status};

    /// Sends these bytes, then lets wait for ever.
    struct Slow(Option<Bytes>);

    impl HttpBody for Slow {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    async fn next(body: &mut Intake) -> Option<Result<usize, Code>> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.data_ref().map_or(0, Bytes::len)).map_err(|status| status.code()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_never_ends_is_given_up() {
        let arriving = Arc::default();
        let mut body = Intake::new(Slow(Some(Bytes::from_static(b"abc"))), &arriving);
        assert_eq!(next(&mut body).await, Some(Ok(3)));
        assert_eq!(next(&mut body).await, Some(Err(Code::DeadlineExceeded)));
    }

    #[tokio::test]
    async fn what_arrives_is_bounded_over_all_calls() {
        let arriving = Arc::default();
        let large = |bytes: usize| Intake::new(Slow(Some(vec![0; bytes].into())), &arriving);
        let mut all = large(ARRIVING_MAX);
        assert_eq!(next(&mut all).await, Some(Ok(ARRIVING_MAX)));
        assert_eq!(next(&mut large(SMALL)).await, Some(Ok(SMALL)), "a small one is always taken");
        assert_eq!(next(&mut large(SMALL + 1)).await, Some(Err(Code::ResourceExhausted)));
        drop(all);
        assert_eq!(next(&mut large(SMALL + 1)).await, Some(Ok(SMALL + 1)));
        assert_eq!(arriving.0.load(Relaxed), 0);
    }
}
