//! What a client meant, in a form that recognises the same client asking again.

use std::sync::Arc;

use shopstream_command_handlers::{CommandEnvelope, Key, Request, body_hash};
use shopstream_domain::{StreamId, StreamKind, Timestamp, Version, model};
use shopstream_eventlog::CommandId;
use shopstream_proto::{Command, Scope};

use crate::call::Call;
use crate::failure::Failure;

/// A command request, before anything is added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The caller's idempotency key.
    pub request_id: Arc<str>,
    /// Hash of the method and of the request without that key and without anything added on the way.
    pub body_hash: u64,
    /// Hash of the request alone.
    old_body_hash: u64,
    /// How far the key counts.
    scope: Scope,
    /// The version that the caller believes the target to have.
    pub expected_version: Option<Version>,
}

impl Asked {
    /// Checks the request by the rules of its proto, and takes its key out.
    ///
    /// # Errors
    /// Every rule that is broken.
    pub fn of<C: Command>(request: &mut C) -> Result<Self, Failure> {
        request.validate()?;
        // Validation has seen that it is not negative.
        let expected_version = request.expected_version().map(i64::unsigned_abs);
        let request_id = request.take_request_id().into();
        let body = request.encode_to_vec();
        let mut meant = Vec::with_capacity(C::NAME.len() + 1 + body.len());
        meant.extend_from_slice(C::NAME.as_bytes());
        meant.push(0);
        meant.extend_from_slice(&body);
        Ok(Self {
            request_id,
            body_hash: body_hash(&meant),
            old_body_hash: body_hash(&body),
            scope: C::SCOPE,
            expected_version,
        })
    }

    /// The id of a thing that the client left to us to name, `prefix` included: the same whenever the same request
    /// comes again.
    pub fn derived_id(&self, call: &Call, method: &str, prefix: &str) -> String {
        let name = CommandId::derive(&["id", call.tenant.as_str(), method, &self.request_id]);
        format!("{prefix}{}", name.0.simple())
    }

    /// The command for the stream that the request is about.
    pub fn envelope(
        &self,
        call: &Call,
        stream: StreamId,
        command: impl Into<model::Command>,
    ) -> CommandEnvelope {
        let further = self.further(call, stream, 0, command);
        let key = match self.scope {
            Scope::Tenant => Some(self.key(call)),
            Scope::Target => None,
        };
        let request = further.request.map(|request| Request { key, ..request });
        CommandEnvelope { expected_version: self.expected_version, request, ..further }
    }

    /// Asks what became of this request's first command on `stream`: for `Shop::recall`.
    pub fn recall(&self, call: &Call, stream: StreamId) -> CommandEnvelope {
        let command = model::Command::Recall(stream.kind());
        self.envelope(call, stream, command).recalling()
    }

    /// A further command of the same request: on another stream, whose version the caller did not name, or the
    /// `step`-th on the same one.
    pub fn further(
        &self,
        call: &Call,
        stream: StreamId,
        step: usize,
        command: impl Into<model::Command>,
    ) -> CommandEnvelope {
        CommandEnvelope {
            command_id: command_id(&stream, &self.request_id, step),
            body_hash: self.body_hash,
            expected_version: None,
            effective_at: None,
            origin: call.origin(&stream.correlation()),
            command: command.into(),
            request: Some(Request { old_body_hash: self.old_body_hash, key: None }),
            stream,
        }
    }

    /// The key's stream has the root of the order that the key names where the client does not, so that such an order
    /// needs no record for its key: its own shard sees whether the key was used.
    fn key(&self, call: &Call) -> Key {
        let stream =
            StreamId::new(&call.tenant, StreamKind::Request, &self.derived_id(call, UNNAMED_ORDER, "req_"));
        Key { id: self.request_id.clone(), stream: stream.expect("hexadecimal digits are a stream's id") }
    }
}

/// What the names of orders that clients leave to us are derived with.
pub(crate) const UNNAMED_ORDER: &str = "CreateOrder";

/// The id of a request's command on `stream`. Where a request takes several commands on one stream, `step` tells them
/// apart.
pub(crate) fn command_id(stream: &StreamId, request_id: &str, step: usize) -> CommandId {
    CommandId::derive(&["request", stream.as_str(), request_id, &step.to_string()])
}

/// How many microseconds a client's clock may be ahead of ours: what it calls now is now.
const CLOCKS_DIFFER: i64 = 500_000;

/// The business time that a request names, which may not lie ahead.
///
/// # Errors
/// Not a time, or after `now` by more than clocks differ.
pub fn effective_time(
    given: Option<&prost_types::Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Failure> {
    let Some(given) = given else { return Ok(None) };
    let time = crate::wire::timestamp_of(given)
        .ok_or_else(|| Failure::invalid("effective_time", "not a time between the years 1 and 9999"))?;
    if time.micros().saturating_sub(now.micros()) > CLOCKS_DIFFER {
        return Err(Failure::invalid("effective_time", "lies in the future"));
    }
    Ok(Some(time.min(now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;

    #[test]
    fn a_clock_that_is_a_little_ahead_says_now_and_one_that_is_far_ahead_is_refused() {
        let now = crate::wire::time(NOW);
        let ahead = |seconds, nanos| prost_types::Timestamp { seconds: now.seconds + seconds, nanos };
        assert_eq!(effective_time(Some(&ahead(0, 20_000_000)), NOW), Ok(Some(NOW)));
        assert_eq!(effective_time(Some(&ahead(0, 500_000_000)), NOW), Ok(Some(NOW)));
        assert!(effective_time(Some(&ahead(0, 500_001_000)), NOW).is_err());
        let before = Timestamp::from_micros(NOW.micros() - 1_000_000);
        assert_eq!(effective_time(Some(&ahead(-1, 0)), NOW), Ok(Some(before)));
    }
}
