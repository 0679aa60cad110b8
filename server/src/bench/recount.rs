//! The recount after a crash: the log is read from its beginning, and every command that was ever acknowledged must
//! be there exactly once.
//!
//! An order is known by the number in its id: it must have begun once. All receipts are for one SKU and cannot be told
//! apart, so they are counted: as many on the log as were acknowledged.

use anyhow::ensure;
use serde::Serialize;
use shopstream_proto::event::v1::{Event, ReadRequest};
use tonic::Request;

use super::acknowledged::Acknowledged;
use super::calls::{HOT_SKU, Numbers};
use crate::client::{Client, describe};

/// What the node has promised since it was first started.
#[derive(Default)]
pub(super) struct Promises {
    pub(super) orders: Acknowledged,
    /// Of the hot SKU. No load of them was ever broken off, so each was answered.
    pub(super) receipts: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Recount {
    pub(super) acknowledged: u64,
    /// Of the acknowledged ones, those on the log.
    pub(super) found: u64,
    /// On the log without an answer that arrived: in flight at the crash.
    pub(super) unanswered: u64,
    /// Acknowledged and not there.
    pub(super) lost: u64,
    /// There more than once, acknowledged or not.
    pub(super) doubled: u64,
}

/// What is on the log.
#[derive(Default)]
struct Found {
    /// How often each order began, by its number.
    orders: Vec<u8>,
    receipts: u64,
}

impl Found {
    fn count(&mut self, event: &Event, numbers: &Numbers) {
        let Some((_tenant, stream)) = event.stream_id.split_once('/') else { return };
        if let Some(order_id) = stream.strip_prefix("order/") {
            if let Some(times) =
                numbers.of_order(order_id).and_then(|number| self.orders.get_mut(number as usize))
            {
                *times = times.saturating_add(1);
            }
        } else if stream.strip_prefix("stock/").is_some_and(|stock| stock.starts_with(HOT_SKU)) {
            self.receipts += 1;
        }
    }
}

impl Recount {
    fn of(found: &Found, promises: &Promises) -> Self {
        let orders = &promises.orders.numbers;
        let mut recount = Self {
            acknowledged: orders.len() as u64 + promises.receipts,
            found: found.receipts.min(promises.receipts),
            lost: promises.receipts.saturating_sub(found.receipts),
            doubled: found.receipts.saturating_sub(promises.receipts),
            unanswered: 0,
        };
        let mut promised = vec![false; found.orders.len()];
        for number in orders {
            match promised.get_mut(*number as usize) {
                Some(promised) => *promised = true,
                None => recount.lost += 1,
            }
        }
        for (times, promised) in found.orders.iter().zip(promised) {
            match (times, promised) {
                (0, true) => recount.lost += 1,
                (0, false) => {}
                (_, true) => recount.found += 1,
                (_, false) => recount.unanswered += 1,
            }
            recount.doubled += u64::from(*times > 1);
        }
        recount
    }

    /// # Errors
    /// A promise was broken.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.lost == 0 && self.doubled == 0,
            "{} acknowledged commands are lost, {} are on the log more than once",
            self.lost,
            self.doubled
        );
        Ok(())
    }
}

/// Reads the whole log and counts.
///
/// # Errors
/// The log cannot be read.
pub(super) async fn recount(
    client: &Client,
    numbers: &Numbers,
    promises: &Promises,
) -> anyhow::Result<Recount> {
    let refused = |status: tonic::Status| anyhow::anyhow!(describe(&status));
    // The first events of their kind: the benchmark submits no draft.
    let event_types = ["OrderDrafted", "OrderSubmitted", "StockReceived"].map(str::to_owned).into();
    let request = ReadRequest { event_types, ..ReadRequest::default() };
    let mut events = client.shop().events.read(Request::new(request)).await.map_err(refused)?.into_inner();
    let mut found = Found { orders: vec![0; usize::try_from(numbers.given())?], receipts: 0 };
    while let Some(read) = events.message().await.map_err(refused)? {
        read.events.iter().for_each(|event| found.count(event, numbers));
    }
    Ok(Recount::of(&found, promises))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_doubled_is_found() {
        let promises =
            |orders: &[u64], receipts| Promises { orders: Acknowledged::of(orders.into(), []), receipts };
        let found = Found { orders: vec![1, 0, 2, 1, 0], receipts: 3 };
        let recount = Recount::of(&found, &promises(&[0, 1, 2, 9], 5));
        assert_eq!(recount, Recount { acknowledged: 9, found: 5, unanswered: 1, lost: 4, doubled: 1 });
        assert!(recount.check().is_err());
        let found = Found { orders: vec![1, 0, 0, 1, 1], receipts: 3 };
        assert!(Recount::of(&found, &promises(&[0, 3], 3)).check().is_ok());
        assert!(Recount::of(&found, &promises(&[0, 3], 2)).check().is_err());
    }

    #[test]
    fn events_are_counted_by_what_they_are_about() {
        let numbers = Numbers::of_new_run();
        let mut found = Found { orders: vec![0; 3], receipts: 0 };
        let order = format!("default/order/{}", numbers.order_id(2));
        for stream in
            [&order, "default/order/ord_another", "default/stock/BENCH-HOT-1@main", "default/stock/X@main"]
        {
            found.count(&Event { stream_id: stream.to_string(), ..Event::default() }, &numbers);
        }
        assert_eq!((found.orders, found.receipts), (vec![0, 0, 1], 1));
    }
}
