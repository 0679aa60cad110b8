//! The fixed tables, and whose log they were filled from.

use std::time::Duration;

use deadpool_postgres::Object;
use shopstream_eventlog::{LogId, Topology};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::{Database, DatabaseError};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Two nodes that start at once migrate one after the other. Any number will do, as long as it stays the same.
const MIGRATION_LOCK: i64 = 0x5348_4f50;
/// How long another node may migrate.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Between two looks whether it has ended, and between two lines that say so.
const LOOK: Duration = Duration::from_millis(50);
const TELL: Duration = Duration::from_secs(10);

impl Database {
    /// Brings the fixed tables up to date, and binds an empty database to the log of `topology`.
    ///
    /// # Errors
    /// [`DatabaseError::OtherLog`] where it was filled from another log.
    pub async fn prepare(&self, topology: Topology) -> Result<(), DatabaseError> {
        let mut client = self.client().await?;
        take_turn(&client).await?;
        let prepared = prepare(&mut client, topology).await;
        // A lock of the session would outlive this call in the pool. Where this fails, so has the session.
        client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await?;
        prepared?;
        // From here on there is something to lose.
        self.server().greet(&client).await?;
        Ok(())
    }

    /// Brings the fixed tables up to date, whatever log they were filled from. Only while no node runs.
    ///
    /// # Errors
    /// The database does not answer, or was made by a newer program.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        migrate(&mut self.client().await?).await
    }
}

/// Waits until no other process migrates, and says for whom it waits.
async fn take_turn(client: &Object) -> Result<(), DatabaseError> {
    let deadline = Instant::now() + PATIENCE;
    let mut tell_at = Instant::now();
    loop {
        let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
        if row.try_get(0)? {
            return Ok(());
        }
        // The low half of the number is the object, and the high half, which is empty, the class.
        let sql = "SELECT coalesce(string_agg(format('%s, process %s of %s', a.application_name, a.pid, \
                   coalesce(host(a.client_addr), 'this machine')), '; '), 'unknown') \
                   FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid) \
                   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = 0 \
                   AND l.objid::int8 = $1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let holder: String = client.query_one(sql, &[&MIGRATION_LOCK]).await?.try_get(0)?;
        if Instant::now() >= deadline {
            return Err(DatabaseError::Migrating { holder });
        }
        if Instant::now() >= tell_at {
            warn!(holder, "waiting for another process that brings the tables up to date");
            tell_at = Instant::now() + TELL;
        }
        sleep(LOOK).await;
    }
}

async fn migrate(client: &mut Object) -> Result<(), DatabaseError> {
    // An index over a long journal takes its time.
    client.batch_execute("SET statement_timeout TO 0").await?;
    let migrated = run_migrations(client).await;
    // To what the connection began with. Where this fails, so has the session.
    client.batch_execute("RESET statement_timeout").await?;
    migrated
}

async fn run_migrations(client: &mut Object) -> Result<(), DatabaseError> {
    // Through the pool's wrapper to the client that refinery knows.
    let plain: &mut tokio_postgres::Client = &mut *client;
    embedded::migrations::runner().run_async(plain).await?;
    Ok(())
}

async fn prepare(client: &mut Object, topology: Topology) -> Result<(), DatabaseError> {
    migrate(client).await?;
    let row = client.query_opt("SELECT log_id, generation, partitions FROM log_identity", &[]).await?;
    let Some(row) = row else {
        client
            .execute(
                "INSERT INTO log_identity (log_id, generation, partitions) VALUES ($1, $2, $3)",
                &[&topology.log.0, &i64::from(topology.generation), &i32::from(topology.partitions)],
            )
            .await?;
        return Ok(());
    };
    let stored = LogId(row.try_get(0)?);
    if stored == topology.log { Ok(()) } else { Err(DatabaseError::OtherLog { stored, found: topology.log }) }
}
