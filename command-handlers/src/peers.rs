//! The way to the other nodes of the shop.

use async_trait::async_trait;
use shopstream_domain::Partition;
use shopstream_eventlog::Position;
use tokio::time::Instant;

use crate::{CommandEnvelope, CommandError, Location, Reply};

/// Takes commands to the node that owns their partitions; that node never sends them on.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Has `commands`, all of one partition, carried out at `owner` in their order, and answers each in its place.
    /// Dropping the future cancels nothing that has arrived.
    async fn carry_out(
        &self,
        owner: &Location,
        partition: Partition,
        commands: &[CommandEnvelope],
        deadline: Option<Instant>,
    ) -> Vec<Result<Reply, CommandError>>;

    /// The last confirmed position of a partition that `owner` owns; `None` where it has none.
    ///
    /// # Errors
    /// [`CommandError::NotOwner`] or [`CommandError::Unavailable`].
    async fn confirmed(
        &self,
        owner: &Location,
        partition: Partition,
        deadline: Option<Instant>,
    ) -> Result<Option<Position>, CommandError>;
}

/// There are no other nodes.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

#[async_trait]
impl Peers for NoPeers {
    async fn carry_out(
        &self,
        _: &Location,
        partition: Partition,
        commands: &[CommandEnvelope],
        _: Option<Instant>,
    ) -> Vec<Result<Reply, CommandError>> {
        commands.iter().map(|_| Err(CommandError::NotOwner { partition, owner: None })).collect()
    }

    async fn confirmed(
        &self,
        _: &Location,
        partition: Partition,
        _: Option<Instant>,
    ) -> Result<Option<Position>, CommandError> {
        Err(CommandError::NotOwner { partition, owner: None })
    }
}
