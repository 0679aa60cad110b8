//! Real shards in memory: a journal that follows the log as the real one does, a clock that stands still, and a way
//! to send every command twice.

mod contract;
mod leases;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use shopstream_domain::model::State;
use shopstream_domain::{Partition, StreamId, Timestamp};
use shopstream_eventlog::{
    CommandId, Commit, CommitRecord, Cursor, History, Journal, JournalError, Log, Offset, Snapshot, schema,
};
use tokio::sync::{mpsc, watch};

pub use self::contract::lease_contract;
pub use self::leases::MemoryLeases;
use crate::commands::ShardHandle;
use crate::coordinator::Static;
use crate::shard::{Heard, Job};
use crate::{Clock, CommandError, Commands, NoPeers, Options, Reply, read_snapshot};

/// A journal in memory, filled from the log by a task of its own.
pub struct MemoryJournal {
    kept: Mutex<Kept>,
    progress: watch::Sender<Vec<Offset>>,
    away: AtomicBool,
    resumed: watch::Sender<bool>,
}

#[derive(Default)]
struct Kept {
    streams: HashMap<StreamId, Vec<CommitRecord>>,
    cursors: HashMap<Partition, Cursor>,
    snapshots: HashMap<StreamId, Snapshot>,
    /// How many commits it has given out to be folded.
    recalled: usize,
}

impl MemoryJournal {
    /// A journal that follows `log` from its beginning until the runtime ends.
    pub fn follow(log: &Log) -> Arc<Self> {
        let journal = Arc::new(Self {
            kept: Mutex::default(),
            progress: watch::Sender::new(vec![0; usize::from(log.partitions())]),
            away: AtomicBool::new(false),
            resumed: watch::Sender::new(true),
        });
        let (follower, log) = (Arc::downgrade(&journal), log.clone());
        tokio::spawn(async move {
            let starts: Vec<Cursor> = (0..log.partitions()).map(|partition| log.start(partition)).collect();
            let Ok(mut reader) = log.reader(&starts).await else { return };
            while let Ok(batch) = reader.next(1 << 20).await {
                let Some(journal) = follower.upgrade() else { return };
                let mut resumed = journal.resumed.subscribe();
                // The sender lives in the journal that is held here.
                let _ = resumed.wait_for(|resumed| *resumed).await;
                journal.take(batch.commits, &batch.cursors);
            }
        });
        journal
    }

    /// Keeps nothing more until [`MemoryJournal::resume`]: a journal that lags.
    pub fn pause(&self) {
        self.resumed.send_replace(false);
    }

    /// Goes on after [`MemoryJournal::pause`].
    pub fn resume(&self) {
        self.resumed.send_replace(true);
    }

    /// Whether it answers: a database that is away.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// The commits of a stream so far.
    pub fn history(&self, stream: &StreamId) -> Vec<CommitRecord> {
        self.kept().streams.get(stream).cloned().unwrap_or_default()
    }

    /// Every commit so far, by stream.
    pub fn all(&self) -> HashMap<StreamId, Vec<CommitRecord>> {
        self.kept().streams.clone()
    }

    /// The snapshot of a stream, if it has one.
    pub fn snapshot(&self, stream: &StreamId) -> Option<Snapshot> {
        self.kept().snapshots.get(stream).cloned()
    }

    /// Puts a snapshot in the place of the one that it has.
    pub fn plant(&self, snapshot: Snapshot) {
        self.kept().snapshots.insert(snapshot.stream.clone(), snapshot);
    }

    /// How many commits it has given out to be folded, since it was last asked.
    pub fn take_recalled(&self) -> usize {
        std::mem::take(&mut self.kept().recalled)
    }

    fn take(&self, commits: Vec<CommitRecord>, cursors: &[Cursor]) {
        let mut kept = self.kept();
        for record in commits {
            kept.streams.entry(record.commit.stream.clone()).or_default().push(record);
        }
        kept.cursors.extend(cursors.iter().map(|cursor| (cursor.partition, *cursor)));
        drop(kept);
        self.progress.send_modify(|next| {
            for cursor in cursors {
                next[usize::from(cursor.partition)] = cursor.next;
            }
        });
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answers(&self) -> Result<(), JournalError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(JournalError::Unavailable { detail: "switched off by the test".into() });
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn load(&self, streams: &[StreamId]) -> Result<Vec<Vec<CommitRecord>>, JournalError> {
        self.answers()?;
        let mut kept = self.kept();
        let found: Vec<Vec<CommitRecord>> =
            streams.iter().map(|stream| kept.streams.get(stream).cloned().unwrap_or_default()).collect();
        kept.recalled += found.iter().map(Vec::len).sum::<usize>();
        Ok(found)
    }

    async fn recall(&self, streams: &[StreamId]) -> Result<Vec<History>, JournalError> {
        self.answers()?;
        let mut kept = self.kept();
        let history = |stream| {
            let whole = kept.streams.get(stream).map_or(&[][..], Vec::as_slice);
            History::behind(kept.snapshots.get(stream), whole)
        };
        let found: Vec<History> = streams.iter().map(history).collect();
        kept.recalled += found.iter().map(|history| history.commits.len()).sum::<usize>();
        Ok(found)
    }

    async fn save(&self, snapshots: &[Snapshot]) -> Result<(), JournalError> {
        self.answers()?;
        let mut kept = self.kept();
        kept.snapshots.extend(snapshots.iter().map(|snapshot| (snapshot.stream.clone(), snapshot.clone())));
        Ok(())
    }

    async fn find(
        &self,
        stream: &StreamId,
        command: CommandId,
    ) -> Result<Option<CommitRecord>, JournalError> {
        self.answers()?;
        Ok(self.history(stream).into_iter().find(|record| record.commit.command_id == command))
    }

    async fn cursor(&self, partition: Partition) -> Result<Option<Cursor>, JournalError> {
        self.answers()?;
        Ok(self.kept().cursors.get(&partition).copied())
    }

    async fn streams(
        &self,
        partition: Partition,
        each: &mut (dyn for<'s> FnMut(&'s str) + Send),
    ) -> Result<(), JournalError> {
        self.answers()?;
        for (stream, history) in &self.kept().streams {
            if history.first().is_some_and(|record| record.position.partition == partition) {
                each(stream.as_str());
            }
        }
        Ok(())
    }

    fn progress(&self) -> watch::Receiver<Vec<Offset>> {
        self.progress.subscribe()
    }
}

/// A clock that moves when it is told to.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub const fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.micros()))
    }

    /// Shows `now` from here on.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.micros(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// The shards of `commands` behind somebody who sends every command again once it is answered, and passes on what
/// the repeat heard: as after a crash between the answer and its use. What is wrong with a repeat goes to `wrong`.
pub fn repeating(commands: &Commands, wrong: &Arc<Mutex<Vec<String>>>) -> Commands {
    let handle = |status| {
        let (queue, mut jobs) = mpsc::channel(1024);
        let (commands, wrong) = (commands.clone(), wrong.clone());
        tokio::spawn(async move {
            while let Some(job) = jobs.recv().await {
                tokio::spawn(twice(commands.clone(), job, wrong.clone()));
            }
        });
        ShardHandle { queue, status }
    };
    Commands::new(commands.statuses().map(handle).collect(), Arc::new(Static::alone()), Arc::new(NoPeers))
}

async fn twice(commands: Commands, job: Job, wrong: Arc<Mutex<Vec<String>>>) {
    let Job { envelope, reply, .. } = job;
    let mut answer = commands.submit_all(vec![envelope.clone()]).await.pop();
    if matches!(answer, Some(Ok(_) | Err(CommandError::Refused(_)))) {
        let again = commands.submit_all(vec![envelope.clone()]).await.pop();
        if let (Some(Ok(first)), Some(again)) = (&answer, &again)
            && first.outcome.is_some()
            && *again != Ok(Reply { repeated: true, ..*first })
        {
            let said = format!("{}: {first:?}, then {again:?}", envelope.stream);
            wrong.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        }
        answer = again;
    }
    // A caller that has gone away needs no answer.
    let _ = answer.map(|answer| reply.send(Heard::Answer(answer)));
}

/// Holds a snapshot's bytes against the history of its stream: a fold by the domain's own `evolve`, from the first event
/// to the version that the snapshot names.
///
/// # Errors
/// What is wrong with it: it is not believed, or not what its history comes to, or forgets a command.
pub fn check_snapshot<'a>(
    stream: &StreamId,
    bytes: &[u8],
    history: impl IntoIterator<Item = (Offset, &'a Commit)>,
) -> Result<(), String> {
    let said = read_snapshot(stream, bytes).map_err(|distrust| format!("{stream}: {distrust}"))?;
    let (mut state, mut version, mut at) = (State::empty(stream.kind()), 0, None);
    for (offset, commit) in history {
        if commit.last_version() > said.version {
            break;
        }
        for data in &commit.events {
            state.evolve(&schema::decode(stream.kind(), data).map_err(|error| format!("{stream}: {error}"))?);
        }
        (version, at) = (commit.last_version(), Some(offset));
        if !said.remembers(commit.command_id) {
            return Err(format!("{stream}: the command of version {version} is forgotten"));
        }
    }
    if (said.version, Some(said.offset)) != (version, at) {
        let told = (said.version, said.offset);
        return Err(format!(
            "{stream}: it ends at {told:?} (version, offset), its history at {version}, {at:?}"
        ));
    }
    if said.state != state {
        return Err(format!(
            "{stream} at {version}: it says {:?}, its history comes to {state:?}",
            said.state
        ));
    }
    Ok(())
}

/// Options with small bounds and counted nonces.
pub fn options() -> Options {
    let next = AtomicU64::new(1);
    Options {
        queue: 1024,
        cache_bytes: 16 << 20,
        tail_bytes: 16 << 20,
        snapshot_every: crate::SNAPSHOT_EVERY,
        coordinator: Arc::new(Static::alone()),
        peers: Arc::new(NoPeers),
        nonces: Arc::new(move || next.fetch_add(1, Ordering::Relaxed)),
    }
}
