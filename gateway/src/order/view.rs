//! Orders as a caller sees them.

use shopstream_domain::Currency;
use shopstream_domain::order::{CancelReason, OrderLine, PriceSource, Stage};
use shopstream_projections::order::{CheckoutStatus, Order, OrderStatus, OrderSummary, TimelineEntry};
use shopstream_projections::payment::PaymentView;
use shopstream_proto::order::v1 as wire;

use crate::positions::position;
use crate::wire::{int, money, time};

/// An order with what its checkout and its payments say about it.
pub(super) fn order(
    order: &Order,
    checkout: Option<&CheckoutStatus>,
    payments: &[PaymentView],
) -> wire::Order {
    let detail = &order.detail;
    let amount = |minor| Some(money(minor, detail.currency));
    let draft = detail.status == OrderStatus::Draft;
    wire::Order {
        order_id: detail.order_id.as_str().to_owned(),
        customer_id: detail.customer_id.as_str().to_owned(),
        status: status_in(detail.status, checkout.map(|checkout| checkout.stage)).into(),
        currency_code: detail.currency.code().to_owned(),
        lines: order
            .lines
            .iter()
            .zip(0..)
            .map(|(line, i)| order_line(line, i, detail.currency, order.units_returned(i)))
            .collect(),
        totals: Some(wire::OrderTotals {
            subtotal: amount(detail.total_minor),
            discount: None,
            tax: None,
            total: amount(detail.total_minor),
            refunded: refunded(payments).map(|minor| money(minor, detail.currency)),
        }),
        reservation_id: if draft { String::new() } else { detail.reservation().into() },
        payment_ids: payments.iter().map(|payment| payment.payment_id.as_str().to_owned()).collect(),
        cancel_reason: cancel_reason(detail.cancel_reason).into(),
        checkout_state: checkout.map_or_else(String::new, |checkout| format!("{:?}", checkout.stage)),
        create_time: Some(time(detail.created_at)),
        update_time: Some(time(detail.updated_at)),
        effective_time: Some(time(detail.effective_at)),
        version: int(detail.version),
        position: Some(position(detail.position())),
    }
}

/// What went back out of all payments: an outcome, not what returns asked for.
fn refunded(payments: &[PaymentView]) -> Option<i64> {
    let sum = payments.iter().map(|payment| payment.refunded_minor).fold(0, i64::saturating_add);
    (sum != 0).then_some(sum)
}

fn order_line(line: &OrderLine, line_index: u32, currency: Currency, units_returned: i64) -> wire::OrderLine {
    wire::OrderLine {
        line_index,
        sku: line.sku.as_str().to_owned(),
        quantity: line.quantity.get(),
        unit_price: Some(money(line.unit_price_minor, currency)),
        // The domain has refused every order in which this overflows.
        line_total: line.total_minor().map(|total| money(total, currency)),
        price_source: match line.price_source {
            PriceSource::List => wire::PriceSource::List,
            PriceSource::Override => wire::PriceSource::Override,
        }
        .into(),
        list_price_version: line.price_version.map(int),
        units_returned,
    }
}

pub(super) fn summary(row: &OrderSummary) -> wire::OrderSummary {
    wire::OrderSummary {
        order_id: row.order_id.as_str().to_owned(),
        customer_id: row.customer_id.as_str().to_owned(),
        status: status(row.status).into(),
        total: Some(money(row.total_minor, row.currency)),
        line_count: row.line_count,
        unit_count: row.unit_count,
        cancel_reason: cancel_reason(row.cancel_reason).into(),
        create_time: Some(time(row.created_at)),
        update_time: Some(time(row.updated_at)),
        effective_time: Some(time(row.effective_at)),
        version: int(row.version),
        position: Some(position(row.position())),
    }
}

pub(super) fn timeline_entry(row: TimelineEntry) -> wire::TimelineEntry {
    wire::TimelineEntry {
        position: Some(position(row.position())),
        stream_id: row.stream_id.as_str().to_owned(),
        version: int(row.version),
        event_type: row.event_type,
        summary: row.summary,
        record_time: Some(time(row.recorded_at)),
        effective_time: Some(time(row.effective_at)),
        actor: row.actor,
    }
}

/// The order's own status; while it is submitted, its checkout knows more.
fn status_in(own: OrderStatus, stage: Option<Stage>) -> wire::OrderStatus {
    match (own, stage) {
        (OrderStatus::Submitted, Some(Stage::PaymentUnknown)) => wire::OrderStatus::PaymentUnknown,
        (own, _) => status(own),
    }
}

pub(super) const fn status(status: OrderStatus) -> wire::OrderStatus {
    match status {
        OrderStatus::Draft => wire::OrderStatus::Draft,
        OrderStatus::Submitted => wire::OrderStatus::Submitted,
        OrderStatus::AwaitingPayment => wire::OrderStatus::AwaitingPayment,
        OrderStatus::Confirmed => wire::OrderStatus::Confirmed,
        OrderStatus::Cancelling => wire::OrderStatus::Cancelling,
        OrderStatus::Cancelled => wire::OrderStatus::Cancelled,
    }
}

const fn cancel_reason(reason: Option<CancelReason>) -> wire::CancelReason {
    match reason {
        None => wire::CancelReason::Unspecified,
        Some(CancelReason::Customer) => wire::CancelReason::Customer,
        Some(CancelReason::Staff) => wire::CancelReason::Staff,
        Some(CancelReason::OutOfStock) => wire::CancelReason::OutOfStock,
        Some(CancelReason::OutOfStockAfterPayment) => wire::CancelReason::OutOfStockAfterPayment,
        Some(CancelReason::PaymentDeclined) => wire::CancelReason::PaymentDeclined,
        // The wire has one word for both: the money did not come in time.
        Some(CancelReason::PaymentUnknown | CancelReason::Expired) => wire::CancelReason::PaymentTimeout,
        Some(CancelReason::Timeout) => wire::CancelReason::Timeout,
    }
}
