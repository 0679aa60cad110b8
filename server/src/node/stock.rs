//! The gateway's door to the processes: holds over several stock items.

use async_trait::async_trait;
use shopstream_command_handlers::Origin;
use shopstream_domain::inventory::{Allocation, ReleaseReason};
use shopstream_domain::{ReservationId, TenantId};
use shopstream_gateway::{Hold, ReservationError, StockReservations};
use shopstream_sagas::{HoldRequest, StockError, StockFanOut};

/// The fan-out as the gateway wants it.
pub(super) struct Stock(pub(super) StockFanOut);

#[async_trait]
impl StockReservations for Stock {
    async fn reserve(&self, hold: Hold, origin: Origin) -> Result<Allocation, ReservationError> {
        let Hold { tenant, reservation_id, keys, hold_seconds, hard_max_seconds } = hold;
        let request = HoldRequest { tenant, reservation_id, keys, hold_seconds, hard_max_seconds };
        self.0.reserve(request, &origin).await.map_err(reservation_error)
    }

    async fn release(
        &self,
        tenant: TenantId,
        reservation_id: ReservationId,
        reason: ReleaseReason,
        origin: Origin,
    ) -> Result<(), ReservationError> {
        self.0.release(&tenant, &reservation_id, reason, &origin).await.map_err(reservation_error)
    }
}

fn reservation_error(error: StockError) -> ReservationError {
    match error {
        StockError::Refused(refused) => ReservationError::Refused(refused),
        StockError::Unavailable { detail } => ReservationError::Unavailable { detail },
    }
}
