//! The way to the other nodes of the shop, over gRPC.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lru::LruCache;
use shopstream_command_handlers::{CommandEnvelope, CommandError, Location, Peers, Reply, Silent};
use shopstream_domain::{Partition, StreamKind, model};
use shopstream_eventlog::Position;
use shopstream_proto::node::v1::node_service_client::NodeServiceClient;
use shopstream_proto::node::v1::outcome::Outcome as Kind;
use shopstream_proto::node::v1::{CarryOutRequest, Done, GetConfirmedRequest, Outcome};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::connections::CONNECTION_WINDOW;

/// The largest message between two nodes: what one message of a client becomes.
pub(crate) const NODE_MESSAGE_MAX: usize = 64 * 1024 * 1024;
/// Nodes to which connections are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(64).expect("more than none");
/// How long another node may take for a caller who set no limit.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(1);
/// Between two pings of a connection, and how long an answer may take before it counts as broken.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3));

/// Connections to the other nodes, made when they are needed.
pub struct GrpcPeers(Mutex<LruCache<String, Client>>);

type Client = NodeServiceClient<Channel>;

impl Default for GrpcPeers {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl GrpcPeers {
    fn client(&self, owner: &Location) -> Result<Client, tonic::transport::Error> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = kept.get(&owner.address) {
            return Ok(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", owner.address))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            // One connection carries all that is passed on (`docs/decisions/0007`).
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        let client = NodeServiceClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(NODE_MESSAGE_MAX)
            .max_encoding_message_size(NODE_MESSAGE_MAX);
        kept.put(owner.address.clone(), client.clone());
        Ok(client)
    }

    async fn ask(
        &self,
        owner: &Location,
        commands: &[CommandEnvelope],
        deadline: Option<Instant>,
    ) -> Result<Vec<Result<Reply, CommandError>>, Trouble> {
        let commands_json = commands.iter().map(|command| serde_json::to_vec(command).map(Into::into));
        let request = CarryOutRequest { commands_json: commands_json.collect::<Result<_, _>>()? };
        let response = self.client(owner)?.carry_out(timed(request, deadline)).await?.into_inner();
        if response.outcomes.len() != commands.len() {
            return Err(Trouble::Nonsense);
        }
        commands.iter().zip(response.outcomes).map(|(command, outcome)| answer(command, outcome)).collect()
    }

    async fn ask_confirmed(
        &self,
        owner: &Location,
        partition: Partition,
        deadline: Option<Instant>,
    ) -> Result<Result<Option<Position>, CommandError>, Trouble> {
        let request = GetConfirmedRequest { partition: partition.into() };
        let response = self.client(owner)?.get_confirmed(timed(request, deadline)).await?.into_inner();
        if !response.error_json.is_empty() {
            return Ok(Err(serde_json::from_slice(&response.error_json)?));
        }
        Ok(Ok(response.offset.map(|offset| Position { partition, offset })))
    }
}

#[async_trait]
impl Peers for GrpcPeers {
    async fn carry_out(
        &self,
        owner: &Location,
        partition: Partition,
        commands: &[CommandEnvelope],
        deadline: Option<Instant>,
    ) -> Result<Vec<Result<Reply, CommandError>>, Silent> {
        match self.ask(owner, commands, deadline).await {
            Ok(answers) => Ok(answers),
            Err(trouble) => {
                let error = trouble.of(owner, partition)?;
                Ok(commands.iter().map(|_| Err(error.clone())).collect())
            }
        }
    }

    async fn confirmed(
        &self,
        owner: &Location,
        partition: Partition,
        deadline: Option<Instant>,
    ) -> Result<Result<Option<Position>, CommandError>, Silent> {
        let asked = self.ask_confirmed(owner, partition, deadline).await;
        asked.or_else(|trouble| Ok(Err(trouble.of(owner, partition)?)))
    }
}

/// Why another node gave no answer.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Connection(#[from] tonic::transport::Error),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(#[from] tonic::Status),
    #[error("what it sent is not understood: {0}")]
    Json(#[from] serde_json::Error),
    #[error("what it sent is no answer to what was asked")]
    Nonsense,
}

impl Trouble {
    /// What it means for who asked: an error that asking again does not change, or silence.
    fn of(&self, owner: &Location, partition: Partition) -> Result<CommandError, Silent> {
        match self {
            Self::Connection(_) => {}
            // What it says itself. It refuses no command so, but may be of another version than this one.
            Self::Status(status) if is_answer(status) => {}
            Self::Status(_) => return Err(Silent { owner: owner.clone(), detail: self.to_string() }),
            Self::Json(_) | Self::Nonsense => {}
        }
        Ok(CommandError::Unavailable {
            partition,
            detail: format!("{owner} did not answer ({self}): ask again with the same request id"),
        })
    }
}

/// Whether the other node itself has decided so. What a connection that breaks, a node that stops and a time that runs
/// out look like is none.
fn is_answer(status: &tonic::Status) -> bool {
    let silent = [
        Code::Unavailable,
        Code::Unknown,
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Internal,
        Code::ResourceExhausted,
    ];
    !silent.contains(&status.code())
}

fn timed<T>(message: T, deadline: Option<Instant>) -> Request<T> {
    let mut request = Request::new(message);
    let left = deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(Instant::now()));
    request.set_timeout(left);
    request
}

fn answer(command: &CommandEnvelope, outcome: Outcome) -> Result<Result<Reply, CommandError>, Trouble> {
    match outcome.outcome.ok_or(Trouble::Nonsense)? {
        Kind::ErrorJson(error) => Ok(Err(serde_json::from_slice(&error)?)),
        Kind::Done(Done { version, partition, offset, event_type, repeated_before }) => {
            let partition = partition.try_into().map_err(|_| Trouble::Nonsense)?;
            let kind = command.stream.kind();
            let outcome =
                event_type.map(|name| known_type(kind, &name).ok_or(Trouble::Nonsense)).transpose()?;
            let position = Position { partition, offset };
            Ok(Ok(Reply { version, position, outcome, repeated: repeated_before }))
        }
    }
}

fn known_type(kind: StreamKind, name: &str) -> Option<&'static str> {
    model::Event::types(kind).iter().map(|(known, _)| *known).find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shopstream_command_handlers::{Origin, body_hash};
    use shopstream_domain::order;
    use shopstream_domain::payment::{self, Answer};
    use shopstream_domain::returns;
    use shopstream_domain::{PaymentId, ReservationId, Timestamp};
    use shopstream_eventlog::CommandId;

    use super::*;

    fn envelope(stream: &str, command: impl Into<model::Command>) -> CommandEnvelope {
        let text = |text: &str| Arc::<str>::from(text);
        CommandEnvelope {
            stream: stream.parse().expect("a stream"),
            command_id: CommandId::derive(&["test"]),
            body_hash: body_hash(b"meant") | 1 << 63,
            expected_version: Some(u64::MAX),
            effective_at: Some(Timestamp::from_micros(-1)),
            origin: Origin {
                actor: text("anna \"x\""),
                correlation_id: text("ord_1"),
                causation_id: text(""),
                traceparent: text("00-a-b-01"),
            },
            command: command.into(),
            request: None,
        }
    }

    #[test]
    fn a_command_arrives_as_it_was_sent() {
        let payment_id = PaymentId::new("pay_1.1").expect("valid");
        let answer = Answer::Authorized { amount_minor: i64::MAX, capture_before: None };
        let reservation_id = ReservationId::new("res_1").expect("valid");
        for sent in [
            envelope(
                "default/order/ord_1",
                order::Command::Place { payment_method_token: None, offers: vec![] },
            ),
            envelope(
                "default/order/ord_1",
                order::Command::Confirm { reservation_id, payments: vec![payment_id] },
            ),
            envelope(
                "default/payment/pay_1.1",
                payment::Command::RecordAnswer { key: "k".to_owned(), answer },
            ),
            envelope("default/return/ret_1", returns::Command::RecordRestocked),
        ] {
            let bytes = serde_json::to_vec(&sent).expect("JSON");
            assert_eq!(serde_json::from_slice::<CommandEnvelope>(&bytes).expect("the same"), sent);
        }
    }

    #[test]
    fn a_node_that_is_gone_or_going_has_not_answered() {
        let owner = Location { epoch: 3, node: "b".to_owned(), address: "h:1".to_owned() };
        let of = |code| Trouble::Status(tonic::Status::new(code, "")).of(&owner, 4);
        for code in
            [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::DeadlineExceeded, Code::Internal]
        {
            assert!(of(code).is_err_and(|silent| silent.owner == owner), "{code:?}");
        }
        // What asking again would not change is said to who asked.
        let refused = of(Code::InvalidArgument).expect("an answer");
        assert!(matches!(refused, CommandError::Unavailable { partition: 4, .. }), "{refused:?}");
        assert!(Trouble::Nonsense.of(&owner, 4).is_ok());
    }

    #[test]
    fn an_answer_arrives_as_it_was_given() {
        let command = envelope(
            "default/order/ord_1",
            order::Command::Place { payment_method_token: None, offers: vec![] },
        );
        let done = |event_type: &str| Outcome {
            outcome: Some(Kind::Done(Done {
                version: 3,
                partition: 9,
                offset: 77,
                event_type: Some(event_type.to_owned()),
                repeated_before: true,
            })),
        };
        let reply = answer(&command, done("OrderSubmitted")).expect("understood").expect("done");
        let position = Position { partition: 9, offset: 77 };
        assert_eq!(reply, Reply { version: 3, position, outcome: Some("OrderSubmitted"), repeated: true });
        assert!(matches!(answer(&command, done("StockReceived")), Err(Trouble::Nonsense)), "not an order's");

        let owner = Location { epoch: u64::MAX, node: "b".to_owned(), address: "h:1".to_owned() };
        let error = CommandError::NotOwner { partition: 4, owner: Some(owner) };
        let json = serde_json::to_vec(&error).expect("JSON").into();
        let refused = Outcome { outcome: Some(Kind::ErrorJson(json)) };
        assert_eq!(answer(&command, refused).expect("understood"), Err(error));
    }
}
