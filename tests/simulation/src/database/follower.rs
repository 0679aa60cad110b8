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
        if let Some(time) = database.dawdles(who) {
            sleep(time).await;
        }
        match database.write(who, &saved, &batch) {
            Ok(()) => {}
            Err(Trouble::Unavailable | Trouble::Overtaken { .. }) => return,
        }
        saved.retain(|known| batch.cursors.iter().all(|moved| moved.partition != known.partition));
        saved.extend(batch.cursors);
    }
}

/// Tells a node's queries how far what a reader folds is, for ever.
pub(crate) async fn tell(database: Database, who: Reader, progress: Progress) {
    let mut board = database.board(who);
    loop {
        let next = board.borrow_and_update().clone();
        for projection in Projection::ALL.into_iter().filter(|projection| Reader::of(*projection) == who) {
            progress.advance(projection, (0..).zip(next.iter().copied()));
        }
        if board.changed().await.is_err() {
            return;
        }
    }
}
