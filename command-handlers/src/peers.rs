//! The way to the other nodes of the shop.

use async_trait::async_trait;
use shopstream_domain::Partition;
use shopstream_eventlog::Position;
use tokio::time::Instant;

use crate::{CommandEnvelope, CommandError, Location, Reply};

/// Another node gave no answer, as one that stops or is gone. What it was sent may have been carried out all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{owner} did not answer ({detail})")]
pub struct Silent {
    /// The node that was asked.
    pub owner: Location,
    /// What was seen instead of an answer.
    pub detail: String,
}

/// Takes commands to the node that owns their partitions; that node never sends them on.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Has `commands`, all of one partition, carried out at `owner` in their order, and answers each in its place.
    /// Dropping the future cancels nothing that has arrived.
    ///
    /// # Errors
    /// [`Silent`]: the same commands may be sent again, there or to who owns the partition by then.
    async fn carry_out(
        &self,
        owner: &Location,
        partition: Partition,
        commands: &[CommandEnvelope],
        deadline: Option<Instant>,
    ) -> Result<Vec<Result<Reply, CommandError>>, Silent>;

    /// The last confirmed position of a partition that `owner` owns; `None` where it has none.
    ///
    /// # Errors
    /// [`Silent`]; within its answer [`CommandError::NotOwner`] or [`CommandError::Unavailable`].
    async fn confirmed(
        &self,
        owner: &Location,
        partition: Partition,
        deadline: Option<Instant>,
    ) -> Result<Result<Option<Position>, CommandError>, Silent>;
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
    ) -> Result<Vec<Result<Reply, CommandError>>, Silent> {
        Ok(commands.iter().map(|_| Err(CommandError::NotOwner { partition, owner: None })).collect())
    }

    async fn confirmed(
        &self,
        _: &Location,
        partition: Partition,
        _: Option<Instant>,
    ) -> Result<Result<Option<Position>, CommandError>, Silent> {
        Ok(Err(CommandError::NotOwner { partition, owner: None }))
    }
}
