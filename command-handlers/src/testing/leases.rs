//! A table of leases in memory, by tokio's clock: a test that pauses that clock moves it by hand.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::coordinator::{Duty, Lease, LeaseError, LeaseStore, Member, View};

/// One node's way to the table; clones of [`MemoryLeases::another`] share it.
pub struct MemoryLeases {
    table: Arc<Table>,
    away: AtomicBool,
    silent: AtomicBool,
}

struct Table {
    rows: Mutex<Rows>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Rows {
    members: HashMap<Uuid, (Member, Instant)>,
    leases: BTreeMap<Duty, Row>,
}

struct Row {
    epoch: u64,
    holder: Option<Member>,
    until: Instant,
}

impl Default for MemoryLeases {
    fn default() -> Self {
        let table = Table { rows: Mutex::default(), changes: watch::Sender::new(0) };
        Self::to(Arc::new(table))
    }
}

impl MemoryLeases {
    /// Another node's way to the same table.
    pub fn another(&self) -> Self {
        Self::to(self.table.clone())
    }

    fn to(table: Arc<Table>) -> Self {
        Self { table, away: AtomicBool::new(false), silent: AtomicBool::new(false) }
    }

    /// Whether this node reaches the table.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Whether what this node asks from now on is lost on its way: it is never answered.
    pub fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// The epoch of a lease and the name of who holds it now.
    pub fn holder(&self, duty: Duty) -> (u64, Option<String>) {
        let rows = self.rows();
        rows.leases.get(&duty).map_or((0, None), |row| {
            let live = row.holder.as_ref().filter(|_| row.until > Instant::now());
            (row.epoch, live.map(|holder| holder.node.clone()))
        })
    }

    /// The table forgets what it knew of epochs, as one that came back from a backup does.
    pub fn forget_epochs(&self) {
        self.rows().leases.values_mut().for_each(|row| row.epoch = 0);
    }

    async fn reach(&self) -> Result<MutexGuard<'_, Rows>, LeaseError> {
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::Relaxed) {
            return Err(LeaseError { detail: "switched off by the test".to_owned() });
        }
        Ok(self.rows())
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.table.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.table.changes.send_modify(|changes| *changes += 1);
    }
}

#[async_trait]
impl LeaseStore for MemoryLeases {
    async fn renew(
        &self,
        me: &Member,
        leaving: bool,
        held: &[(Duty, u64)],
        term: Duration,
    ) -> Result<View, LeaseError> {
        let mut rows = self.reach().await?;
        let now = Instant::now();
        let joined = !leaving && rows.members.insert(me.id, (me.clone(), now + term)).is_none();
        let mut kept = Vec::new();
        for (duty, epoch) in held {
            let row = rows.leases.get_mut(duty);
            let mine = |row: &&mut Row| row.holder.as_ref().is_some_and(|holder| holder.id == me.id);
            if let Some(row) = row.filter(mine) {
                (row.until, row.epoch) = (now + term, row.epoch.max(*epoch));
                kept.push(*duty);
            }
        }
        let live = rows.members.values().filter(|(_, until)| *until > now);
        let members = live.map(|(member, until)| (member.clone(), *until - now)).collect();
        let lease = |(duty, row): (&Duty, &Row)| {
            let (node, address) = row.holder.as_ref().map_or((String::new(), String::new()), |holder| {
                (holder.node.clone(), holder.address.clone())
            });
            let (holder, left) =
                (row.holder.as_ref().map(|holder| holder.id), row.until.saturating_duration_since(now));
            Lease { duty: *duty, epoch: row.epoch, holder, node, address, left }
        };
        let leases = rows.leases.iter().map(lease).collect();
        drop(rows);
        if joined {
            self.tell();
        }
        Ok(View { kept, members, leases })
    }

    async fn acquire(
        &self,
        me: &Member,
        duty: Duty,
        seen: u64,
        expired: bool,
        term: Duration,
    ) -> Result<Option<u64>, LeaseError> {
        let mut rows = self.reach().await?;
        let now = Instant::now();
        let row = rows.leases.entry(duty).or_insert(Row { epoch: 0, holder: None, until: now });
        let free = match &row.holder {
            None => true,
            Some(holder) => holder.id == me.id || (expired && row.until <= now),
        };
        if !free {
            return Ok(None);
        }
        let epoch = row.epoch.max(seen) + 1;
        *row = Row { epoch, holder: Some(me.clone()), until: now + term };
        drop(rows);
        self.tell();
        Ok(Some(epoch))
    }

    async fn release(&self, me: &Member, duty: Duty) -> Result<(), LeaseError> {
        let mut rows = self.reach().await?;
        if let Some(row) = rows.leases.get_mut(&duty)
            && row.holder.as_ref().is_some_and(|holder| holder.id == me.id)
        {
            row.holder = None;
        }
        drop(rows);
        self.tell();
        Ok(())
    }

    async fn leave(&self, me: &Member) -> Result<(), LeaseError> {
        self.reach().await?.members.remove(&me.id);
        self.tell();
        Ok(())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.table.changes.subscribe()
    }
}
