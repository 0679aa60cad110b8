//! An answer's body, as it goes out: how it ends is seen, and one that nobody takes is cut.
//!
//! An answer is asked for its next piece when there is room for it with the client. Where that does not happen for
//! [`UNREAD`], the client makes no progress: what the answer holds is dropped, and the client reads `SLOW_READER` when it
//! comes back. One that does not even do that loses the connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::failure::Failure;
use crate::status;

/// How long a client may leave a piece of an answer untaken.
pub(crate) const UNREAD: Duration = Duration::from_secs(30);

/// An answer that is on its way, as the connection sees it.
pub(crate) struct Outgoing(Mutex<State>);

struct State {
    /// `None`: cut.
    body: Option<Body>,
    /// Since when the last piece waits to be taken.
    waits: Option<Instant>,
}

/// What became of an answer that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing is wrong with it.
    Moving,
    /// It has just been cut.
    Cut,
    /// It was cut long ago, and the client has not noticed: it does not read at all.
    Abandoned,
}

impl Outgoing {
    pub(crate) fn new(body: Body) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { body: Some(body), waits: None })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts it where it has waited for too long.
    pub(crate) fn look(&self) -> Seen {
        let mut state = self.state();
        let Some(waits) = state.waits.filter(|waits| waits.elapsed() >= UNREAD) else { return Seen::Moving };
        let Some(held) = state.body.take() else {
            return if waits.elapsed() >= 2 * UNREAD { Seen::Abandoned } else { Seen::Moving };
        };
        drop(state);
        drop(held);
        Seen::Cut
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut state = self.state();
        state.waits = None;
        let Some(body) = &mut state.body else {
            let trailers = trailers_of(&Failure::SlowReader.into());
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_data()) {
            state.waits = Some(Instant::now());
        }
        polled
    }
}

/// The body that the connection writes.
pub(crate) struct AnswerBody<E> {
    outgoing: Arc<Outgoing>,
    ended: bool,
    /// Hears how it ends.
    on_end: E,
}

/// Hears how an answer ends; dropped with it.
pub(crate) trait OnEnd: Send + Unpin + 'static {
    fn ended(&mut self, code: Code);
}

impl<E: OnEnd> AnswerBody<E> {
    pub(crate) fn new(outgoing: Arc<Outgoing>, on_end: E) -> Self {
        Self { outgoing, ended: false, on_end }
    }
}

impl<E: OnEnd> HttpBody for AnswerBody<E> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.outgoing.poll(context);
        match polled {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {
                self.ended = true;
                let trailers = explained(frame.into_trailers().unwrap_or_default());
                self.on_end.ended(code_of(&trailers));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Some(Err(status))) => {
                self.on_end.ended(status.code());
                Poll::Ready(Some(Err(status)))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// What the library says at the end of a stream has details like every other error.
fn explained(trailers: HeaderMap) -> HeaderMap {
    let status = Status::from_header_map(&trailers);
    match status.as_ref().and_then(status::explain) {
        Some(explained) => trailers_of(&explained),
        None => trailers,
    }
}

fn trailers_of(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Only metadata that is no metadata fails, and there is none.
    let _ = status.add_header(&mut trailers);
    trailers
}

fn code_of(trailers: &HeaderMap) -> Code {
    Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::poll_fn;

    struct Silent;

    impl OnEnd for Silent {
        fn ended(&mut self, _: Code) {}
    }

    /// Never ends; knows when it is dropped.
    struct Endless(Arc<()>);

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            assert_eq!(Arc::strong_count(&self.0), 2);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_cut_and_says_so() {
        let held = Arc::new(());
        let outgoing = Outgoing::new(Body::new(Endless(held.clone())));
        let mut body = AnswerBody::new(outgoing.clone(), Silent);
        let mut next = async || poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        for _ in 0..3 {
            tokio::time::advance(UNREAD / 2).await;
            assert_eq!(outgoing.look(), Seen::Moving, "it is read, if slowly");
            assert!(next().await.is_some_and(|frame| frame.is_ok_and(|frame| frame.is_data())));
        }
        tokio::time::advance(UNREAD).await;
        assert_eq!(outgoing.look(), Seen::Cut);
        assert_eq!(Arc::strong_count(&held), 1, "what it held is gone, though nobody has come back");
        assert_eq!(outgoing.look(), Seen::Moving);
        tokio::time::advance(UNREAD).await;
        assert_eq!(outgoing.look(), Seen::Abandoned);
        let last = next().await.expect("an end").expect("trailers");
        assert_eq!(code_of(last.trailers_ref().expect("trailers")), Code::ResourceExhausted);
        assert!(next().await.is_none());
    }
}
