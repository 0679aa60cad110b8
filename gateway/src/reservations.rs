//! The door to the process that holds stock over several shards. The server puts the saga behind it.

use async_trait::async_trait;
use shopstream_command_handlers::Origin;
use shopstream_domain::inventory::{Allocation, ReleaseReason, StockKey};
use shopstream_domain::{Refused, ReservationId, TenantId};

/// Holds and releases stock, all lines or none (`rulings.md` 19).
#[async_trait]
pub trait StockReservations: Send + Sync + 'static {
    /// Holds every key or none. Asking again gives the same answer; dropping the future stops nothing.
    ///
    /// # Errors
    /// See [`ReservationError`].
    async fn reserve(&self, hold: Hold, origin: Origin) -> Result<Allocation, ReservationError>;

    /// Gives back what the reservation holds, or ever would. Dropping the future stops nothing.
    ///
    /// # Errors
    /// See [`ReservationError`].
    async fn release(
        &self,
        tenant: TenantId,
        reservation_id: ReservationId,
        reason: ReleaseReason,
        origin: Origin,
    ) -> Result<(), ReservationError>;
}

/// A wish to hold stock.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// Whose shop.
    pub tenant: TenantId,
    /// The reservation.
    pub reservation_id: ReservationId,
    /// Demand, summed per SKU and location; each occurs once.
    pub keys: Vec<StockKey>,
    /// How long.
    pub hold_seconds: u32,
    /// How long with all extensions.
    pub hard_max_seconds: u32,
}

/// Why the stock was neither held nor denied, or not released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReservationError {
    /// A rule forbids it.
    #[error("{0}")]
    Refused(Refused),
    /// Somebody did not answer in time; what was begun goes on, and asking again tells its outcome.
    #[error("the stock is not available: {detail}")]
    Unavailable {
        /// Who, and why.
        detail: String,
    },
}
