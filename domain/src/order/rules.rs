//! What an order allows, and when.

use super::placement::check_token;
use super::{
    CancelReason, Error, Event, Line, LineOffer, Order, OrderAwaitingPayment, OrderCancellationRequested,
    OrderCancelled, OrderConfirmed, OrderDrafted, OrderStatus, OrderSubmitted, OrderUnitsReturned, Placement,
    ReturnedLine,
};
use crate::text::LABEL;
use crate::{PaymentId, ReservationId, ReturnId};

impl Order {
    pub(super) fn submit(&self, placement: &Placement) -> Result<Vec<Event>, Error> {
        placement.check()?;
        match (self.status, &placement.payment_method_token) {
            (Some(_), _) => Err(Error::AlreadyExists),
            (None, None) => Err(Error::PaymentMethod),
            (None, Some(_)) => Ok(vec![Event::Submitted(OrderSubmitted { placement: placement.clone() })]),
        }
    }

    pub(super) fn write_draft(&self, placement: &Placement) -> Result<Vec<Event>, Error> {
        placement.check()?;
        match self.status {
            Some(_) => Err(Error::AlreadyExists),
            None => Ok(vec![Event::Drafted(OrderDrafted { placement: placement.clone() })]),
        }
    }

    /// A draft is sold like any other order: what of it is on sale now, at the price of now. Only a price that was named
    /// in place of the list price stays, and the draft's own means of payment.
    pub(super) fn place(&self, token: Option<&String>, offers: &[LineOffer]) -> Result<Vec<Event>, Error> {
        check_token(token.map(String::as_str))?;
        match (self.found()?, &self.draft) {
            (OrderStatus::Cancelled, _) => Err(Error::AlreadyCancelled),
            (OrderStatus::Draft, Some(draft)) => {
                let token = draft.payment_method_token.as_ref().or(token).ok_or(Error::PaymentMethod)?;
                let placement = draft.at(offers, token)?;
                Ok(vec![Event::Submitted(OrderSubmitted { placement })])
            }
            // A draft without a placement there is not.
            (
                status @ (OrderStatus::Draft
                | OrderStatus::Submitted
                | OrderStatus::AwaitingPayment
                | OrderStatus::Confirmed),
                _,
            ) => Err(Error::AlreadyPlaced { status }),
        }
    }

    pub(super) fn await_payment(&self, payment_id: &PaymentId, code: &str) -> Result<Vec<Event>, Error> {
        self.in_checkout()?;
        let event =
            OrderAwaitingPayment { payment_id: payment_id.clone(), code: LABEL.tidy(code).into_owned() };
        let known = self.awaiting.as_ref() == Some(&event);
        Ok(if known { vec![] } else { vec![Event::AwaitingPayment(event)] })
    }

    pub(super) fn confirm(
        &self,
        reservation_id: &ReservationId,
        payments: &[PaymentId],
    ) -> Result<Vec<Event>, Error> {
        if self.status == Some(OrderStatus::Confirmed) {
            return Ok(vec![]);
        }
        self.in_checkout()?;
        if payments.is_empty() {
            return Err(Error::NoPayments);
        }
        let (reservation_id, payments) = (reservation_id.clone(), payments.to_vec());
        Ok(vec![Event::Confirmed(OrderConfirmed { reservation_id, payments })])
    }

    pub(super) fn request_cancellation(&self, reason: CancelReason) -> Result<Vec<Event>, Error> {
        match self.found()? {
            OrderStatus::Draft => Ok(vec![Event::Cancelled(OrderCancelled { reason })]),
            OrderStatus::Cancelled => Ok(vec![]),
            OrderStatus::Submitted | OrderStatus::AwaitingPayment | OrderStatus::Confirmed => {
                match self.cancellation {
                    Some(_) => Ok(vec![]),
                    // Its units are on their way back one by one; reversing all of it would refund them twice.
                    None if !self.returns.is_empty() => Err(Error::UnitsReturned),
                    None => Ok(vec![Event::CancellationRequested(OrderCancellationRequested { reason })]),
                }
            }
        }
    }

    pub(super) fn cancel(&self, reason: CancelReason) -> Result<Vec<Event>, Error> {
        match (self.found()?, self.cancellation) {
            (OrderStatus::Cancelled, _) => Ok(vec![]),
            (OrderStatus::Confirmed, None) => Err(Error::CancellationNotRequested),
            (OrderStatus::Confirmed, Some(_))
            | (OrderStatus::Draft | OrderStatus::Submitted | OrderStatus::AwaitingPayment, _) => {
                Ok(vec![Event::Cancelled(OrderCancelled { reason })])
            }
        }
    }

    pub(super) fn record_return(
        &self,
        return_id: &ReturnId,
        lines: &[ReturnedLine],
    ) -> Result<Vec<Event>, Error> {
        let status = self.found()?;
        if self.has_return(return_id) {
            return Ok(vec![]);
        }
        match (status, self.cancellation) {
            (OrderStatus::Confirmed, None) => {}
            (OrderStatus::Confirmed, Some(_)) => return Err(Error::CancellationRequested),
            (status, _) => return Err(Error::NotConfirmed { status }),
        }
        let refund_minor = self.refund_of(lines)?;
        let (return_id, lines) = (return_id.clone(), lines.to_vec());
        Ok(vec![Event::UnitsReturned(OrderUnitsReturned { return_id, lines, refund_minor })])
    }

    /// The price of `returned`, if all of it is still with the customer. A line may be named more than once.
    fn refund_of(&self, returned: &[ReturnedLine]) -> Result<i64, Error> {
        if returned.is_empty() {
            return Err(Error::NothingReturned);
        }
        let mut left: Vec<i64> = self.lines.iter().map(Line::left).collect();
        returned.iter().enumerate().try_fold(0_i64, |sum, (index, ReturnedLine { line, quantity })| {
            let at = usize::try_from(*line).unwrap_or(usize::MAX);
            let (Some(left), Some(sold)) = (left.get_mut(at), self.lines.get(at)) else {
                return Err(Error::NoSuchLine { index, line: *line });
            };
            let asked = quantity.get();
            if asked > *left {
                return Err(Error::TooManyUnits { index, line: *line, asked, left: *left });
            }
            *left -= asked;
            let price = sold.unit_price_minor.checked_mul(asked);
            price.and_then(|price| sum.checked_add(price)).ok_or(Error::Overflow { index })
        })
    }

    fn found(&self) -> Result<OrderStatus, Error> {
        self.status.ok_or(Error::NotFound)
    }

    /// Whether the checkout may still move this order forward.
    fn in_checkout(&self) -> Result<(), Error> {
        match (self.found()?, self.cancellation) {
            (OrderStatus::Draft, _) => Err(Error::NotPlaced),
            (OrderStatus::Confirmed, _) => Err(Error::AlreadyConfirmed),
            (OrderStatus::Cancelled, _) => Err(Error::AlreadyCancelled),
            (OrderStatus::Submitted | OrderStatus::AwaitingPayment, Some(_)) => {
                Err(Error::CancellationRequested)
            }
            (OrderStatus::Submitted | OrderStatus::AwaitingPayment, None) => Ok(()),
        }
    }
}
