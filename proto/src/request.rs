//! What all commands and all queries have in common.
//!
//! Neither are the requests about the log itself (they ask for positions, they do not wait for one) and the stream of
//! `ProcessBulkOrders`, whose items are commands.

use crate::Validate;
use crate::admin::v1::*;
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
    /// The name of the message, which tells the methods apart: each has a request of its own.
    const NAME: &'static str;

    /// How far the caller's key counts.
    const SCOPE: Scope;

    /// The caller's idempotency key. [`Validate`] has the rule that it is not empty.
    fn request_id(&self) -> &str;

    /// The version that the caller believes the target to have, or `None` when any will do.
    fn expected_version(&self) -> Option<i64>;

    /// Takes the idempotency key out, so that what is left, encoded, is what the client meant: equal for a repeat, and
    /// different for another command under the same key.
    fn take_request_id(&mut self) -> String;
}

/// Where an idempotency key means one thing only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the whole tenant: with another method, target or body it is refused.
    Tenant,
    /// On the command's own stream: a stock item, or a price. There are so many of these commands that a record more for
    /// each would be felt.
    Target,
}

/// A request that only reads.
pub trait Query: prost::Message + Validate {
    /// The answer has to reflect at least these positions.
    fn min_position(&self) -> &[Position];
}

/// A request for a stream without end, which goes on where another broke off.
pub trait Resumable: Query {
    /// Takes out where to begin, so that what is left, encoded, is what the stream is about: equal whenever it goes on.
    fn take_beginning(&mut self) -> Beginning;
}

/// Where a stream begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beginning {
    /// What its first message has to reflect at least.
    pub min_position: Vec<Position>,
    /// The token of the message after which it goes on; empty for a new stream.
    pub resume_token: String,
}

/// A request for a list, which is answered in pages.
pub trait Paged: prost::Message + Validate {
    /// Takes out which page, so that what is left, encoded, is what the list is of: equal for every page of it.
    fn take_page(&mut self) -> AskedPage;
}

/// Which page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedPage {
    /// How many rows at most; 0 where the request leaves it open. [`Validate`] has the rule that it is not negative.
    pub size: i32,
    /// The token that came with the page before; empty for the first.
    pub token: String,
}

macro_rules! commands {
    ($($scope:ident: $($request:ident)*;)*) => {$($(
        impl Command for $request {
            const NAME: &'static str = stringify!($request);
            const SCOPE: Scope = Scope::$scope;

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
    )*)*};
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

macro_rules! resumable {
    ($($request:ident)*) => {$(
        impl Resumable for $request {
            fn take_beginning(&mut self) -> Beginning {
                Beginning {
                    min_position: std::mem::take(&mut self.min_position),
                    resume_token: std::mem::take(&mut self.resume_token),
                }
            }
        }
    )*};
}

macro_rules! paged {
    ($($request:ident)*) => {$(
        impl Paged for $request {
            fn take_page(&mut self) -> AskedPage {
                let size = std::mem::take(&mut self.page_size);
                AskedPage { size, token: std::mem::take(&mut self.page_token) }
            }
        }
    )*};
}

commands! {
    Tenant:
    CreateProductRequest UpdateProductRequest DeleteProductRequest
    ReserveStockRequest ReleaseStockRequest
    CreateOrderRequest CancelOrderRequest UpdateOrderStatusRequest
    ProcessPaymentRequest CapturePaymentRequest RefundPaymentRequest RecordProviderSignalRequest
    CreateReturnRequest
    ResumeProcessRequest SettleProcessRequest;

    Target:
    UpdateStockRequest
    SetPriceRequest;
}

queries! {
    GetProductRequest
    GetStockRequest StreamStockUpdatesRequest
    GetOrderRequest GetUserOrdersRequest StreamOrderUpdatesRequest TrackOrderRequest
    GetPaymentRequest
    GetReturnRequest
    ListStoppedProcessesRequest
}

resumable! {
    StreamStockUpdatesRequest
    StreamOrderUpdatesRequest TrackOrderRequest
}

paged! {
    GetUserOrdersRequest
    ListStoppedProcessesRequest
    ListParkedAggregatesRequest ListSkippedEventsRequest
}
