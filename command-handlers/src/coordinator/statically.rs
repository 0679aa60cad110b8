//! One node owns everything.

use async_trait::async_trait;
use shopstream_domain::Partition;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Coordinator, Duty, Grant, LeaseSeen, Location};

/// Grants everything at once. A node that is fenced never claims again (`rulings.md` 18): two of them on one topic
/// would otherwise fence each other for ever.
#[derive(Debug)]
pub struct Static {
    exclusive: bool,
    desired: watch::Sender<bool>,
    moves: watch::Sender<u64>,
}

impl Static {
    /// Over a log that no other process can open.
    pub fn alone() -> Self {
        Self { exclusive: true, desired: watch::Sender::new(true), moves: watch::Sender::new(0) }
    }

    /// Over a log that another process may claim unnoticed: answers that append nothing wait for a barrier.
    pub fn unguarded() -> Self {
        Self { exclusive: false, ..Self::alone() }
    }
}

#[async_trait]
impl Coordinator for Static {
    fn is_shared(&self) -> bool {
        false
    }

    fn desired(&self, _: Partition) -> watch::Receiver<bool> {
        self.desired.subscribe()
    }

    async fn acquire(&self, _: Duty, _: u64) -> Grant {
        Grant { epoch: 0, lost: CancellationToken::new() }
    }

    async fn release(&self, _: Duty) {}

    fn is_live(&self, _: Duty) -> bool {
        self.exclusive
    }

    fn locate(&self, _: Partition) -> Option<Location> {
        None
    }

    fn moves(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    fn learn(&self, _: Partition, _: Location) {}

    fn lease(&self, _: Duty) -> Option<LeaseSeen> {
        None
    }

    async fn leave(&self) {}
}
