//! How far each projection is, as this process knows it.

use std::sync::Arc;

use shopstream_domain::Partition;
use shopstream_eventlog::{Offset, Position};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::Projection;

/// The next offset that each projection wants, by partition. Cheap to clone.
#[derive(Clone)]
pub struct Progress(Arc<[watch::Sender<Vec<Offset>>]>);

impl Progress {
    /// Nothing read yet of a log of `partitions` partitions.
    pub(crate) fn new(partitions: u16) -> Self {
        Self(Projection::ALL.map(|_| watch::Sender::new(vec![0; partitions.into()])).into())
    }

    /// Follows one projection.
    pub fn watch(&self, projection: Projection) -> watch::Receiver<Vec<Offset>> {
        self.0[projection.index()].subscribe()
    }

    /// The next offset of one partition that a projection wants; 0 where there is no such partition.
    pub fn next(&self, projection: Projection, partition: Partition) -> Offset {
        self.0[projection.index()].borrow().get(usize::from(partition)).copied().unwrap_or(0)
    }

    /// Notes that a projection's rows now hold everything before these offsets.
    pub(crate) fn advance(
        &self,
        projection: Projection,
        next: impl IntoIterator<Item = (Partition, Offset)>,
    ) {
        self.0[projection.index()].send_modify(|offsets| {
            for (partition, offset) in next {
                if let Some(known) = offsets.get_mut(usize::from(partition)) {
                    *known = offset;
                }
            }
        });
    }

    /// Waits until a projection's rows hold the records at all of these positions.
    ///
    /// # Errors
    /// [`Behind`] at the deadline, with the first position that is missing.
    pub async fn wait_for(
        &self,
        projection: Projection,
        positions: &[Position],
        deadline: Instant,
    ) -> Result<(), Behind> {
        let missing = |offsets: &[Offset]| {
            positions.iter().find_map(|wanted| {
                let next = offsets.get(usize::from(wanted.partition)).copied().unwrap_or(0);
                (next <= wanted.offset).then_some(Behind { projection, wanted: *wanted, next })
            })
        };
        let mut offsets = self.watch(projection);
        // At the deadline, and where the projector has stopped, what is there decides.
        drop(timeout_at(deadline, offsets.wait_for(|offsets| missing(offsets).is_none())).await);
        let now_missing = missing(&offsets.borrow());
        now_missing.map_or(Ok(()), Err)
    }
}

/// A projection that has not read so far yet: ask again after a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{projection} has read partition {} up to offset {next}, not yet {}", wanted.partition, wanted.offset)]
pub struct Behind {
    /// The projection.
    pub projection: Projection,
    /// The position asked for.
    pub wanted: Position,
    /// The next offset it wants of that partition.
    pub next: Offset,
}
