//! Around every call: it is counted and timed, a panic ends the call and not the connection, what tonic refuses by
//! itself (a message too large, a method unknown) is explained like every other error, and what is more than the node can
//! carry out at once is refused before anything is done for it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame};
use metrics::{counter, gauge, histogram};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::failure::Failure;
use crate::places::Places;
use crate::positions::LogName;
use crate::status;

/// The paths of what nodes say to each other.
const BETWEEN_NODES: &str = "/shopstream.node.";

/// The words for methods in metrics: those of our own protos, everything else is `unknown`, so that nobody can make
/// labels by asking for methods that do not exist.
#[derive(Clone, Debug)]
pub struct Methods(Arc<HashMap<String, Method>>);

#[derive(Clone, Copy, Debug)]
struct Method {
    word: &'static str,
    /// One request, one answer, from a client: streams have bounds of their own, and what another node passes on has
    /// had its place there.
    is_call: bool,
}

impl Methods {
    /// All methods of `descriptors`, an encoded `FileDescriptorSet`.
    ///
    /// # Errors
    /// It is none.
    pub fn of(descriptors: &[u8]) -> Result<Self, prost::DecodeError> {
        let set = FileDescriptorSet::decode(descriptors)?;
        let mut paths = HashMap::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let streams = method.client_streaming() || method.server_streaming();
                    let is_call = !streams && !path.starts_with(BETWEEN_NODES);
                    // Once per process and method: the metrics library wants words that live for ever.
                    paths.insert(path.clone(), Method { word: String::leak(path), is_call });
                }
            }
        }
        Ok(Self(Arc::new(paths)))
    }

    fn of_path(&self, path: &str) -> Method {
        self.0.get(path).copied().unwrap_or(Method { word: "unknown", is_call: false })
    }

    /// Every path, in no order.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Makes a [`Watched`] of a service.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The methods that may become labels.
    pub methods: Methods,
    /// A place for each call that is carried out.
    pub places: Arc<Places>,
    /// The log that answers speak of.
    pub log: LogName,
}

impl<S> Layer<S> for Watch {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched { inner, watch: self.clone() }
    }
}

/// A service whose calls are watched.
#[derive(Clone, Debug)]
pub struct Watched<S> {
    inner: S,
    watch: Watch,
}

impl<S, B> Service<Request<B>> for Watched<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Method { word, is_call } = self.watch.methods.of_path(request.uri().path());
        let mut seen = Seen::begin(word);
        let places = &self.watch.places;
        let Some(place) = (if is_call { places.take() } else { Some(places.beside()) }) else {
            seen.code = Code::ResourceExhausted;
            return Box::pin(std::future::ready(Ok(Status::from(Failure::Busy).into_http())));
        };
        // A handler that panicked is dropped whole; what it shared is behind locks that survive poisoning.
        let call = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        let call = self.watch.log.clone().name_in(place.carry_out(call));
        Box::pin(async move {
            let response = match call.await {
                Ok(Ok(response)) => response,
                Err(_panic) => status::panicked(seen.method).into_http(),
            };
            Ok(seen.watch(response))
        })
    }
}

/// A call that has begun. Counted when it is dropped, whichever way it ends.
struct Seen {
    method: &'static str,
    begun: Instant,
    /// What it came to; a caller that leaves early cancels.
    code: Code,
}

impl Seen {
    fn begin(method: &'static str) -> Self {
        gauge!("shopstream_rpc_in_flight", "method" => method).increment(1.0);
        Self { method, begun: Instant::now(), code: Code::Cancelled }
    }

    fn watch(mut self, response: Response<Body>) -> Response<Body> {
        // A status in the headers is a call that ended before its first message.
        let Some(status) = Status::from_header_map(response.headers()) else {
            return response.map(|inner| Body::new(WatchedBody { inner, seen: self }));
        };
        self.code = status.code();
        match status::explain(&status) {
            Some(explained) => explained.into_http(),
            None => response,
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let (method, code) = (self.method, status::code_name(self.code));
        gauge!("shopstream_rpc_in_flight", "method" => method).decrement(1.0);
        counter!("shopstream_rpc_total", "method" => method, "code" => code).increment(1);
        histogram!("shopstream_rpc_seconds", "method" => method, "code" => code).record(self.begun.elapsed());
    }
}

/// A response that is still being sent; its status is in the trailers.
struct WatchedBody {
    inner: Body,
    seen: Seen,
}

impl HttpBody for WatchedBody {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.inner).poll_frame(context)));
        let frame = match polled {
            Ok(polled) => ready!(polled),
            Err(_panic) => {
                self.inner = Body::empty();
                Some(Err(status::panicked(self.seen.method)))
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.seen.code = code_of(trailers);
                }
            }
            Some(Err(status)) => self.seen.code = status.code(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

fn code_of(trailers: &HeaderMap) -> Code {
    Status::from_header_map(trailers).map_or(Code::Unknown, |status| status.code())
}
