//! Every command of inventory in every state; the laws of stock are in `properties`.

mod properties;
mod reservation;
mod stock_item;

use super::*;
use crate::{Duration, LocationId, Quantity, ReservationId, ReturnId, Sku, Timestamp};

fn units(number: i64) -> Quantity {
    Quantity::new(number).unwrap()
}

fn sku(text: &str) -> Sku {
    Sku::new(text).unwrap()
}

fn res(text: &str) -> ReservationId {
    ReservationId::new(text).unwrap()
}

fn ret(text: &str) -> ReturnId {
    ReturnId::new(text).unwrap()
}

fn second(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn day(days: u16) -> Timestamp {
    Timestamp::default() + Duration::from_days(days)
}

fn key(of: &str, quantity: i64) -> StockKey {
    StockKey { sku: sku(of), location: LocationId::main(), quantity: units(quantity) }
}
