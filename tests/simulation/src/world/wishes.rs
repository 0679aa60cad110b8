//! What clients want, and what the provider reports.

use rand::Rng;
use rand::seq::IndexedRandom;
use shopstream_command_handlers::{CommandEnvelope, Origin, Request, body_hash};
use shopstream_domain::inventory::{ReleaseReason, StockCommand, StockKey};
use shopstream_domain::model::{Command, State};
use shopstream_domain::order::{
    CancelReason, Command as OrderCommand, OrderLine, OrderStatus, Placement, PriceSource,
};
use shopstream_domain::payment::{Command as PaymentCommand, PaymentIntent};
use shopstream_domain::returns::{Command as ReturnCommand, ReturnLine, ReturnRequest};
use shopstream_domain::{
    Currency, CustomerId, LocationId, OrderId, Quantity, ReservationId, ReturnId, Sku, StreamId, Version,
};
use shopstream_eventlog::CommandId;
use shopstream_sagas::HoldRequest;

use super::World;

/// The actors of the commands that the clients' history knows.
pub(crate) const CLIENT: &str = "client";
/// Who holds stock without an order, through the fan-out, and is not in the history.
const STAFF: &str = "staff";

/// After how many wishes other goods are sold.
const WISHES_PER_SKU: u64 = 400;

/// An order that a client placed, whether or not it was taken.
#[derive(Clone)]
pub(super) struct Placed {
    order_id: OrderId,
    lines: Vec<OrderLine>,
}

/// A command and where it goes.
type Wish = (StreamId, Command, Option<Version>);

impl World {
    /// A client wants something. Where that needs something that is not there, nobody wants anything.
    pub(super) fn wish(&mut self) {
        let wish = match self.random.random_range(0..100) {
            0..36 => Some(self.an_order()),
            36..48 => self.a_delivery(),
            48..58 => self.a_correction(),
            58..72 => self.a_cancellation(),
            72..84 => self.another_payment(),
            84..94 => self.a_return(),
            _ => {
                self.a_hold();
                None
            }
        };
        if let Some((stream, command, expected_version)) = wish {
            self.ask(stream, command, expected_version);
        }
    }

    pub(super) fn ask(&mut self, stream: StreamId, command: Command, expected_version: Option<Version>) {
        self.wishes += 1;
        let command_id = CommandId::derive(&[CLIENT, &self.wishes.to_string()]);
        let envelope = CommandEnvelope {
            stream,
            command_id,
            body_hash: body_hash(command_id.0.as_bytes()),
            expected_version,
            effective_at: None,
            origin: origin(CLIENT),
            command,
            request: Some(Request { old_body_hash: body_hash(command_id.0.as_bytes()), key: None }),
        };
        let seed = self.random.random();
        self.clients.ask(envelope.clone(), seed);
        // Somebody uses an id for something else as well.
        if self.random.random_bool(0.02) {
            let seed = self.random.random();
            let other = envelope.body_hash ^ 1;
            let request = Some(Request { old_body_hash: other, key: None });
            self.clients.ask(CommandEnvelope { body_hash: other, request, ..envelope }, seed);
        }
    }

    fn an_order(&mut self) -> Wish {
        let order_id = OrderId::new(&format!("ord_{}", self.orders.len())).expect("an order id");
        let lines: Vec<OrderLine> = (0..self.random.random_range(1..=3))
            .map(|_| OrderLine {
                sku: self.a_sku(),
                product_id: None,
                location: LocationId::main(),
                quantity: self.units(3),
                unit_price_minor: self.random.random_range(1..=5) * 100,
                price_source: PriceSource::List,
                price_version: None,
            })
            .collect();
        let customer = CustomerId::new("guest").expect("a customer id");
        let token = Some("tok_any".to_owned());
        let placement = Placement::new(order_id.clone(), customer, currency(), lines.clone(), token);
        let command = OrderCommand::Submit(placement.expect("an order"));
        let stream = order_id.stream(&self.tenant);
        self.callers.hear_of(&order_id);
        self.orders.push(Placed { order_id, lines });
        (stream, command.into(), None)
    }

    fn a_delivery(&mut self) -> Option<Wish> {
        let (sku, location, quantity) = (self.a_sku(), LocationId::main(), self.units(8));
        let stream = sku.stock_stream(&self.tenant, &location);
        Some((stream, StockCommand::Receive { sku, location, quantity, reference: None }.into(), None))
    }

    /// Somebody counts on what was shown, and says so.
    fn a_correction(&mut self) -> Option<Wish> {
        let stream = self.a_sku().stock_stream(&self.tenant, &LocationId::main());
        let version = self.around.database.shown(&stream, |_, version| version)?;
        let delta = self.random.random_range(-2..=2);
        let command = StockCommand::Adjust { delta, reason: "counted".to_owned() };
        Some((stream, command.into(), Some(version)))
    }

    fn a_cancellation(&mut self) -> Option<Wish> {
        let order = self.a_placed_order()?;
        let reason = CancelReason::Customer;
        Some((order.order_id.stream(&self.tenant), OrderCommand::RequestCancellation { reason }.into(), None))
    }

    /// Less careful than the gateway: the order waits for it, whether or not another one is under way.
    fn another_payment(&mut self) -> Option<Wish> {
        let order_id = self.an_order_that_is(OrderStatus::AwaitingPayment)?.order_id;
        let amount_minor = self.shown_order(&order_id, |order| order.total_minor())?;
        let last = (1..=self.weather.settings.attempts_max)
            .rev()
            .find(|number| self.shown_payment(&order_id, *number, |_| ()).is_some())?;
        let payment_id = order_id.payment(last + 1);
        let stream = payment_id.stream(&self.tenant);
        let method_token = "tok_other".to_owned();
        let currency = currency();
        let command = PaymentCommand::Initiate { payment_id, order_id, amount_minor, currency, method_token };
        Some((stream, command.into(), None))
    }

    /// As the gateway has it: of an order that is sold and paid.
    fn a_return(&mut self) -> Option<Wish> {
        let Placed { order_id, lines } = self.an_order_that_is(OrderStatus::Confirmed)?;
        self.callers.hear_of_return(&order_id);
        let captured = |payment: &PaymentIntent| payment.captured_minor() > 0;
        let paid =
            (1..=4).find(|number| self.shown_payment(&order_id, *number, captured).unwrap_or(false))?;
        let at = self.random.random_range(0..lines.len());
        let OrderLine { sku, location, unit_price_minor, .. } = lines[at].clone();
        let quantity = self.units(2);
        let return_id = ReturnId::new(&format!("ret_{}", self.wishes)).expect("a return id");
        let request = ReturnRequest {
            return_id: return_id.clone(),
            payment_id: order_id.payment(paid),
            reservation_id: order_id.reservation(),
            order_id,
            currency: currency(),
            lines: vec![ReturnLine { line: at as u32, sku, location, quantity, unit_price_minor }],
        };
        Some((return_id.stream(&self.tenant), ReturnCommand::Request(request).into(), None))
    }

    /// Somebody holds stock without an order, and maybe gives it up.
    fn a_hold(&mut self) {
        let Some(stock) = self.nodes.last().and_then(crate::node::Node::stock) else { return };
        self.wishes += 1;
        let id = ReservationId::new(&format!("res_staff{}", self.wishes)).expect("a reservation id");
        let key = StockKey { sku: self.a_sku(), location: LocationId::main(), quantity: self.units(3) };
        let request = HoldRequest {
            tenant: self.tenant.clone(),
            reservation_id: id.clone(),
            keys: vec![key],
            hold_seconds: 60,
            hard_max_seconds: 60,
        };
        let (tenant, gives_up) = (self.tenant.clone(), self.random.random::<bool>());
        tokio::spawn(async move {
            // What comes of either is on the log; nobody here waits for the answer.
            let _ = stock.reserve(request, &origin(STAFF)).await;
            if gives_up {
                let _ = stock.release(&tenant, &id, ReleaseReason::Requested, &origin(STAFF)).await;
            }
        });
    }

    /// The provider reports something, if there is something to report.
    pub(super) fn report(&mut self) {
        if let Some(signal) = self.around.provider.signal(&mut self.random) {
            self.ask(signal.payment, signal.command.into(), None);
        }
    }

    /// As [`World::report`], by a call, as from everybody outside.
    pub(super) fn report_by_call(&mut self) {
        let Some(signal) = self.around.provider.signal(&mut self.random) else { return };
        match signal.request() {
            Some(report) => self.callers.report(report, &mut self.random),
            None => self.ask(signal.payment, signal.command.into(), None),
        }
    }

    fn a_placed_order(&mut self) -> Option<Placed> {
        // Mostly a recent one: there more is under way.
        let recent = self.orders.len().saturating_sub(8);
        let from = if self.random.random_bool(0.8) { recent } else { 0 };
        self.orders[from..].choose(&mut self.random).cloned()
    }

    fn an_order_that_is(&mut self, status: OrderStatus) -> Option<Placed> {
        let first = self.orders.len().saturating_sub(100);
        let is = |placed: &&Placed| {
            self.shown_order(&placed.order_id, |order| order.status()) == Some(Some(status))
        };
        let found: Vec<&Placed> = self.orders[first..].iter().filter(is).collect();
        found.choose(&mut self.random).copied().cloned()
    }

    fn shown_order<T>(
        &self,
        order_id: &OrderId,
        look: impl FnOnce(&shopstream_domain::order::Order) -> T,
    ) -> Option<T> {
        let shown = self.around.database.shown(&order_id.stream(&self.tenant), |state, _| match state {
            State::Order(order) => Some(look(order)),
            _ => None,
        });
        shown.flatten()
    }

    fn shown_payment<T>(
        &self,
        order_id: &OrderId,
        number: u32,
        look: impl FnOnce(&PaymentIntent) -> T,
    ) -> Option<T> {
        let stream = order_id.payment(number).stream(&self.tenant);
        let shown = self.around.database.shown(&stream, |state, _| match state {
            State::Payment(payment) => Some(look(payment)),
            _ => None,
        });
        shown.flatten()
    }

    /// One of a few. They go out of fashion after a while: an item remembers everybody who has bought it, and a long run
    /// would do nothing else than read that whenever it is not in memory.
    fn a_sku(&mut self) -> Sku {
        let number = self.random.random_range(0..self.weather.skus);
        let name = match self.wishes / WISHES_PER_SKU {
            0 => format!("SKU{number}"),
            fashion => format!("SKU{number}-{fashion}"),
        };
        Sku::new(&name).expect("a SKU")
    }

    fn units(&mut self, most: i64) -> Quantity {
        Quantity::new(self.random.random_range(1..=most)).expect("a quantity")
    }
}

fn currency() -> Currency {
    Currency::new("GBP").expect("a currency")
}

fn origin(actor: &str) -> Origin {
    Origin { actor: actor.into(), correlation_id: "".into(), causation_id: "".into(), traceparent: "".into() }
}
