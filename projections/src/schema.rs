//! The fixed tables, and whose log they were filled from.

use deadpool_postgres::Object;
use shopstream_eventlog::{LogId, Topology};

use crate::{Database, DatabaseError};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Two nodes that start at once migrate one after the other. Any number will do, as long as it stays the same.
const MIGRATION_LOCK: i64 = 0x5348_4f50;

impl Database {
    /// Brings the fixed tables up to date, and binds an empty database to the log of `topology`.
    ///
    /// # Errors
    /// [`DatabaseError::OtherLog`] where it was filled from another log.
    pub async fn prepare(&self, topology: Topology) -> Result<(), DatabaseError> {
        let mut client = self.client().await?;
        client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
        let prepared = prepare(&mut client, topology).await;
        // A lock of the session would outlive this call in the pool. Where this fails, so has the session.
        client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await?;
        prepared
    }

    /// Brings the fixed tables up to date, whatever log they were filled from. Only while no node runs.
    ///
    /// # Errors
    /// The database does not answer, or was made by a newer program.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        migrate(&mut self.client().await?).await
    }
}

async fn migrate(client: &mut Object) -> Result<(), DatabaseError> {
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
