//! The leases in Postgres, as the coordinator wants them.

use async_trait::async_trait;
use futures::future::try_join;
use shopstream_command_handlers::coordinator::{Duty, Lease, LeaseError, LeaseStore, Member, View};
use shopstream_projections::{DatabaseError, LeaseRow, LeaseTable, MemberRow};
use tokio::sync::watch;
use tokio::time::Duration;

/// See [`LeaseStore`].
pub(super) struct PostgresLeases(pub(super) LeaseTable);

#[async_trait]
impl LeaseStore for PostgresLeases {
    async fn renew(
        &self,
        me: &Member,
        leaving: bool,
        held: &[(Duty, u64)],
        term: Duration,
    ) -> Result<View, LeaseError> {
        let Self(table) = self;
        let (me, held) = (row(me, term), held.iter().map(|(duty, epoch)| (duty.to_string(), *epoch)));
        let held: Vec<_> = held.collect();
        let join = async { if leaving { Ok(()) } else { table.join(&me).await } };
        // Two questions at a time are one journey.
        let ((), kept) = try_join(join, table.renew(me.id, &held, term)).await.map_err(unavailable)?;
        let (members, leases) = try_join(table.members(), table.leases()).await.map_err(unavailable)?;
        Ok(View {
            kept: kept.iter().filter_map(|duty| duty.parse().ok()).collect(),
            members: members.into_iter().map(member).collect(),
            leases: leases.into_iter().filter_map(lease).collect(),
        })
    }

    async fn acquire(
        &self,
        me: &Member,
        duty: Duty,
        seen: u64,
        expired: bool,
        term: Duration,
    ) -> Result<Option<u64>, LeaseError> {
        let (me, duty) = (row(me, term), duty.to_string());
        self.0.acquire(&me, &duty, seen, expired, term).await.map_err(unavailable)
    }

    async fn release(&self, me: &Member, duty: Duty) -> Result<(), LeaseError> {
        self.0.release(me.id, &duty.to_string()).await.map_err(unavailable)
    }

    async fn leave(&self, me: &Member) -> Result<(), LeaseError> {
        self.0.leave(me.id).await.map_err(unavailable)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

fn row(me: &Member, left: Duration) -> MemberRow {
    let Member { id, node, address, commands } = me.clone();
    MemberRow { id, node, address, commands, left }
}

fn member(row: MemberRow) -> (Member, Duration) {
    let MemberRow { id, node, address, commands, left } = row;
    (Member { id, node, address, commands }, left)
}

/// `None`: a duty of a newer program.
fn lease(row: LeaseRow) -> Option<Lease> {
    let LeaseRow { duty, epoch, holder, node, address, left } = row;
    Some(Lease { duty: duty.parse().ok()?, epoch, holder, node, address, left })
}

fn unavailable(error: DatabaseError) -> LeaseError {
    LeaseError { detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use shopstream_command_handlers::testing::lease_contract;
    use shopstream_eventlog::{LogId, Topology};
    use shopstream_test_servers::postgres;
    use uuid::Uuid;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_table_in_postgres_keeps_the_contract_of_leases() {
        let database = postgres::database().await.database;
        let log = LogId(Uuid::new_v4());
        database.prepare(Topology { log, generation: 1, partitions: 4 }).await.expect("tables");
        lease_contract(async || PostgresLeases(LeaseTable::open(&database))).await;
    }
}
