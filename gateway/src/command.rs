//! What a client meant, in a form that recognises the same client asking again.

use shopstream_command_handlers::{CommandEnvelope, body_hash};
use shopstream_domain::{StreamId, Timestamp, Version, model};
use shopstream_eventlog::CommandId;
use shopstream_proto::Command;

use crate::call::Call;
use crate::failure::Failure;

/// A command request, before anything is added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The caller's idempotency key.
    pub request_id: String,
    /// Hash of the request without that key and without anything added on the way (`rulings.md` 7).
    pub body_hash: u64,
    /// The version that the caller believes the target to have.
    pub expected_version: Option<Version>,
}

impl Asked {
    /// Checks the request by the rules of its proto, and takes its key out.
    ///
    /// # Errors
    /// Every rule that is broken.
    pub fn of(request: &mut impl Command) -> Result<Self, Failure> {
        request.validate()?;
        // Validation has seen that it is not negative.
        let expected_version = request.expected_version().map(i64::unsigned_abs);
        let request_id = request.take_request_id();
        Ok(Self { request_id, body_hash: body_hash(&request.encode_to_vec()), expected_version })
    }

    /// The id of this request's command on `stream`: a request id counts per tenant and target (`rulings.md` 8), and
    /// the stream's name has both. Where a request takes several commands on one stream, `step` tells them apart.
    pub fn command_id(&self, stream: &StreamId, step: usize) -> CommandId {
        CommandId::derive(&["request", stream.as_str(), &self.request_id, &step.to_string()])
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
        CommandEnvelope { expected_version: self.expected_version, ..self.further(call, stream, 0, command) }
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
            command_id: self.command_id(&stream, step),
            body_hash: self.body_hash,
            expected_version: None,
            effective_at: None,
            origin: call.origin(&stream.correlation()),
            command: command.into(),
            stream,
        }
    }
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
