//! CreateOrder: from what a client wants to an order with every price frozen.

use std::sync::Arc;

use shopstream_command_handlers::CommandEnvelope;
use shopstream_domain::order::{self, Command, OrderLine, Placement};
use shopstream_domain::{Currency, CustomerId, OrderId, Quantity, Sku, Timestamp};
use shopstream_proto::order::v1::{CreateOrderRequest, NewOrderLine};

use crate::call::Call;
use crate::command::{Asked, UNNAMED_ORDER, effective_time};
use crate::failure::Failure;
use crate::offers::Offer;
use crate::wire::{amount_in, id};

/// An order as far as the request alone tells.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) asked: Asked,
    pub(crate) order_id: OrderId,
    effective_at: Option<Timestamp>,
    customer_id: CustomerId,
    currency: Currency,
    lines: Vec<WantedLine>,
    payment_method_token: Option<String>,
    draft: bool,
}

#[derive(Debug)]
struct WantedLine {
    sku: Sku,
    quantity: Quantity,
    /// In minor units; `None`: the list price.
    unit_price: Option<i64>,
}

impl Wanted {
    /// Reads a request.
    ///
    /// # Errors
    /// What is wrong with the request whatever the state.
    pub(crate) fn of(mut request: CreateOrderRequest, call: &Call, now: Timestamp) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let currency = id(Currency::new(&request.currency_code), "currency_code")?;
        let order_id = request.order_id.unwrap_or_else(|| asked.derived_id(call, UNNAMED_ORDER, "ord_"));
        let token = Some(request.payment_method_token).filter(|token| !token.is_empty());
        if token.is_none() && !request.draft {
            return Err(Failure::invalid("payment_method_token", "required unless the order is a draft"));
        }
        Ok(Self {
            effective_at: effective_time(request.effective_time.as_ref(), now)?,
            order_id: id(OrderId::new(&order_id), "order_id")?,
            customer_id: id(CustomerId::new(&request.customer_id), "customer_id")?,
            lines: lines(&request.lines, currency)?,
            payment_method_token: token,
            draft: request.draft,
            currency,
            asked,
        })
    }

    /// Who orders.
    pub(crate) fn customer(&self) -> &CustomerId {
        &self.customer_id
    }

    /// The SKU of every line.
    pub(crate) fn skus(&self) -> impl Iterator<Item = &Sku> {
        self.lines.iter().map(|line| &line.sku)
    }

    /// The command, with list prices frozen where the client named none (`rulings.md` 13). `offers` holds what each
    /// line's SKU is sold for, in the order of the lines.
    ///
    /// # Errors
    /// F-01: a SKU that nobody sells, or that has no price in this currency. And sums beyond 2⁶³.
    pub(crate) fn command(&self, offers: &[Option<Arc<Offer>>]) -> Result<Command, Failure> {
        let lines = self.lines.iter().zip(offers).enumerate();
        let lines = lines.map(|(i, (line, offer))| line.priced(i, offer.as_deref(), self.currency));
        self.placed(lines.collect::<Result<_, _>>()?)
    }

    /// Asks what became of this order when it was asked for before.
    pub(crate) fn recall(&self, call: &Call) -> CommandEnvelope {
        self.asked.recall(call, self.order_id.stream(&call.tenant))
    }

    /// `command` on its way.
    pub(crate) fn envelope(&self, call: &Call, command: Command) -> CommandEnvelope {
        let stream = self.order_id.stream(&call.tenant);
        CommandEnvelope { effective_at: self.effective_at, ..self.asked.envelope(call, stream, command) }
    }

    fn placed(&self, lines: Vec<OrderLine>) -> Result<Command, Failure> {
        let placement = Placement::new(
            self.order_id.clone(),
            self.customer_id.clone(),
            self.currency,
            lines,
            self.payment_method_token.clone(),
        );
        let placement = placement.map_err(|error| Failure::refused(&error))?;
        Ok(if self.draft { Command::Draft(placement) } else { Command::Submit(placement) })
    }
}

impl WantedLine {
    fn priced(&self, index: usize, offer: Option<&Offer>, currency: Currency) -> Result<OrderLine, Failure> {
        let Self { sku, quantity, unit_price } = self;
        let wanted = order::WantedLine { index, sku, quantity: *quantity, unit_price_minor: *unit_price };
        let offer = offer.map(|offer| offer.for_line(sku, currency));
        wanted.at(offer.as_ref()).map_err(|refusal| Failure::refused(&refusal))
    }
}

fn lines(given: &[NewOrderLine], currency: Currency) -> Result<Vec<WantedLine>, Failure> {
    let line = |line: &NewOrderLine| {
        Ok(WantedLine {
            sku: id(Sku::new(&line.sku), "sku")?,
            quantity: id(Quantity::new(line.quantity), "quantity")?,
            unit_price: line
                .unit_price
                .as_ref()
                .map(|price| amount_in(price, currency, "unit_price"))
                .transpose()?,
        })
    };
    let named = |(i, given)| line(given).map_err(|failure: Failure| failure.inside(&format!("lines[{i}]")));
    given.iter().enumerate().map(named).collect()
}
