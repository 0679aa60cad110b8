//! A view whose tables were made by another version of the program is filled again from the log, in tables of its own.

use shopstream_eventlog::{Cursor, Log};
use tracing::{info, warn};

use crate::applier::Applier;
use crate::{Database, DatabaseError, Projection, RebuildError, epoch, views};

/// Opens a view in the epoch that answers queries. Where that one has the tables of another version, a new epoch is filled
/// from the log as far as it goes now, then answers in its place, and the old one is dropped: nobody keeps it current any
/// more. Broken off, the same call goes on with what was filled.
pub(super) async fn open(
    database: &Database,
    log: &Log,
    projection: Projection,
) -> Result<(u32, Applier), DatabaseError> {
    let active = database.active_epoch(projection).await?;
    match Applier::open(database, log, projection, active).await {
        Err(DatabaseError::OtherShape { .. }) => {}
        opened => return Ok((active, opened?)),
    }
    let tables = |epoch| views::tables(&views::parts(projection, &projection.schema(epoch)));
    let new = epoch::next(database, projection, active, tables).await?;
    warn!(
        %projection, epoch = new,
        "the tables of {projection} were made by another version of this program: it is filled again from the log"
    );
    fill(database, log, projection, new).await?;
    database.activate_epoch(projection, new).await?;
    let applier = Applier::open(database, log, projection, new).await?;
    database.drop_epoch(projection, active).await?;
    info!(%projection, epoch = new, "{projection} is filled");
    Ok((new, applier))
}

async fn fill(
    database: &Database,
    log: &Log,
    projection: Projection,
    epoch: u32,
) -> Result<(), DatabaseError> {
    let mut until = Vec::new();
    for partition in 0..log.partitions() {
        // Only where it ends is asked; what comes after is read like everything that comes later.
        match log.end(partition).await {
            Ok(next) => until.push(Cursor { next, ..log.start(partition) }),
            Err(error) => warn!(%error, partition, "the end of the partition is not known: it is read later"),
        }
    }
    match database.rebuild(log, projection, epoch, &until, |_| {}).await {
        Ok(()) => Ok(()),
        // What is filled stays; the view reads the rest by itself, and says what is wrong with the log.
        Err(error @ (RebuildError::Away { .. } | RebuildError::Halted { .. })) => {
            warn!(%error, %projection, "it is filled as far as the log can be read now");
            Ok(())
        }
        Err(RebuildError::Checkpoint(error)) => Err(error.into_database(projection)),
    }
}
