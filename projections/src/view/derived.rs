//! Tables whose rows follow from single events, without a look at what was there.

use std::hash::Hash;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use rustc_hash::FxHashMap;
use shopstream_domain::StreamKind;
use shopstream_domain::model::Event;

use super::{Fact, Part, Poison};
use crate::DatabaseError;
use crate::memory::{DerivedTable, MemoryTable};
use crate::table::{Row, Statements, key};

/// A row that one event says whole.
pub(crate) trait Derived: Row {
    const KINDS: &'static [StreamKind];
    /// The row's key, by which an earlier row of the same batch is found.
    type Key: Eq + Hash + Send;

    fn key(&self) -> Self::Key;

    /// Hands the rows of one event to `row`, or fails before the first. A later row of a key replaces an earlier.
    fn derive(fact: &Fact<'_>, row: impl FnMut(Self)) -> Result<(), Poison>;
}

/// The rows of one batch.
pub(crate) struct DerivedRows<D: Derived> {
    statements: Statements<D>,
    rows: FxHashMap<D::Key, D>,
}

impl<D: Derived> DerivedRows<D> {
    pub(crate) fn new(schema: &str) -> Self {
        Self { statements: Statements::new(schema), rows: FxHashMap::default() }
    }
}

#[async_trait]
impl<D: Derived> Part for DerivedRows<D> {
    fn kinds(&self) -> &'static [StreamKind] {
        D::KINDS
    }

    fn table(&self) -> &'static str {
        D::NAME
    }

    fn key(&self) -> String {
        key::<D>()
    }

    fn create(&self) -> &str {
        &self.statements.create
    }

    async fn load(
        &mut self,
        _transaction: &Transaction<'_>,
        _facts: &[Fact<'_>],
    ) -> Result<(), DatabaseError> {
        Ok(())
    }

    fn fold(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        if matches!(fact.event, Event::Nothing(_)) {
            return Ok(());
        }
        D::derive(fact, |row| {
            self.rows.insert(row.key(), row);
        })
    }

    async fn save(&mut self, transaction: &Transaction<'_>) -> Result<u64, DatabaseError> {
        let rows = std::mem::take(&mut self.rows);
        self.statements.upsert(transaction, &rows.values().collect::<Vec<_>>()).await
    }

    fn forget(&mut self) {
        self.rows.clear();
    }

    fn in_memory(&self) -> Box<dyn MemoryTable> {
        Box::new(DerivedTable::<D>::default())
    }
}
