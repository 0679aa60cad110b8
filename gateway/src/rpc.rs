//! Around every call: it is counted and timed, a panic ends the call and not the connection, what tonic refuses by
//! itself (a message too large, a method unknown) is explained like every other error, and what is more than the node can
//! carry out at once is refused before anything is done for it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body as HttpBody;
use metrics::{counter, gauge, histogram};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::answer::{AnswerBody, OnEnd, Outgoing};
use crate::call::parse_timeout;
use crate::connections::{Busy, Connection, ON};
use crate::failure::Failure;
use crate::intake::{Arriving, arrived};
use crate::places::Places;
use crate::positions::LogName;
use crate::server::MESSAGE_MAX;
use crate::shares::{Share, refused};
use crate::status;

/// Bytes of metadata of one call, counted as HTTP/2 does.
const METADATA_MAX: usize = 16 * 1024;
/// The paths of what nodes say to each other.
const BETWEEN_NODES: &str = "/shopstream.node.";
/// The paths of our own services.
const OURS: &str = "/shopstream.";

/// How many places a stream takes: those that go through the log, or take in orders by the thousand, hold more memory
/// than those that tell what happens.
fn weight(path: &str) -> usize {
    const HEAVY: [&str; 3] =
        ["EventService/Read", "AdminService/VerifyReadModels", "OrderService/ProcessBulkOrders"];
    if HEAVY.iter().any(|heavy| path.ends_with(heavy)) { 8 } else { 1 }
}

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
    /// How many places it takes among the streams.
    stream: Option<usize>,
    /// One request from a client, which is awaited before anything is held for it.
    one_request: bool,
}

impl Methods {
    /// All methods of `descriptors`, each an encoded `FileDescriptorSet`.
    ///
    /// # Errors
    /// One of them is none.
    pub fn of(descriptors: &[&[u8]]) -> Result<Self, prost::DecodeError> {
        let mut paths = HashMap::new();
        let sets = descriptors.iter().map(|set| FileDescriptorSet::decode(*set));
        for file in sets.collect::<Result<Vec<_>, _>>()?.iter().flat_map(|set| &set.file) {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let streams = method.client_streaming() || method.server_streaming();
                    // Whoever asks how we are is answered however much there is to do.
                    let of_clients = path.starts_with(OURS) && !path.starts_with(BETWEEN_NODES);
                    let (is_call, one_request) =
                        (of_clients && !streams, of_clients && !method.client_streaming());
                    let stream = streams.then(|| weight(&path));
                    // Once per process and method: the metrics library wants words that live for ever.
                    let word = String::leak(path.clone());
                    paths.insert(path, Method { word, is_call, stream, one_request });
                }
            }
        }
        Ok(Self(Arc::new(paths)))
    }

    fn of_path(&self, path: &str) -> Method {
        let unknown = Method { word: "unknown", is_call: false, stream: None, one_request: false };
        self.0.get(path).copied().unwrap_or(unknown)
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
    /// What of requests is still on its way.
    pub(crate) arriving: Arc<Arriving>,
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
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Method { word, is_call, stream, one_request } = self.watch.methods.of_path(request.uri().path());
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let mut seen = Seen::begin(word, connection.unwrap_or_else(|| Connection::new(None)).begin());
        let metadata: usize =
            request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        if metadata > METADATA_MAX {
            refused("call", "metadata");
            return answered(seen.refuse(Failure::MetadataTooLarge { bytes: metadata }.into()));
        }
        let timeout =
            request.headers().get("grpc-timeout").and_then(|text| parse_timeout(text.to_str().ok()?));
        let (places, arriving) = (self.watch.places.clone(), self.watch.arriving.clone());
        // The one that is ready is the one to call.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let on = seen.on.connection().clone();
        let call = async move {
            // A call counts among its client's from its first byte on, a stream once it is known what it shall tell.
            let mut share = if is_call { on.share(None)? } else { None };
            // A stream of requests takes as long as its client wants, and has bounds of its own.
            let request = if one_request {
                let (head, body) = request.into_parts();
                let body = places.message(arrived(body, &arriving, MESSAGE_MAX)).await?;
                Request::from_parts(head, body)
            } else {
                request.map(Body::new)
            };
            if stream.is_some() {
                share = on.share(stream)?;
            }
            let Some(place) = (if is_call { places.take() } else { Some(places.beside()) }) else {
                refused("call", "calls");
                return Err(Failure::Busy);
            };
            let Ok(response) = place.carry_out(inner.call(request)).await;
            Ok((response, share))
        };
        // A handler that panicked is dropped whole; what it shared is behind locks that survive poisoning.
        let call = self.watch.log.clone().name_in(AssertUnwindSafe(call).catch_unwind());
        let call = ON.scope(seen.on.connection().clone(), call);
        Box::pin(async move {
            // Whoever has set a deadline has left then.
            let response = match within(timeout, call).await {
                Some(Ok(Ok((response, share)))) => {
                    seen.share = share;
                    response
                }
                Some(Ok(Err(failure))) => return Ok(seen.refuse(failure.into())),
                Some(Err(_panic)) => status::panicked(seen.method).into_http(),
                None => Status::deadline_exceeded("not answered within the caller's deadline").into_http(),
            };
            Ok(seen.watch(response))
        })
    }
}

fn answered(response: Response<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    Box::pin(std::future::ready(Ok(response)))
}

async fn within<T>(timeout: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, work).await.ok(),
        None => Some(work.await),
    }
}

/// A call that has begun. Counted when it is dropped, whichever way it ends.
struct Seen {
    method: &'static str,
    begun: Instant,
    /// What it came to; a caller that leaves early cancels.
    code: Code,
    on: Busy,
    /// Its part of what its client may have, until the answer is taken.
    share: Option<Share>,
    answer: Option<Arc<Outgoing>>,
}

impl Seen {
    fn begin(method: &'static str, on: Busy) -> Self {
        gauge!("shopstream_rpc_in_flight", "method" => method).increment(1.0);
        Self { method, begun: Instant::now(), code: Code::Cancelled, on, share: None, answer: None }
    }

    fn refuse(mut self, status: Status) -> Response<Body> {
        self.code = status.code();
        status.into_http()
    }

    fn watch(mut self, response: Response<Body>) -> Response<Body> {
        // A status in the headers is a call that ended before its first message.
        let Some(status) = Status::from_header_map(response.headers()) else {
            return response.map(|inner| {
                let outgoing = Outgoing::new(inner);
                self.on.connection().look_after(outgoing.clone());
                self.answer = Some(outgoing.clone());
                Body::new(AnswerBody::new(outgoing, self))
            });
        };
        match status::explain(&status) {
            Some(explained) => self.refuse(explained),
            None => {
                self.code = status.code();
                response
            }
        }
    }
}

impl OnEnd for Seen {
    fn ended(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if let Some(answer) = &self.answer {
            self.on.connection().forget(answer);
        }
        let (method, code) = (self.method, status::code_name(self.code));
        gauge!("shopstream_rpc_in_flight", "method" => method).decrement(1.0);
        counter!("shopstream_rpc_total", "method" => method, "code" => code).increment(1);
        histogram!("shopstream_rpc_seconds", "method" => method, "code" => code).record(self.begun.elapsed());
    }
}
