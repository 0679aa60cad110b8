//! Whether each service can do its work: grpc.health.v1.

use std::sync::Arc;
use std::time::Duration;

use shopstream_command_handlers::{Commands, PartitionState};
use shopstream_proto::{admin, catalog, event, inventory, order, payment, process, returns};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// Whether the read side runs; asked again and again, so it must be quick.
pub type ReadSide = Arc<dyn Fn() -> bool + Send + Sync>;

/// The services that change and show the shop: they need every partition and the projections.
const SHOP: [&str; 6] = [
    catalog::v1::product_service_server::SERVICE_NAME,
    inventory::v1::inventory_service_server::SERVICE_NAME,
    order::v1::order_service_server::SERVICE_NAME,
    payment::v1::payment_service_server::SERVICE_NAME,
    process::v1::process_service_server::SERVICE_NAME,
    returns::v1::return_service_server::SERVICE_NAME,
];

/// Those that can be asked in every state: that is what they are for.
const LOOKED_AT: [&str; 2] =
    [admin::v1::admin_service_server::SERVICE_NAME, event::v1::event_service_server::SERVICE_NAME];

/// Keeps the health service told, until `stop`; then nothing serves.
pub(crate) async fn watch(
    health: HealthReporter,
    commands: Commands,
    read_side: ReadSide,
    stop: CancellationToken,
) {
    for service in LOOKED_AT {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let mut told = None;
    loop {
        let serving = serves(&commands) && read_side();
        if told != Some(serving) {
            tell(&health, serving).await;
            told = Some(serving);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
    tell(&health, false).await;
    for service in LOOKED_AT {
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
}

async fn tell(health: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    // The empty name is the server as a whole.
    for service in SHOP.into_iter().chain([""]) {
        health.set_service_status(service, status).await;
    }
}

fn serves(commands: &Commands) -> bool {
    commands.status().iter().all(|partition| match partition.state {
        // In doubt for a moment: commands wait, nothing is refused.
        PartitionState::Serving | PartitionState::InDoubt { .. } => true,
        // Sent on, if it is known where.
        PartitionState::Elsewhere => commands.coordinator().locate(partition.partition).is_some(),
        PartitionState::Claiming
        | PartitionState::Fenced { .. }
        | PartitionState::Halted { .. }
        | PartitionState::Unavailable { .. }
        | PartitionState::Released => false,
    })
}
