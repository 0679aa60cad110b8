//! The read models without a database: every view's own folds, over rows that stay in memory.
//!
//! A simulation of a whole shop needs read models that fail, lag and recover by its seed, which Postgres cannot. The rows
//! here are made by the same code as the tables' are; only the SQL is missing.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::hash::Hash;

use rustc_hash::FxHashMap;
use shopstream_domain::model::Event;
use shopstream_domain::{StreamId, StreamKind};
use shopstream_eventlog::{CommitRecord, schema};

use crate::view::{Derived, Entity, Fact, Poison};
use crate::{DatabaseError, Projection, views};

/// Where a [`ReadModels`](crate::ReadModels) that has no database finds its rows.
pub trait ViewStore: Send + Sync + 'static {
    /// Shows the rows of this moment that `view` is asked for. Views need not be of one moment.
    ///
    /// # Errors
    /// The store does not answer, as a database might not.
    fn look(&self, view: Projection, with: &mut dyn FnMut(&MemoryViews)) -> Result<(), DatabaseError>;
}

/// All tables of all views.
pub struct MemoryViews {
    tables: BTreeMap<TypeId, Box<dyn MemoryTable>>,
    /// Which of them want to see a kind of stream.
    wanted: FxHashMap<StreamKind, Vec<TypeId>>,
}

impl Default for MemoryViews {
    fn default() -> Self {
        let mut all = Self { tables: BTreeMap::new(), wanted: FxHashMap::default() };
        for part in Projection::views().flat_map(|projection| views::parts(projection, "memory")) {
            let table = part.in_memory();
            let row = table.row();
            for kind in part.kinds() {
                all.wanted.entry(*kind).or_default().push(row);
            }
            all.tables.insert(row, table);
        }
        all
    }
}

impl MemoryViews {
    /// Folds a commit into every view that wants it.
    ///
    /// # Errors
    /// A view cannot fold it, or nobody can read it: what makes the real ones park its aggregate, in words.
    pub fn fold(&mut self, record: &CommitRecord) -> Result<(), String> {
        let stream = &record.commit.stream;
        for (index, data) in record.commit.events.iter().enumerate() {
            let event = schema::decode(stream.kind(), data).map_err(|error| error.to_string())?;
            let fact = Fact::new(record, &event, index);
            for row in self.wanted.get(&stream.kind()).into_iter().flatten() {
                if let Some(table) = self.tables.get_mut(row) {
                    table
                        .fold(&fact)
                        .map_err(|poison| format!("{} of {stream}: {poison}", fact.version()))?;
                }
            }
        }
        Ok(())
    }

    /// The rows that `keep` keeps, in no order that means anything.
    pub(crate) fn find<R: Clone + 'static>(&self, keep: impl Fn(&R) -> bool) -> Vec<R> {
        self.rows::<R>().into_iter().filter(|row| keep(row)).cloned().collect()
    }

    /// The first `limit` rows that `keep` keeps, in the order of `key`.
    pub(crate) fn page<R: Clone + 'static, K: Ord>(
        &self,
        keep: impl Fn(&R) -> bool,
        key: impl Fn(&R) -> K,
        limit: u32,
    ) -> Vec<R> {
        let mut rows = self.find(keep);
        rows.sort_by_key(key);
        rows.truncate(limit as usize);
        rows
    }

    /// All rows of one table, in no order that means anything.
    pub(crate) fn rows<R: 'static>(&self) -> Vec<&R> {
        let mut rows = Vec::new();
        if let Some(table) = self.tables.get(&TypeId::of::<R>()) {
            table.each(&mut |row| rows.extend(row.downcast_ref::<R>()));
        }
        rows
    }
}

/// The rows of one table.
pub(crate) trait MemoryTable: Send {
    /// Their type.
    fn row(&self) -> TypeId;

    /// Folds one fact of a wanted kind.
    fn fold(&mut self, fact: &Fact<'_>) -> Result<(), Poison>;

    /// Shows every row.
    fn each<'a>(&'a self, show: &mut dyn FnMut(&'a dyn Any));
}

/// A table with a row per stream.
pub(crate) struct Entities<E>(BTreeMap<StreamId, Option<E>>);

impl<E> Default for Entities<E> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<E: Entity> MemoryTable for Entities<E> {
    fn row(&self) -> TypeId {
        TypeId::of::<E>()
    }

    fn fold(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        E::fold(self.0.entry(fact.stream().clone()).or_default(), fact)
    }

    fn each<'a>(&'a self, show: &mut dyn FnMut(&'a dyn Any)) {
        self.0.values().flatten().for_each(|row| show(row));
    }
}

/// A table whose rows follow from single events.
pub(crate) struct DerivedTable<D: Derived>(FxHashMap<D::Key, D>);

impl<D: Derived> Default for DerivedTable<D> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<D: Derived> MemoryTable for DerivedTable<D>
where
    D::Key: Eq + Hash + Send,
{
    fn row(&self) -> TypeId {
        TypeId::of::<D>()
    }

    fn fold(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        if matches!(fact.event, Event::Nothing(_)) {
            return Ok(());
        }
        D::derive(fact, |row| {
            self.0.insert(row.key(), row);
        })
    }

    fn each<'a>(&'a self, show: &mut dyn FnMut(&'a dyn Any)) {
        self.0.values().for_each(|row| show(row));
    }
}
