//! A client that writes down everything it sees.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prost::Message;
use shopstream_eventlog::{CommandId, Position};
use shopstream_proto::Command;
use shopstream_proto::r#type::v1::Position as WirePosition;
use shopstream_server::client::{Client, Shop};
use shopstream_tests::checkers::history::{Answer, CommandCall, History, Outcome, QueryCall, Span};
use tonic::{Request, Response, Status};
use xxhash_rust::xxh3::xxh3_64;

/// Whom the log names.
pub const ACTOR: &str = "checker";

/// The clients of a run, and what they saw so far.
pub struct Recorder {
    began: Instant,
    history: Mutex<History>,
}

/// What a request is about.
#[derive(Clone, Debug)]
pub struct About {
    /// The stream, in full.
    pub stream: String,
    /// Other streams on which it carries out a command each.
    pub further: Vec<String>,
}

impl About {
    /// A request with one command.
    pub fn one(stream: String) -> Self {
        Self { stream, further: Vec::new() }
    }
}

impl Recorder {
    pub fn new() -> Self {
        let history = History { actor: ACTOR.into(), ..History::default() };
        Self { began: Instant::now(), history: Mutex::new(history) }
    }

    /// All that was seen.
    pub fn take(&self) -> History {
        std::mem::take(&mut *self.history())
    }

    /// What was seen so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one attempt at a command.
    pub async fn command<Q: Command + Clone, A: Message>(
        &self,
        client: &Client,
        about: &About,
        request: Q,
        call: impl AsyncFn(Shop, Request<Q>) -> Result<Response<A>, Status>,
        answer: impl Fn(&A) -> (i64, Option<WirePosition>),
    ) -> Outcome<Answer> {
        let mut meant = request.clone();
        let request_id = meant.take_request_id();
        // Said here once more, so that both sides have to mean the same by it.
        let id = |stream: &String| CommandId::derive(&["request", stream, &request_id, "0"]);
        let body = meant.encode_to_vec();
        let claim = CommandId::derive(&["claim", &about.stream, &request_id]);
        let called = self.now();
        let outcome = Outcome::of(call(client.shop(), with_actor(request)).await.map(|said| {
            let said = said.into_inner();
            let (version, position) = answer(&said);
            let position = position_of(&position.unwrap_or_default());
            Answer { version: version.unsigned_abs(), position, body: said.encode_to_vec() }
        }));
        let span = Span { called, returned: self.now() };
        self.history().commands.push(CommandCall {
            span,
            command_id: id(&about.stream),
            further: about.further.iter().map(id).chain([claim]).collect(),
            stream: about.stream.clone(),
            expected_version: meant.expected_version().map(i64::unsigned_abs),
            meant: xxh3_64(&[Q::NAME.as_bytes(), &[0], &body].concat()),
            outcome: outcome.clone(),
            request_id,
        });
        outcome
    }

    /// Asks about a stream; `version` finds in the answer what it shows, which is answered, where there was one.
    pub async fn query<A>(
        &self,
        stream: String,
        min_position: Vec<Position>,
        ask: impl Future<Output = Result<Response<A>, Status>>,
        version: impl Fn(&A) -> i64,
    ) -> Option<u64> {
        let called = self.now();
        let answer = match ask.await {
            Ok(answer) => Ok(version(answer.get_ref()).unsigned_abs()),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(0),
            Err(status) => Err(status),
        };
        let span = Span { called, returned: self.now() };
        let outcome = Outcome::of(answer);
        let shown = outcome.answer().copied();
        self.history().queries.push(QueryCall { span, stream, min_position, outcome });
        shown
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// A request that says who asks.
pub fn with_actor<Q>(request: Q) -> Request<Q> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("shopstream-actor", ACTOR.parse().expect("ASCII"));
    request.set_timeout(std::time::Duration::from_secs(20));
    request
}

/// A position as the log has it.
pub fn position_of(position: &WirePosition) -> Position {
    Position {
        partition: position.partition.try_into().expect("a partition"),
        offset: position.offset.unsigned_abs(),
    }
}
