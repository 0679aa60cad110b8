//! What somebody wants of an order, and what a checkout has learned.

use serde::{Deserialize, Serialize};

use super::{CancelReason, LineOffer, Placement, ReturnedLine, Step};
use crate::{PaymentId, ReservationId, ReturnId};

/// A command for an [`Order`](super::Order).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Order this; the checkout starts.
    Submit(Placement),
    /// Keep this for later; nothing starts.
    Draft(Placement),
    /// Submit what was drafted, at what it is sold for now.
    Place {
        /// How to pay, where the draft does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payment_method_token: Option<String>,
        /// What the SKUs of the draft are sold for.
        #[serde(default)]
        offers: Vec<LineOffer>,
    },
    /// The customer must act before the payment can go on (checkout).
    RecordAwaitingPayment {
        /// The payment that was declined or wants an action.
        payment_id: PaymentId,
        /// The provider's word for it.
        code: String,
    },
    /// Stock is committed and the payment secured (checkout).
    Confirm {
        /// The committed reservation.
        reservation_id: ReservationId,
        /// The payments that cover the total.
        payments: Vec<PaymentId>,
    },
    /// Somebody wants out; the checkout undoes and then cancels. A draft is cancelled at once.
    RequestCancellation {
        /// Who wants it.
        reason: CancelReason,
    },
    /// Everything is undone (checkout).
    Cancel {
        /// Why the order ends here.
        reason: CancelReason,
    },
    /// Units come back (return process).
    RecordReturn {
        /// The return that takes them; one return is recorded once.
        return_id: ReturnId,
        /// Which units.
        lines: Vec<ReturnedLine>,
    },
}

/// A command for a [`Checkout`](super::Checkout).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CheckoutCommand {
    /// Remember a fact that the process learned or decided.
    Record(Step),
    /// Go on where you stopped (operator).
    Resume {
        /// What the operator found or did.
        reason: String,
    },
    /// Go on where you stopped, and take this as done by hand (operator).
    Settle {
        /// What had to be taken, let go or given back.
        money: bool,
        /// What the stock items had to do.
        stock: bool,
        /// What the operator found or did.
        reason: String,
    },
}
