//! The connections of a node: taken where there is room, ended where nothing comes of them.
//!
//! The library serves whoever connects, for ever. Here a connection must ask for something within [`SILENT`], is closed
//! in peace once nothing has moved on it for [`IDLE`], and is ended when its client leaves answers untaken. Where the
//! process has no descriptor left, the door waits and says so.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::Service;

use crate::answer::{Outgoing, Seen};
use crate::failure::Failure;
use crate::shares::{Membership, Share, Shares, refused};

/// How long a connection may ask for nothing at first. Then it is told to go, and at the next look it is gone: within 10 s.
const SILENT: Duration = Duration::from_secs(6);
/// How long nothing may move on one that has asked before.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// Between two looks at a connection.
const LOOK: Duration = Duration::from_secs(2);
/// How long nobody is let in where the process has no descriptor left.
const BREATH: Duration = Duration::from_millis(250);
/// Calls at once on one connection.
const STREAMS_MAX: u32 = 1024;
/// Bytes of metadata that are read at all. The library answers more with a bare HTTP 431; half of it is refused by us, as
/// clients of gRPC understand.
const HEADERS_MAX: u32 = 32 * 1024;
/// Streams that a client opened and reset before they were taken up (CVE-2023-44487).
const RESETS_MAX: usize = 64;
/// Bytes that a client may send on one connection before they are read. The library allows as many small messages to be unread
/// as fit into half of it at 256 bytes each, and ends the connection beyond: there must be room for one of every call
/// (`docs/decisions/0007`). A window that adapts begins too small for that.
pub const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Of which one call may have so many.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes of one answer that wait for the network. More would only be memory that a slow client fills.
const SEND_BUFFER: usize = 64 * 1024;
/// Between two pings of a connection on which nothing moves, and how long an answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Lets clients in until `stop`, then waits until all of them have left.
pub(crate) async fn serve<S>(listener: TcpListener, service: S, shares: Arc<Shares>, stop: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, address)) => match shares.connect(address.ip()) {
                Ok(member) => {
                    let service = service.clone();
                    connections.spawn(carry(stream, service, Connection::new(Some(member)), stop.clone()));
                }
                // Closed at once: a client that reads the end tries again later, or elsewhere.
                Err(why) => refused("connection", why),
            },
            Err(error) if is_short_of_means(&error) => {
                refused("connection", "descriptors");
                tokio::time::sleep(BREATH).await;
            }
            // That one client has left already.
            Err(_left) => {}
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The process or the machine has no descriptor or no memory for another connection.
fn is_short_of_means(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

async fn carry<S>(stream: TcpStream, service: S, connection: Arc<Connection>, stop: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    // Only latency suffers without it.
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .max_pending_accept_reset_streams(Some(RESETS_MAX))
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(Some(KEEPALIVE.0))
        .keep_alive_timeout(KEEPALIVE.1);
    let service = TowerToHyperService::new(OnConnection { inner: service, connection: connection.clone() });
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leaving = false;
    loop {
        tokio::select! {
            // How it ended is the client's affair.
            _ = served.as_mut() => return,
            () = stop.cancelled(), if !leaving => {
                leaving = true;
                served.as_mut().graceful_shutdown();
            }
            _ = look.tick() => match connection.judge() {
                Verdict::Stays => {}
                Verdict::Leaves(_) if leaving => return,
                // In peace: what it asks at this very moment is still answered.
                Verdict::Leaves(why) => {
                    refused("connection", why);
                    leaving = true;
                    served.as_mut().graceful_shutdown();
                }
                Verdict::Ends(why) => {
                    refused("connection", why);
                    return;
                }
            },
        }
    }
}

tokio::task_local! {
    /// The connection over which came what is being answered.
    pub(crate) static ON: Arc<Connection>;
}

/// What is known of one connection.
pub(crate) struct Connection {
    /// `None`: in tests that call without a network.
    member: Option<Arc<Membership>>,
    since: Instant,
    has_asked: AtomicBool,
    /// Calls and streams under way.
    busy: AtomicUsize,
    /// When the last of them ended, in milliseconds after `since`.
    rests_since: AtomicU64,
    /// Answers on their way.
    answers: Mutex<Vec<Arc<Outgoing>>>,
}

enum Verdict {
    Stays,
    /// Nothing has moved for too long.
    Leaves(&'static str),
    Ends(&'static str),
}

impl Connection {
    pub(crate) fn new(member: Option<Arc<Membership>>) -> Arc<Self> {
        Arc::new(Self {
            member,
            since: Instant::now(),
            has_asked: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            rests_since: AtomicU64::new(0),
            answers: Mutex::default(),
        })
    }

    /// Notes that a call or a stream has begun.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.has_asked.store(true, Relaxed);
        self.busy.fetch_add(1, Relaxed);
        Busy(self.clone())
    }

    /// A place among those of its address.
    pub(crate) fn share(&self, stream_weight: Option<usize>) -> Result<Option<Share>, Failure> {
        let share = |member: &Arc<Membership>| match stream_weight {
            Some(weight) => member.stream(weight),
            None => member.call(),
        };
        self.member.as_ref().map(share).transpose()
    }

    /// A turn at reading the log from an earlier place on; `None` where nobody else is there to wait.
    pub(crate) async fn scan(&self) -> Option<OwnedSemaphorePermit> {
        self.member.as_ref()?.scan().await
    }

    /// Looks after this answer until it is gone.
    pub(crate) fn look_after(&self, answer: Arc<Outgoing>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }

    pub(crate) fn forget(&self, answer: &Arc<Outgoing>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // The youngest ends first, most of the time.
        if let Some(place) = answers.iter().rposition(|other| Arc::ptr_eq(other, answer)) {
            answers.swap_remove(place);
        }
    }

    fn judge(&self) -> Verdict {
        if !self.has_asked.load(Relaxed) {
            return if self.since.elapsed() >= SILENT { Verdict::Leaves("silent") } else { Verdict::Stays };
        }
        if self.busy.load(Relaxed) == 0 {
            let rests_since = self.since + Duration::from_millis(self.rests_since.load(Relaxed));
            return if rests_since.elapsed() >= IDLE { Verdict::Leaves("idle") } else { Verdict::Stays };
        }
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for answer in answers {
            match answer.look() {
                Seen::Moving => {}
                Seen::Cut => refused("answer", "slow_reader"),
                Seen::Abandoned => return Verdict::Ends("slow_reader"),
            }
        }
        Verdict::Stays
    }
}

/// A call or a stream is under way, until this is dropped.
pub(crate) struct Busy(Arc<Connection>);

impl Busy {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.rests_since.store(now, Relaxed);
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

/// Tells every request which connection it came over.
#[derive(Clone)]
struct OnConnection<S> {
    inner: S,
    connection: Arc<Connection>,
}

impl<S, B> Service<Request<B>> for OnConnection<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.connection.clone());
        self.inner.call(request)
    }
}
