//! What all commands and all queries have in common.
//!
//! Neither are the requests about the log itself (they ask for positions, they do not wait for one) and the stream of
//! `ProcessBulkOrders`, whose items are commands.

use crate::Validate;
use crate::catalog::v1::*;
use crate::inventory::v1::*;
use crate::order::v1::*;
use crate::payment::v1::*;
use crate::process::v1::*;
use crate::returns::v1::*;
use crate::r#type::v1::Position;

/// A request that changes something.
///
/// A command is asked for under an id of the caller's choice, and may be asked for again under the same id.
pub trait Command: prost::Message + Validate {
    /// The caller's idempotency key. [`Validate`] has the rule that it is not empty.
    fn request_id(&self) -> &str;

    /// The version that the caller believes the target to have, or `None` when any will do.
    fn expected_version(&self) -> Option<i64>;

    /// Takes the idempotency key out, so that what is left, encoded, is what the client meant: equal for a repeat, and
    /// different for another command under the same key.
    fn take_request_id(&mut self) -> String;
}

/// A request that only reads.
pub trait Query: prost::Message + Validate {
    /// The answer has to reflect at least these positions.
    fn min_position(&self) -> &[Position];
}

macro_rules! commands {
    ($($request:ident)*) => {$(
        impl Command for $request {
            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn expected_version(&self) -> Option<i64> {
                self.expected_version
            }

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }
        }
    )*};
}

macro_rules! queries {
    ($($request:ident)*) => {$(
        impl Query for $request {
            fn min_position(&self) -> &[Position] {
                &self.min_position
            }
        }
    )*};
}

commands! {
    CreateProductRequest UpdateProductRequest DeleteProductRequest SetPriceRequest
    UpdateStockRequest ReserveStockRequest ReleaseStockRequest
    CreateOrderRequest CancelOrderRequest UpdateOrderStatusRequest
    ProcessPaymentRequest CapturePaymentRequest RefundPaymentRequest RecordProviderSignalRequest
    CreateReturnRequest
    ResumeProcessRequest
}

queries! {
    GetProductRequest
    GetStockRequest StreamStockUpdatesRequest
    GetOrderRequest GetUserOrdersRequest StreamOrderUpdatesRequest TrackOrderRequest
    GetPaymentRequest
    GetReturnRequest
    ListStoppedProcessesRequest
}
