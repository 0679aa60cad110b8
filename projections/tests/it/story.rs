//! A small shop's history, and the system under test.

use std::time::Duration;

use shopstream_domain::catalog::{ProductDrafted, ProductEvent, ProductPublished, Variant};
use shopstream_domain::inventory::{
    ReservationCommitted, ReservationEvent, ReservationHeld, ReservationRequested, StockCommitted,
    StockEvent, StockKey, StockReceived, StockReserved,
};
use shopstream_domain::model::Event;
use shopstream_domain::order::{
    self, CheckoutDone, CheckoutEvent, CheckoutStarted, OrderConfirmed, OrderLine, OrderSubmitted, Placement,
    PriceSource,
};
use shopstream_domain::payment::{self, PaymentAuthorized, PaymentInitiated};
use shopstream_domain::pricing::{PriceEvent, PriceSet};
use shopstream_domain::{
    Currency, CustomerId, LocationId, OrderId, ProductId, Quantity, ReservationId, Sku, TenantId, Timestamp,
    Version,
};
use shopstream_eventlog::Position;
use shopstream_projections::testing::TestLog;
use shopstream_projections::{Progress, Projection, Projector, ReadModels};
use shopstream_test_servers::postgres::{TestDatabase, database};
use tokio::time::Instant;

/// Longer than anything here takes; only a failure waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A log and a database, with nothing running.
pub struct Shop {
    pub log: TestLog,
    pub db: TestDatabase,
}

impl Shop {
    pub async fn new(partitions: u16) -> Self {
        Self { log: TestLog::new(partitions).await, db: database().await }
    }

    pub async fn project(&self) -> Projector {
        Projector::start(self.log.log.clone(), self.db.database.clone(), Timestamp::default).await.unwrap()
    }

    pub async fn read_models(&self, projector: &Projector) -> ReadModels {
        ReadModels::open(self.db.database.clone(), projector.progress()).await.unwrap()
    }

    /// Waits until every projection has read what is on the log now.
    pub async fn caught_up(&self, progress: &Progress) {
        let mut ends = Vec::new();
        for partition in 0..self.log.log.partitions() {
            let offset = self.log.log.end(partition).await.unwrap() - 1;
            ends.push(Position { partition, offset });
        }
        for projection in Projection::ALL {
            progress.wait_for(projection, &ends, Instant::now() + PATIENCE).await.unwrap();
        }
    }

    /// The number that a query answers.
    pub async fn count(&self, sql: &str) -> i64 {
        let (client, connection) =
            tokio_postgres::connect(&self.db.url, tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let count = client.query_one(sql, &[]).await.unwrap().get(0);
        drop(client);
        connection.await.unwrap().unwrap();
        count
    }

    /// A product with one SKU and a price.
    pub async fn product(&self, sku: &str, price_minor: i64) {
        let id = format!("prd_{sku}");
        let drafted = ProductDrafted {
            product_id: ProductId::new(&id).unwrap(),
            title: format!("Product {sku}"),
            description: String::new(),
            variants: vec![Variant { sku: self::sku(sku), title: String::new() }],
        };
        let events = [ProductEvent::Drafted(drafted), ProductEvent::Published(ProductPublished {})]
            .map(Event::Product);
        self.log.append(&format!("default/product/{id}"), 1, &events).await;
        let set = PriceSet {
            sku: self::sku(sku),
            currency: Currency::GBP,
            amount_minor: price_minor,
            reason: None,
            at: Timestamp::from_seconds(1),
        };
        self.log.append(&format!("default/price/{sku}.GBP"), 1, &[Event::Price(PriceEvent::Set(set))]).await;
    }

    /// Goods arrive, as event `version` of their stock item.
    pub async fn receive(&self, sku: &str, version: Version, units: i64) -> Position {
        let received = StockReceived {
            sku: self::sku(sku),
            location: LocationId::main(),
            quantity: quantity(units),
            reference: None,
        };
        let event = Event::Stock(StockEvent::Received(received));
        self.log.append(&format!("default/stock/{sku}@main"), version, &[event]).await
    }

    /// Order `n` of a customer, from submitted to confirmed, of one unit of a SKU. `stock_version` is the last
    /// version of the stock item before. Answers where the confirmation is.
    pub async fn order(&self, n: u32, customer: &str, sku: &str, stock_version: Version) -> Position {
        let order_id = OrderId::new(&format!("ord_{n}")).unwrap();
        let tenant = TenantId::default_tenant();
        let stream = order_id.stream(&tenant);
        let placement = placement(&order_id, customer, sku);
        let total_minor = placement.total_minor;
        let submitted = Event::Order(order::Event::Submitted(OrderSubmitted { placement }));
        self.log.append(stream.as_str(), 1, &[submitted]).await;
        let checkout = order_id.checkout_stream(&tenant);
        self.log.append(checkout.as_str(), 1, &[started(&order_id, total_minor)]).await;

        let reservation = order_id.reservation();
        let hold = [
            ReservationEvent::Requested(ReservationRequested {
                reservation_id: reservation.clone(),
                keys: vec![StockKey {
                    sku: self::sku(sku),
                    location: LocationId::main(),
                    quantity: quantity(1),
                }],
                until: Timestamp::from_seconds(2_000_000_000),
                hard_until: Timestamp::from_seconds(2_000_000_000),
            }),
            ReservationEvent::Held(ReservationHeld {}),
            ReservationEvent::Committed(ReservationCommitted {}),
        ]
        .map(Event::Reservation);
        self.log.append(reservation.stream(&tenant).as_str(), 1, &hold).await;
        self.sell(&reservation, sku, stock_version).await;

        let payment_id = order_id.payment(1);
        let paid = [
            payment::Event::Initiated(PaymentInitiated {
                payment_id: payment_id.clone(),
                order_id: order_id.clone(),
                amount_minor: total_minor,
                currency: Currency::GBP,
                method_token: "tok_approve".into(),
            }),
            payment::Event::Authorized(PaymentAuthorized {
                key: format!("{payment_id}:authorize:1"),
                amount_minor: total_minor,
                capture_before: None,
            }),
        ]
        .map(Event::Payment);
        self.log.append(payment_id.stream(&tenant).as_str(), 1, &paid).await;

        let confirmed = OrderConfirmed { reservation_id: reservation, payments: vec![payment_id] };
        let confirmed = Event::Order(order::Event::Confirmed(confirmed));
        self.log.append(stream.as_str(), 2, &[confirmed]).await;
        let done = Event::Checkout(CheckoutEvent::Done(CheckoutDone {}));
        self.log.append(checkout.as_str(), 2, &[done]).await
    }

    async fn sell(&self, reservation: &ReservationId, sku: &str, stock_version: Version) {
        let (reservation_id, quantity) = (reservation.clone(), quantity(1));
        let events = [
            StockEvent::Reserved(StockReserved { reservation_id: reservation_id.clone(), quantity }),
            StockEvent::Committed(StockCommitted { reservation_id, quantity }),
        ]
        .map(Event::Stock);
        self.log.append(&format!("default/stock/{sku}@main"), stock_version + 1, &events).await;
    }
}

fn started(order_id: &OrderId, total_minor: i64) -> Event {
    Event::Checkout(CheckoutEvent::Started(CheckoutStarted {
        order_id: order_id.clone(),
        reservation_id: order_id.reservation(),
        total_minor,
        currency: Currency::GBP,
        payment_method_token: "tok_approve".into(),
        hold_until: None,
        timer: None,
    }))
}

/// One unit of a SKU at 1.25 GBP.
pub fn placement(order_id: &OrderId, customer: &str, sku: &str) -> Placement {
    let line = OrderLine {
        sku: self::sku(sku),
        product_id: None,
        location: LocationId::main(),
        quantity: quantity(1),
        unit_price_minor: 125,
        price_source: PriceSource::List,
        price_version: Some(1),
    };
    let customer = CustomerId::new(customer).unwrap();
    Placement::new(order_id.clone(), customer, Currency::GBP, vec![line], Some("tok_approve".into())).unwrap()
}

pub fn sku(text: &str) -> Sku {
    Sku::new(text).unwrap()
}

pub fn quantity(units: i64) -> Quantity {
    Quantity::new(units).unwrap()
}

pub fn tenant() -> TenantId {
    TenantId::default_tenant()
}
