//! The door of the write path: hands each command to the shard of its partition.

use std::sync::Arc;

use futures::future::{join_all, select_all};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::shard::Job;
use crate::{CommandEnvelope, CommandError, PartitionState, PartitionStatus, Reply};

/// Takes commands. Cheap to clone.
#[derive(Clone)]
pub struct Commands {
    shards: Arc<[ShardHandle]>,
}

/// The way to one shard.
pub(crate) struct ShardHandle {
    pub(crate) queue: mpsc::Sender<Job>,
    pub(crate) status: watch::Receiver<PartitionStatus>,
}

impl Commands {
    pub(crate) fn new(shards: Vec<ShardHandle>) -> Self {
        Self { shards: shards.into() }
    }

    /// Carries out a command, and answers when the log counts it. Dropping the future cancels nothing.
    ///
    /// # Errors
    /// See [`CommandError`]. [`CommandError::Overloaded`] at once where the partition's queue is full.
    pub async fn submit(&self, envelope: CommandEnvelope) -> Result<Reply, CommandError> {
        let partition = self.partition_of(&envelope);
        let (job, answer) = job(envelope);
        match self.shards[usize::from(partition)].queue.try_send(job) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(closed(partition))),
            Err(TrySendError::Full(_)) => Err(CommandError::Overloaded { partition }),
            Err(TrySendError::Closed(_)) => Err(closed(partition)),
        }
    }

    /// Carries out many commands side by side and answers each in its place. Commands of one partition are decided
    /// in order and share its appends. Waits where a queue is full instead of refusing: for callers that bound
    /// themselves, such as sagas and bulk streams.
    pub async fn submit_all(&self, envelopes: Vec<CommandEnvelope>) -> Vec<Result<Reply, CommandError>> {
        let mut answers = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let partition = self.partition_of(&envelope);
            let (job, answer) = job(envelope);
            let sent = self.shards[usize::from(partition)].queue.send(job).await;
            answers.push(async move {
                match sent {
                    Ok(()) => answer.await.unwrap_or_else(|_| Err(closed(partition))),
                    Err(_) => Err(closed(partition)),
                }
            });
        }
        join_all(answers).await
    }

    /// Every partition as this node sees it, in order.
    pub fn status(&self) -> Vec<PartitionStatus> {
        self.shards.iter().map(|shard| shard.status.borrow().clone()).collect()
    }

    /// Waits until somebody else has taken a partition from this node; for ever where nobody does.
    pub async fn fenced(&self) -> PartitionStatus {
        let taken = self.statuses().map(|mut status| {
            Box::pin(async move {
                let fenced = |status: &PartitionStatus| matches!(status.state, PartitionState::Fenced { .. });
                let found = status.wait_for(fenced).await.map(|status| status.clone());
                match found {
                    Ok(status) => status,
                    // The shard has ended in another way.
                    Err(_) => std::future::pending().await,
                }
            })
        });
        select_all(taken).await.0
    }

    pub(crate) fn statuses(&self) -> impl Iterator<Item = watch::Receiver<PartitionStatus>> {
        self.shards.iter().map(|shard| shard.status.clone())
    }

    /// The number of partitions.
    pub fn partitions(&self) -> u16 {
        self.shards.len() as u16
    }

    fn partition_of(&self, envelope: &CommandEnvelope) -> u16 {
        envelope.stream.partition(self.partitions())
    }
}

fn job(envelope: CommandEnvelope) -> (Job, oneshot::Receiver<Result<Reply, CommandError>>) {
    let (reply, answer) = oneshot::channel();
    (Job { envelope, reply, looked_up: false }, answer)
}

/// The shard ended without an answer: the process is stopping.
fn closed(partition: u16) -> CommandError {
    CommandError::Unavailable {
        partition,
        detail: "this node is stopping; ask again with the same request id".into(),
    }
}
