//! Values that every service speaks: money, times, versions.

use shopstream_domain::{Currency, Timestamp, Version};
use shopstream_proto::r#type::v1::Money;

use crate::failure::Failure;

/// The seconds of the years 1 to 9999, which is what a protobuf timestamp may say.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A protobuf time, cut to microseconds; `None` where it is none.
pub(crate) fn timestamp_of(time: &prost_types::Timestamp) -> Option<Timestamp> {
    let valid = SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    valid.then(|| Timestamp::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000))
}

/// A time in protobuf.
pub(crate) fn time(at: Timestamp) -> prost_types::Timestamp {
    let (seconds, micros) = (at.micros().div_euclid(1_000_000), at.micros().rem_euclid(1_000_000));
    // Below 10⁹, so it fits.
    prost_types::Timestamp { seconds, nanos: micros as i32 * 1_000 }
}

/// An amount in protobuf.
pub(crate) fn money(amount_minor: i64, currency: Currency) -> Money {
    Money { currency_code: currency.code().to_owned(), amount_minor }
}

/// A version or offset in protobuf. Beyond 2⁶³ no stream grows.
pub(crate) fn int(version: Version) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// The amount of `money`, whose currency must be `currency`.
///
/// # Errors
/// Another currency; `field` is where the money stands.
pub(crate) fn amount_in(money: &Money, currency: Currency, field: &str) -> Result<i64, Failure> {
    if money.currency_code == currency.code() {
        return Ok(money.amount_minor);
    }
    let description = format!("must be {currency}, not {}", money.currency_code);
    Err(Failure::invalid(format!("{field}.currency_code"), description))
}

/// The currency and amount of `money`.
///
/// # Errors
/// Not a currency; `field` is where the money stands.
pub(crate) fn money_of(money: &Money, field: &str) -> Result<(Currency, i64), Failure> {
    let currency = Currency::new(&money.currency_code)
        .map_err(|error| Failure::invalid(format!("{field}.currency_code"), error.to_string()))?;
    Ok((currency, money.amount_minor))
}

/// Parses an id of a request that validation has let through; what it let through and we do not take is named.
pub(crate) fn id<T, E: std::fmt::Display>(parsed: Result<T, E>, field: &str) -> Result<T, Failure> {
    parsed.map_err(|error| Failure::invalid(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_round_trip() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000] {
            let at = Timestamp::from_micros(micros);
            assert_eq!(timestamp_of(&time(at)), Some(at), "{micros}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(timestamp_of(&prost_types::Timestamp { seconds, nanos }), None, "{seconds}.{nanos}");
        }
    }
}
