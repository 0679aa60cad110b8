//! The commands that are sent, each with a number of its own, so that it can be found again on the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{ReceiveStock, UpdateStockRequest};
use shopstream_proto::order::v1::{CreateOrderRequest, NewOrderLine};
use shopstream_proto::r#type::v1::Position;
use tonic::Status;

use crate::client::Shop;

/// What is ordered: three lines, as in a small order.
pub(super) const SKUS: [&str; 3] = ["BENCH-MUG-1", "BENCH-MUG-2", "BENCH-MUG-3"];
/// What everybody changes at once.
pub(super) const HOT_SKU: &str = "BENCH-HOT-1";
/// The currency of everything here.
pub(super) const CURRENCY: &str = "EUR";
/// The location of all stock.
pub(super) const LOCATION: &str = "main";
/// How many customers share the orders.
const CUSTOMERS: u64 = 10_000;

/// Numbers the commands that one server is sent, from 0. Cheap to clone.
#[derive(Clone)]
pub(super) struct Numbers {
    /// Sets this run's ids apart from all others.
    run: Arc<str>,
    next: Arc<AtomicU64>,
}

impl Numbers {
    pub(super) fn of_new_run() -> Self {
        // The end of a v7 UUID is the random part.
        let run = uuid::Uuid::now_v7().simple().to_string();
        Self { run: run[20..].into(), next: Arc::default() }
    }

    /// What sets the run apart.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// A number that nobody had.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// How many there are so far.
    pub(super) fn given(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    fn request_id(&self, number: u64) -> String {
        format!("bench-{}-{number}", self.run)
    }

    /// The order that has this number.
    pub(super) fn order_id(&self, number: u64) -> String {
        format!("ord_bench-{}-{number}", self.run)
    }

    /// The number of an order of this run.
    pub(super) fn of_order(&self, order_id: &str) -> Option<u64> {
        order_id.strip_prefix("ord_bench-")?.strip_prefix(&*self.run)?.strip_prefix('-')?.parse().ok()
    }

    /// A small draft order.
    pub(super) fn draft(&self, number: u64) -> CreateOrderRequest {
        CreateOrderRequest {
            request_id: self.request_id(number),
            order_id: Some(self.order_id(number)),
            customer_id: format!("cus-{}", number % CUSTOMERS),
            currency_code: CURRENCY.into(),
            lines: SKUS.map(|sku| NewOrderLine { sku: sku.into(), quantity: 2, unit_price: None }).into(),
            draft: true,
            ..CreateOrderRequest::default()
        }
    }

    /// A small order that is paid and confirmed.
    pub(super) fn order(&self, number: u64) -> CreateOrderRequest {
        CreateOrderRequest { draft: false, payment_method_token: "tok_bench".into(), ..self.draft(number) }
    }

    /// More units of `sku`.
    pub(super) fn receive(&self, number: u64, sku: &str, quantity: i64) -> UpdateStockRequest {
        UpdateStockRequest {
            request_id: self.request_id(number),
            sku: sku.into(),
            location: LOCATION.into(),
            change: Some(Change::Receive(ReceiveStock { quantity })),
            ..UpdateStockRequest::default()
        }
    }
}

/// One of many who make the same kind of call, over and over.
pub(super) trait Caller: Send + 'static {
    /// Makes the call with this number; answers where on the log the command is.
    fn call(&mut self, number: u64) -> impl Future<Output = Result<Option<Position>, Status>> + Send;
}

/// Writes draft orders: no saga, no reservation, so the command path alone (`rulings.md` 36 of the design).
pub(super) struct Drafter {
    pub(super) shop: Shop,
    pub(super) numbers: Numbers,
}

impl Caller for Drafter {
    async fn call(&mut self, number: u64) -> Result<Option<Position>, Status> {
        let answer = self.shop.orders.create_order(self.numbers.draft(number)).await?;
        Ok(answer.into_inner().position)
    }
}

/// Receives one unit of the SKU that everybody receives: all commands meet in one aggregate.
pub(super) struct Receiver {
    pub(super) shop: Shop,
    pub(super) numbers: Numbers,
}

impl Caller for Receiver {
    async fn call(&mut self, number: u64) -> Result<Option<Position>, Status> {
        let answer = self.shop.inventory.update_stock(self.numbers.receive(number, HOT_SKU, 1)).await?;
        Ok(answer.into_inner().position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_again_in_its_order_and_in_no_other_run() {
        let (ours, other) = (Numbers::of_new_run(), Numbers::of_new_run());
        assert_eq!((ours.next(), ours.next(), ours.given()), (0, 1, 2));
        assert_eq!(ours.of_order(&ours.order_id(17)), Some(17));
        assert_eq!(ours.of_order(&other.order_id(17)), None);
        assert_eq!(ours.of_order("ord_17"), None);
    }
}
