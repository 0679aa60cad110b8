//! The epochs of views: each rebuild fills tables of its own, and one statement decides which of them answer.

use deadpool_postgres::Transaction;
use tokio_postgres::GenericClient;

use crate::{Database, DatabaseError, Projection, journal};

/// The epoch of a view that was never rebuilt.
pub(crate) const FIRST: u32 = 1;

/// From here on epochs are copies to compare with, which never answer queries.
const SCRATCH: u32 = 1_000_000;

/// The epoch of each projection that answers queries, in the order of [`Projection::ALL`].
pub(crate) async fn active(database: &Database) -> Result<[u32; Projection::ALL.len()], DatabaseError> {
    let mut epochs = [FIRST; Projection::ALL.len()];
    for row in database.client().await?.query("SELECT projection, active_epoch FROM read_model", &[]).await? {
        let (name, epoch): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
        // A projection that this program does not know is a newer program's, and nobody here asks for it.
        if let (Some(projection), Ok(epoch)) = (Projection::from_name(&name), u32::try_from(epoch)) {
            epochs[projection.index()] = epoch;
        }
    }
    Ok(epochs)
}

/// An epoch of a view beside its active one, of this program's tables: one that was begun and not finished, or a new one.
/// `tables` says how they are made in an epoch.
pub(crate) async fn next(
    database: &Database,
    projection: Projection,
    active: u32,
    tables: impl Fn(u32) -> String,
) -> Result<u32, DatabaseError> {
    let sql =
        "SELECT epoch, tables FROM read_model_epoch WHERE projection = $1 AND epoch < $2 ORDER BY epoch";
    let mut highest = active;
    for row in database.client().await?.query(sql, &[&projection.name(), &(SCRATCH as i32)]).await? {
        let epoch = row.try_get::<_, i32>(0)?.unsigned_abs();
        if epoch != active && row.try_get::<_, String>(1)? == tables(epoch) {
            return Ok(epoch);
        }
        highest = highest.max(epoch);
    }
    Ok(highest + 1)
}

/// Makes `epoch` the one that answers queries, for whoever opens the read models from now on.
pub(crate) async fn activate(
    client: &impl GenericClient,
    projection: Projection,
    epoch: u32,
) -> Result<(), DatabaseError> {
    client
        .execute(
            "INSERT INTO read_model (projection, active_epoch) VALUES ($1, $2) \
             ON CONFLICT (projection) DO UPDATE SET active_epoch = excluded.active_epoch",
            &[&projection.name(), &(epoch as i32)],
        )
        .await?;
    Ok(())
}

/// Drops a projection's tables of an epoch, and what was noted about it. The live journal's table is emptied.
pub(crate) async fn drop_epoch(
    client: &impl GenericClient,
    projection: Projection,
    epoch: u32,
) -> Result<(), DatabaseError> {
    let drop_tables = if projection.is_fixed(epoch) {
        format!("TRUNCATE {}", journal::TABLE)
    } else {
        format!("DROP SCHEMA IF EXISTS {} CASCADE", projection.schema(epoch))
    };
    client.batch_execute(&drop_tables).await?;
    let (name, epoch) = (projection.name(), epoch as i32);
    client
        .execute("DELETE FROM read_model_epoch WHERE projection = $1 AND epoch = $2", &[&name, &epoch])
        .await?;
    client.execute("DELETE FROM checkpoint WHERE reader = $1 AND epoch = $2", &[&name, &epoch]).await?;
    client.execute("DELETE FROM parked WHERE projection = $1 AND epoch = $2", &[&name, &epoch]).await?;
    Ok(())
}

/// Makes a view's tables of an epoch by the statements `tables`, where there are none yet.
///
/// # Errors
/// [`DatabaseError::OtherShape`] where they were made by a program whose tables look otherwise.
pub(crate) async fn create(
    transaction: &Transaction<'_>,
    projection: Projection,
    epoch: u32,
    tables: &str,
) -> Result<(), DatabaseError> {
    let (name, number) = (projection.name(), epoch as i32);
    // Two projectors that start at once wait for each other here.
    let made = transaction
        .execute(
            "INSERT INTO read_model_epoch (projection, epoch, tables) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[&name, &number, &tables],
        )
        .await?;
    if made > 0 {
        let schema = projection.schema(epoch);
        transaction.batch_execute(&format!("CREATE SCHEMA {schema};\n{tables}")).await?;
        return Ok(());
    }
    let row = transaction
        .query_one(
            "SELECT tables FROM read_model_epoch WHERE projection = $1 AND epoch = $2",
            &[&name, &number],
        )
        .await?;
    if row.try_get::<_, String>(0)? == tables {
        Ok(())
    } else {
        Err(DatabaseError::OtherShape { projection })
    }
}
