//! Follows the log for the journal or the views, as the projector does for the real ones.

use std::time::Duration;

use shopstream_eventlog::{Cursor, Log};
use shopstream_projections::{Progress, Projection};
use tokio::time::sleep;

use super::{Database, Reader, Trouble};

/// Between two tries.
const RETRY: Duration = Duration::from_millis(200);

/// Reads on from the checkpoints for ever. Whoever is overtaken, or does not know whether its transaction happened, asks
/// where the checkpoints are: what was written twice would be twice in the journal.
pub(crate) async fn follow(database: Database, log: Log, who: Reader, read_bytes: usize) {
    loop {
        let saved = database.checkpoints(who);
        let from = |partition| saved.iter().find(|cursor| cursor.partition == partition).copied();
        let starts: Vec<Cursor> = (0..log.partitions())
            .map(|partition| from(partition).unwrap_or_else(|| log.start(partition)))
            .collect();
        if let Ok(reader) = log.reader(&starts).await {
            read_on(&database, who, reader, saved, read_bytes).await;
        }
        sleep(RETRY).await;
    }
}

/// Until something goes wrong.
async fn read_on(
    database: &Database,
    who: Reader,
    mut reader: shopstream_eventlog::Reader,
    mut saved: Vec<Cursor>,
    read_bytes: usize,
) {
    while let Ok(batch) = reader.next(read_bytes).await {
        while database.is_stalled(who) {
            sleep(RETRY).await;
        }
        match database.write(who, &saved, &batch) {
            Ok(()) => {}
            Err(Trouble::Unavailable | Trouble::Overtaken { .. }) => return,
        }
        saved.retain(|known| batch.cursors.iter().all(|moved| moved.partition != known.partition));
        saved.extend(batch.cursors);
    }
}

/// Tells a node's queries how far the journal and the views are, for ever.
pub(crate) async fn tell(database: Database, progress: Progress) {
    let (mut journal, mut views) = database.boards();
    loop {
        let next = journal.borrow_and_update().clone();
        progress.advance(Projection::Journal, (0..).zip(next));
        let next = views.borrow_and_update().clone();
        for projection in Projection::views() {
            progress.advance(projection, (0..).zip(next.iter().copied()));
        }
        tokio::select! {
            biased;
            Ok(()) = journal.changed() => {}
            Ok(()) = views.changed() => {}
            else => return,
        }
    }
}
