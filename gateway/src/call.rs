//! Who asks, for which shop, and how long they will wait: what a call says outside its message.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shopstream_command_handlers::Origin;
use shopstream_domain::TenantId;
use shopstream_domain::text::TextRule;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;

use crate::failure::Failure;

/// How long a unary call that names no deadline may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take whatever deadline its caller names: who waits must not wait here for ever.
const CEILING: Duration = Duration::from_secs(60);
/// The longest deadline that is honoured for a call that may last: beyond it arithmetic on instants could overflow.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// An answer leaves this long before the caller's deadline, or a tenth of its time where that is shorter, so that it
/// arrives while somebody listens (`rulings.md` 11).
const MARGIN_MAX: Duration = Duration::from_millis(100);
/// Who asks. It is written with every commit.
const ACTOR: TextRule = TextRule::line(128);

/// What a call's metadata say.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose shop.
    pub tenant: TenantId,
    /// Who asks; `anonymous` where the call does not say.
    pub actor: Arc<str>,
    /// W3C trace context, or empty.
    pub traceparent: Arc<str>,
    /// When an answer must leave.
    answer_by: Instant,
    /// The same as the caller has it; `None` where it set no limit.
    wanted_by: Option<Instant>,
}

impl Call {
    /// Reads the metadata of a call that has just arrived.
    ///
    /// # Errors
    /// `shopstream-tenant` is not a tenant id, or `shopstream-actor` is not 1 to 128 printable characters or is a name
    /// of the shop's own processes.
    pub fn of(metadata: &MetadataMap) -> Result<Self, Failure> {
        let text = |key: &'static str| {
            let mut values = metadata.get_all(key).iter();
            match (values.next().map(|value| value.to_str()), values.next()) {
                // Behind a proxy that appends its own, the client's would count.
                (_, Some(_)) => Err(Failure::invalid(key, "given more than once")),
                (Some(Ok(text)), None) => Ok(Some(text)),
                (Some(Err(_)), None) => Err(Failure::invalid(key, "not printable ASCII")),
                (None, None) => Ok(None),
            }
        };
        let tenant = match text("shopstream-tenant")? {
            Some(name) => {
                TenantId::new(name).map_err(|e| Failure::invalid("shopstream-tenant", e.to_string()))?
            }
            None => TenantId::default_tenant(),
        };
        let actor = match text("shopstream-actor")? {
            // A process ignores the commits of processes, so a client in their name would not be heard.
            Some(name) if Origin::is_reserved(name) => {
                return Err(Failure::invalid(
                    "shopstream-actor",
                    "this name is for the shop's own processes",
                ));
            }
            Some(name) => match ACTOR.check_present("shopstream-actor", name) {
                Ok(()) => name,
                Err(error) => return Err(Failure::invalid("shopstream-actor", error.to_string())),
            },
            None => "anonymous",
        };
        // A trace context that is not one is nobody's error: it is left out. Two of them are.
        let traceparent = match metadata.get_all("traceparent").iter().count() {
            0 | 1 => text("traceparent").ok().flatten().filter(|text| is_traceparent(text)).unwrap_or(""),
            _ => text("traceparent")?.unwrap_or(""),
        };
        let timeout = text("grpc-timeout").ok().flatten().and_then(parse_timeout);
        Ok(Self {
            tenant,
            actor: actor.into(),
            traceparent: traceparent.into(),
            answer_by: answer_by(timeout.unwrap_or(PATIENCE).min(CEILING)),
            wanted_by: timeout.map(answer_by),
        })
    }

    /// Where the commands of this call come from, `about` being what the conversation shares, such as an order id.
    pub fn origin(&self, about: &str) -> Origin {
        Origin {
            actor: self.actor.clone(),
            correlation_id: about.into(),
            causation_id: "".into(),
            traceparent: self.traceparent.clone(),
        }
    }

    /// The answer of `work`, or [`Failure::OutcomeUnknown`] shortly before nobody listens any more. What was
    /// submitted is not taken back by that.
    ///
    /// # Errors
    /// See above, and those of `work`.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        timeout_at(self.answer_by(), work).await.unwrap_or(Err(Failure::OutcomeUnknown))
    }

    /// As [`Call::within`], where nothing is changed and so nothing can be in doubt.
    ///
    /// # Errors
    /// [`Failure::TooLate`], and those of `work`.
    pub async fn read_within<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        timeout_at(self.answer_by(), work).await.unwrap_or(Err(Failure::TooLate))
    }

    /// This call without patience of our own: it may last as long as its caller wants.
    pub fn unhurried(mut self) -> Self {
        self.answer_by = self.wanted_by.unwrap_or_else(|| answer_by(PATIENCE_MAX));
        self
    }

    /// This call for work that goes on where its caller leaves: it may last as long as a call may that names no deadline.
    pub fn outliving(&self) -> Self {
        Self { answer_by: self.answer_by.max(answer_by(PATIENCE)), ..self.clone() }
    }

    /// When the call must be answered, reckoned from when it came.
    pub fn answer_by(&self) -> Instant {
        self.answer_by
    }
}

fn answer_by(patience: Duration) -> Instant {
    Instant::now() + (patience - MARGIN_MAX.min(patience / 10))
}

/// `{1 to 8 digits}{H|M|S|m|u|n}` (gRPC over HTTP/2); anything else is no deadline, as tonic has it too.
pub(crate) fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(timeout.min(PATIENCE_MAX))
}

/// Version 00 of W3C trace context: `00-{32 hex}-{16 hex}-{2 hex}`.
fn is_traceparent(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == lengths.len()
        && parts.iter().zip(lengths).all(|(part, length)| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &'static str)]) -> MetadataMap {
        let mut map = MetadataMap::new();
        for (key, value) in pairs {
            map.insert(*key, value.parse().expect("ASCII"));
        }
        map
    }

    #[test]
    fn a_bare_call_is_the_default_tenants() {
        let call = Call::of(&metadata(&[])).expect("no metadata is fine");
        assert_eq!((call.tenant.as_str(), &*call.actor, &*call.traceparent), ("default", "anonymous", ""));
    }

    #[test]
    fn wrong_metadata_is_named() {
        for (key, value) in [
            ("shopstream-tenant", "a/b"),
            ("shopstream-tenant", ""),
            ("shopstream-actor", ""),
            ("shopstream-actor", "process:checkout"),
            ("shopstream-actor", "effect:"),
        ] {
            let failure = Call::of(&metadata(&[(key, value)])).expect_err(value);
            assert!(matches!(&failure, Failure::Invalid(v) if v[0].field == key), "{failure:?}");
        }
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        for key in ["shopstream-tenant", "shopstream-actor", "traceparent"] {
            let mut twice = metadata(&[(key, "a")]);
            twice.append(key, "b".parse().expect("ASCII"));
            let failure = Call::of(&twice).expect_err(key);
            assert!(matches!(&failure, Failure::Invalid(v) if v[0].field == key), "{failure:?}");
        }
    }

    #[test]
    fn an_actor_may_be_called_anything_but_a_process() {
        for name in ["anna", "processor", "the process: anna"] {
            assert_eq!(&*Call::of(&metadata(&[("shopstream-actor", name)])).expect(name).actor, name);
        }
    }

    #[test]
    fn a_trace_context_is_kept_only_where_it_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(&*Call::of(&metadata(&[("traceparent", good)])).expect("fine").traceparent, good);
        assert_eq!(&*Call::of(&metadata(&[("traceparent", "00-1-2-3")])).expect("fine").traceparent, "");
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse_timeout("99999999H"), Some(PATIENCE_MAX));
        for wrong in ["", "S", "1", "123456789S", "1x", "-1S", "1€"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_leaves_before_the_deadline() {
        let call = Call::of(&metadata(&[("grpc-timeout", "2S")])).expect("fine");
        let started = Instant::now();
        let answer = call.within(std::future::pending::<Result<(), Failure>>()).await;
        assert_eq!(answer, Err(Failure::OutcomeUnknown));
        assert_eq!(started.elapsed(), Duration::from_millis(1900));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_a_minute_unless_the_call_may_last() {
        let call = Call::of(&metadata(&[("grpc-timeout", "24H")])).expect("fine");
        let left = |call: &Call| call.answer_by().duration_since(Instant::now());
        assert!(left(&call) <= CEILING, "{:?}", left(&call));
        let hours = left(&call.unhurried());
        assert!(hours > Duration::from_secs(23 * 3600), "{hours:?}");
    }
}
