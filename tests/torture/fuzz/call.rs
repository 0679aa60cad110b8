//! Calls by hand: the bytes of a message, framed, over HTTP/2, and all that came back.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method as Verb, Request};
use http_body::{Body as _, Frame};
use prost::Message;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::wire::Method;

/// A client does not wait longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a stream may be silent before that is its answer.
const SILENCE: Duration = Duration::from_millis(100);

/// Metadata beside the usual.
pub(crate) type Extra = Vec<(&'static str, Vec<u8>)>;

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) outcome: Outcome,
    /// Until the answer, or the first message of a stream, or its first word that it is open.
    pub(crate) took: Duration,
    /// Bytes of the trailers that end it.
    pub(crate) trailers: usize,
    /// The first message.
    pub(crate) message: Option<Bytes>,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Refused(Status),
    /// The client's own time was over.
    Late,
    /// The connection or the stream ended without a status.
    Broken(String),
}

/// Connections for calls by hand.
#[derive(Clone)]
pub(crate) struct Wire {
    channels: Vec<Channel>,
}

impl Wire {
    /// Connects to the node at `url`.
    pub(crate) async fn connect(url: &str, connections: usize) -> Result<Self> {
        let mut channels = Vec::with_capacity(connections);
        for _ in 0..connections {
            channels.push(Endpoint::from_shared(url.to_owned())?.connect().await?);
        }
        Ok(Self { channels })
    }

    /// As a client that takes whatever a connection may bring and reads none of it.
    pub(crate) async fn unread(url: &str, connections: usize) -> Result<Self> {
        let mut channels = Vec::with_capacity(connections);
        for _ in 0..connections {
            let endpoint =
                Endpoint::from_shared(url.to_owned())?.initial_connection_window_size((1 << 31) - 1);
            channels.push(endpoint.connect().await?);
        }
        Ok(Self { channels })
    }

    /// Begins a call and answers what its answer will be read from.
    pub(crate) async fn open(
        &self,
        turn: usize,
        method: &Method,
        frames: Bytes,
        extra: &Extra,
    ) -> Result<Body, Outcome> {
        let request =
            request(method, frames, false, extra).map_err(|error| Outcome::Broken(error.to_string()))?;
        let mut channel = self.channels[turn % self.channels.len()].clone();
        let ready = poll_fn(|context| channel.poll_ready(context)).await;
        ready.map_err(|error| Outcome::Broken(chain(&error)))?;
        let response = channel.call(request).await.map_err(|error| Outcome::Broken(chain(&error)))?;
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => Err(Outcome::Refused(status)),
            _ => Ok(response.into_body()),
        }
    }

    /// Sends these frames over the connection with this number.
    pub(crate) async fn call(
        &self,
        turn: usize,
        method: &Method,
        frames: Bytes,
        zipped: bool,
        extra: &Extra,
    ) -> Heard {
        let begun = Instant::now();
        let exchange = self.exchange(turn, method, frames, zipped, extra, begun);
        timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Heard {
            outcome: Outcome::Late,
            took: begun.elapsed(),
            trailers: 0,
            message: None,
        })
    }

    async fn exchange(
        &self,
        turn: usize,
        method: &Method,
        frames: Bytes,
        zipped: bool,
        extra: &Extra,
        begun: Instant,
    ) -> Heard {
        let broken = |why: String| Heard {
            outcome: Outcome::Broken(why),
            took: begun.elapsed(),
            trailers: 0,
            message: None,
        };
        let request = match request(method, frames, zipped, extra) {
            Ok(request) => request,
            // What no client can send is nobody's fault.
            Err(_) => {
                return Heard { outcome: Outcome::Done, took: Duration::ZERO, trailers: 0, message: None };
            }
        };
        let mut channel = self.channels[turn % self.channels.len()].clone();
        if let Err(error) = poll_fn(|context| channel.poll_ready(context)).await {
            return broken(format!("no connection: {}", chain(&error)));
        }
        let response = match channel.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let why = chain(&error);
                // By the client's own library, at the client's own deadline.
                let outcome =
                    if why.contains("Timeout expired") { Outcome::Late } else { Outcome::Broken(why) };
                return Heard { outcome, took: begun.elapsed(), trailers: 0, message: None };
            }
        };
        let (head, mut body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers) {
            return ended(status, begun.elapsed(), &head.headers, None);
        }
        if head.status != http::StatusCode::OK {
            return broken(format!("HTTP {} without a status of gRPC", head.status));
        }
        let (mut message, mut begun_to_come) = (None, Vec::new());
        loop {
            let took = begun.elapsed();
            let next = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let next = if method.server_streaming {
                match timeout(SILENCE, next).await {
                    Ok(next) => next,
                    Err(_) => return Heard { outcome: Outcome::Done, took, trailers: 0, message },
                }
            } else {
                next.await
            };
            match next {
                Some(Ok(frame)) if frame.is_trailers() => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let status = Status::from_header_map(&trailers);
                    let Some(status) = status else { return broken("trailers without a status".to_owned()) };
                    return ended(status, begun.elapsed(), &trailers, message);
                }
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if message.is_none() {
                        begun_to_come.extend_from_slice(&data);
                        message = first_message(&begun_to_come);
                    }
                    if method.server_streaming && message.is_some() {
                        return Heard { outcome: Outcome::Done, took: begun.elapsed(), trailers: 0, message };
                    }
                }
                Some(Err(status)) => return broken(format!("the answer was cut off: {}", status.message())),
                None => return broken("no trailers".to_owned()),
            }
        }
    }

    /// A call as a good client makes it, made again while the node says not now.
    pub(crate) async fn ask<A: Message + Default>(
        &self,
        method: &Method,
        message: &[u8],
        tenant: &str,
    ) -> Result<A> {
        let extra = vec![("shopstream-tenant", tenant.as_bytes().to_vec())];
        let mut last = None;
        for _ in 0..100 {
            let heard = self.call(0, method, frame(message, false), false, &extra).await;
            match heard.outcome {
                Outcome::Done => return A::decode(heard.message.unwrap_or_default()).context("an answer"),
                Outcome::Refused(status) if status.code() == Code::Unavailable => last = Some(status),
                Outcome::Refused(status) => anyhow::bail!("{}: {status:?}", method.path),
                Outcome::Late => last = None,
                Outcome::Broken(why) => anyhow::bail!("{}: {why}", method.path),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{}: still told to come again: {last:?}", method.path)
    }
}

fn ended(status: Status, took: Duration, trailers: &HeaderMap, message: Option<Bytes>) -> Heard {
    let size = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let outcome = if status.code() == Code::Ok { Outcome::Done } else { Outcome::Refused(status) };
    Heard { outcome, took, trailers: size, message }
}

fn request(method: &Method, frames: Bytes, zipped: bool, extra: &Extra) -> Result<Request<Body>> {
    let mut request =
        Request::builder().method(Verb::POST).uri(&method.path).body(Body::new(Once(Some(frames))))?;
    let headers = request.headers_mut();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if zipped {
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    for (name, value) in extra {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value)?);
    }
    if !headers.contains_key("grpc-timeout") {
        headers.insert("grpc-timeout", HeaderValue::from_static("5S"));
    }
    Ok(request)
}

/// A message as gRPC frames it.
pub(crate) fn frame(message: &[u8], zipped: bool) -> Bytes {
    let zipped_bytes = zipped.then(|| zip(message));
    let bytes = zipped_bytes.as_deref().unwrap_or(message);
    let mut framed = Vec::with_capacity(bytes.len() + 5);
    framed.push(u8::from(zipped));
    framed.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(bytes);
    framed.into()
}

/// The first message in these frames, once all of it is there.
fn first_message(frames: &[u8]) -> Option<Bytes> {
    let (head, rest) = frames.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    rest.get(..length as usize).map(Bytes::copy_from_slice)
}

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(bytes).and_then(|()| zipped.finish()).expect("memory takes it")
}

/// Everything that an error says, and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// A body of one piece.
struct Once(Option<Bytes>);

impl http_body::Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
