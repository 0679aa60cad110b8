//! What callers think of. They know the names of everything that was ever made, and of some things that were not.

use prost::Message;
use prost_types::FieldMask;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use shopstream_proto::catalog::v1::{
    CreateProductRequest, DeleteProductRequest, GetProductRequest, NewVariant, ProductStatus,
    SetPriceRequest, UpdateProductRequest, Variant,
};
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{
    AdjustReason, AdjustStock, CountStock, GetStockRequest, ReceiveStock, ReleaseStockRequest,
    ReservationLine, ReserveStockRequest, UpdateStockRequest,
};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CreateOrderRequest, CreateOrderResponse, GetOrderRequest, NewOrderLine, OrderStatus,
    UpdateOrderStatusRequest,
};
use shopstream_proto::payment::v1::{
    CapturePaymentRequest, GetPaymentRequest, ProcessPaymentRequest, ProviderSignalKind,
    RecordProviderSignalRequest, RefundPaymentRequest,
};
use shopstream_proto::process::v1::ResumeProcessRequest;
use shopstream_proto::returns::v1::{
    CreateReturnRequest, CreateReturnResponse, GetReturnRequest, NewReturnLine,
};
use shopstream_proto::r#type::v1::Money;

use super::Request;

/// How many of the newest names are talked about.
const RECENT: usize = 12;
/// SKUs that everybody sells, and so fights over.
const SKUS: usize = 6;
/// Products that everybody makes.
const PRODUCTS: usize = 4;

/// The names that callers have heard of.
#[derive(Debug, Default)]
pub(crate) struct Names {
    calls: u64,
    /// Orders without their prefix, which is what reservation, payments and checkout are called after too.
    orders: Vec<String>,
    returns: Vec<String>,
    holds: Vec<String>,
    /// Orders that are yet to come, and have a hold under their name.
    held_ahead: Vec<String>,
    /// The order of which something was sent back last.
    returning: Option<String>,
}

impl Names {
    /// Hears what something was called.
    pub(super) fn learn(&mut self, request: &Request, answer: &[u8]) {
        match request {
            Request::CreateOrder(_) => {
                if let Ok(created) = CreateOrderResponse::decode(answer) {
                    note(&mut self.orders, created.order_id.trim_start_matches("ord_"));
                }
            }
            Request::CreateReturn(_) => {
                if let Ok(created) = CreateReturnResponse::decode(answer) {
                    note(&mut self.returns, &created.return_id);
                }
            }
            _ => {}
        }
    }

    /// Hears of an order.
    pub(super) fn hear_of(&mut self, order_id: &str) {
        note(&mut self.orders, order_id.trim_start_matches("ord_"));
    }

    /// Hears of an order of which something is sent back.
    pub(super) fn hear_of_return(&mut self, order_id: &str) {
        self.returning = order_id.strip_prefix("ord_").map(str::to_owned);
    }

    /// A key that nobody has used.
    pub(super) fn key(&mut self) -> String {
        self.calls += 1;
        format!("key-{}", self.calls)
    }

    /// Something to ask for.
    pub(super) fn draw(&mut self, random: &mut StdRng) -> Request {
        let request_id = self.key();
        match random.random_range(0..100) {
            0..7 => Request::CreateProduct(self.a_product(request_id, random)),
            7..10 => Request::UpdateProduct(an_update(request_id, random)),
            10 => Request::DeleteProduct(DeleteProductRequest {
                request_id,
                product_id: product(random),
                ..DeleteProductRequest::default()
            }),
            11..14 => Request::SetPrice(SetPriceRequest {
                request_id,
                sku: sku(random),
                price: Some(money(random.random_range(0..=6) * 100)),
                ..SetPriceRequest::default()
            }),
            14..23 => Request::UpdateStock(a_stock_change(request_id, random)),
            23..28 => Request::ReserveStock(self.a_hold(request_id, random)),
            28..34 => Request::ReleaseStock(ReleaseStockRequest {
                request_id,
                reservation_id: self.a_held_name(random),
                ..ReleaseStockRequest::default()
            }),
            34..54 => Request::CreateOrder(self.an_order(request_id, random)),
            54..59 => Request::CancelOrder(CancelOrderRequest {
                request_id,
                order_id: self.an_order_id(random),
                ..CancelOrderRequest::default()
            }),
            59..65 => Request::UpdateOrderStatus(UpdateOrderStatusRequest {
                request_id,
                order_id: self.an_order_id(random),
                status: OrderStatus::Submitted.into(),
                payment_method_token: if random.random() { "tok_any".to_owned() } else { String::new() },
                ..UpdateOrderStatusRequest::default()
            }),
            65..69 => Request::ProcessPayment(ProcessPaymentRequest {
                request_id,
                order_id: self.an_order_id(random),
                payment_method_token: "tok_other".to_owned(),
                ..ProcessPaymentRequest::default()
            }),
            69..73 => Request::CapturePayment(CapturePaymentRequest {
                request_id,
                payment_id: self.a_payment_id(random),
                amount: an_amount(random),
                ..CapturePaymentRequest::default()
            }),
            73..79 => Request::RefundPayment(RefundPaymentRequest {
                request_id,
                // Beside a return, or any.
                payment_id: match &self.returning {
                    Some(root) if random.random() => format!("pay_{root}.1"),
                    _ => self.a_payment_id(random),
                },
                amount: an_amount(random),
                ..RefundPaymentRequest::default()
            }),
            79..85 => Request::CreateReturn(self.a_return(request_id, random)),
            85 => Request::RecordProviderSignal(self.a_false_report(request_id, random)),
            86 => Request::ResumeProcess(ResumeProcessRequest {
                request_id,
                process_id: format!("chk_{}", self.an_order_root(random)),
                reason: "please".to_owned(),
                ..ResumeProcessRequest::default()
            }),
            87..93 => Request::GetOrder(GetOrderRequest {
                order_id: self.an_order_id(random),
                ..GetOrderRequest::default()
            }),
            93..95 => Request::GetPayment(GetPaymentRequest {
                payment_id: self.a_payment_id(random),
                ..GetPaymentRequest::default()
            }),
            95..97 => Request::GetStock(GetStockRequest { sku: sku(random), ..GetStockRequest::default() }),
            97 => Request::GetReturn(GetReturnRequest {
                return_id: recent(&self.returns, random).unwrap_or_else(|| "ret_none".to_owned()),
                ..GetReturnRequest::default()
            }),
            _ => Request::GetProduct(GetProductRequest {
                product_id: product(random),
                ..GetProductRequest::default()
            }),
        }
    }

    fn a_product(&self, request_id: String, random: &mut StdRng) -> CreateProductRequest {
        let variant = |random: &mut StdRng| NewVariant {
            sku: sku(random),
            title: String::new(),
            list_price: Some(money(random.random_range(0..=5) * 100)),
        };
        let mut variants: Vec<NewVariant> =
            (0..random.random_range(1..=3)).map(|_| variant(random)).collect();
        variants.dedup_by(|one, other| one.sku == other.sku);
        CreateProductRequest {
            request_id,
            product_id: random.random::<bool>().then(|| product(random)),
            title: "a thing".to_owned(),
            variants,
            draft: random.random_bool(0.1),
            ..CreateProductRequest::default()
        }
    }

    fn an_order(&mut self, request_id: String, random: &mut StdRng) -> CreateOrderRequest {
        let taken = recent(&self.orders, random).filter(|_| random.random_bool(0.1));
        let named = taken.is_some() || random.random();
        let ahead = if random.random() { self.held_ahead.pop() } else { None };
        let (taken, named) = (ahead.clone().or(taken), named || ahead.is_some());
        // Somebody else's, which may be a draft, or one that is held ahead, or one of its own.
        let root = taken.unwrap_or_else(|| format!("c{}", self.calls));
        if named {
            // Known before it is there: somebody is always early.
            note(&mut self.orders, &root);
        }
        CreateOrderRequest {
            request_id,
            order_id: named.then(|| format!("ord_{root}")),
            customer_id: format!("customer{}", random.random_range(0..3)),
            currency_code: "GBP".to_owned(),
            lines: (0..random.random_range(1..=2))
                .map(|_| NewOrderLine {
                    sku: sku(random),
                    quantity: random.random_range(1..=3),
                    unit_price: None,
                })
                .collect(),
            payment_method_token: "tok_any".to_owned(),
            draft: random.random_bool(0.25),
            ..CreateOrderRequest::default()
        }
    }

    /// Of one's own, or under a name that an order's own hold has, or will have.
    fn a_hold(&mut self, request_id: String, random: &mut StdRng) -> ReserveStockRequest {
        let reservation_id = match random.random_range(0..5) {
            0 => None,
            1 => Some(format!("res_{}.1", self.an_order_root(random))),
            2 => Some(format!("res_{}", self.an_order_root(random))),
            3 => {
                let root = format!("c{}", self.calls);
                self.held_ahead.push(root.clone());
                Some(format!("res_{root}"))
            }
            _ => Some(format!("res_own{}", self.calls)),
        };
        if let Some(id) = &reservation_id {
            note(&mut self.holds, id);
        }
        let line = ReservationLine {
            sku: sku(random),
            quantity: random.random_range(1..=3),
            ..ReservationLine::default()
        };
        ReserveStockRequest {
            request_id,
            reservation_id,
            lines: vec![line],
            hold_seconds: random.random_range(0..60),
            ..ReserveStockRequest::default()
        }
    }

    fn a_held_name(&self, random: &mut StdRng) -> String {
        match recent(&self.holds, random) {
            Some(own) if random.random() => own,
            _ if random.random() => format!("res_{}.1", self.an_order_root(random)),
            _ => format!("res_{}", self.an_order_root(random)),
        }
    }

    fn a_return(&mut self, request_id: String, random: &mut StdRng) -> CreateReturnRequest {
        let order_id = self.an_order_id(random);
        self.hear_of_return(&order_id);
        CreateReturnRequest {
            request_id,
            return_id: random.random::<bool>().then(|| format!("ret_c{}", self.calls)),
            order_id,
            lines: vec![NewReturnLine { line_index: 0, quantity: random.random_range(1..=2) }],
            ..CreateReturnRequest::default()
        }
    }

    /// A report that says something else than what was asked: there is no such amount. The provider's own true reports
    /// come another way.
    fn a_false_report(&self, request_id: String, random: &mut StdRng) -> RecordProviderSignalRequest {
        let payment_id = self.a_payment_id(random);
        let (kind, operation) = match random.random_range(0..3) {
            0 => (ProviderSignalKind::Authorized, "authorize"),
            1 => (ProviderSignalKind::Captured, "capture"),
            _ => (ProviderSignalKind::Refunded, "refund"),
        };
        RecordProviderSignalRequest {
            provider_event_id: request_id.clone(),
            request_id,
            kind: kind.into(),
            provider_key: format!("{payment_id}:{operation}:1"),
            amount: Some(money(7)),
            payment_id,
            ..RecordProviderSignalRequest::default()
        }
    }

    fn an_order_root(&self, random: &mut StdRng) -> String {
        recent(&self.orders, random).unwrap_or_else(|| "c1".to_owned())
    }

    fn an_order_id(&self, random: &mut StdRng) -> String {
        format!("ord_{}", self.an_order_root(random))
    }

    fn a_payment_id(&self, random: &mut StdRng) -> String {
        let attempt = if random.random_bool(0.9) { 1 } else { 2 };
        format!("pay_{}.{attempt}", self.an_order_root(random))
    }
}

fn note(names: &mut Vec<String>, name: &str) {
    if !names.iter().rev().take(RECENT).any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// Mostly one of the newest: there something is under way.
fn recent(names: &[String], random: &mut StdRng) -> Option<String> {
    let from = if random.random_bool(0.9) { names.len().saturating_sub(RECENT) } else { 0 };
    names[from..].choose(random).cloned()
}

fn sku(random: &mut StdRng) -> String {
    format!("THING{}", random.random_range(0..SKUS))
}

fn product(random: &mut StdRng) -> String {
    format!("prd_{}", random.random_range(0..PRODUCTS))
}

fn money(amount_minor: i64) -> Money {
    Money { currency_code: "GBP".to_owned(), amount_minor }
}

/// All there is, or a part, or too much.
fn an_amount(random: &mut StdRng) -> Option<Money> {
    random.random_bool(0.6).then(|| money(random.random_range(1..=12) * 50))
}

fn a_stock_change(request_id: String, random: &mut StdRng) -> UpdateStockRequest {
    let change = match random.random_range(0..10) {
        0..6 => Change::Receive(ReceiveStock { quantity: random.random_range(1..=8) }),
        6..8 => Change::Adjust(AdjustStock {
            delta: random.random_range(-2..=2),
            reason: AdjustReason::Correction.into(),
        }),
        _ => Change::Count(CountStock { found: random.random_range(0..=8) }),
    };
    UpdateStockRequest { request_id, sku: sku(random), change: Some(change), ..UpdateStockRequest::default() }
}

fn an_update(request_id: String, random: &mut StdRng) -> UpdateProductRequest {
    let mask =
        |paths: &[&str]| Some(FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() });
    let mut update =
        UpdateProductRequest { request_id, product_id: product(random), ..UpdateProductRequest::default() };
    match random.random_range(0..4) {
        0 => {
            update.update_mask = mask(&["title"]);
            update.title = format!("a thing {}", random.random_range(0..3));
        }
        1 => {
            update.update_mask = mask(&["variants"]);
            update.variants = vec![Variant { sku: sku(random), title: String::new() }];
        }
        2 => {
            update.update_mask = mask(&["status"]);
            update.status = ProductStatus::Unpublished.into();
        }
        _ => {
            update.update_mask = mask(&["status"]);
            update.status = ProductStatus::Published.into();
        }
    }
    update
}
