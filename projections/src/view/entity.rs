//! Tables with a row per stream: the row is the fold of the stream's events.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use rustc_hash::FxHashMap;
use shopstream_domain::model::Event;
use shopstream_domain::{Partition, StreamId, StreamKind, Timestamp, Version};
use shopstream_eventlog::{Offset, Position};

use super::{Fact, Part, Poison};
use crate::DatabaseError;
use crate::memory::{Entities, MemoryTable};
use crate::table::{Row, Statements, key};

/// A row that stands for a stream.
pub(crate) trait Entity: Row {
    const KIND: StreamKind;

    /// The key of a stream's row, one value per key column.
    fn key(stream: &StreamId) -> Vec<&str>;

    /// The row that the first event makes, with the mark of that event.
    fn first(fact: &Fact<'_>) -> Result<Self, Poison>;

    /// Whether the event says nothing of which there could be a row, where there is none yet.
    fn leaves_no_row(_event: &Event) -> bool {
        false
    }

    /// Folds a later event. On an error nothing has changed.
    fn next(&mut self, fact: &Fact<'_>) -> Result<(), Poison>;

    /// Whether this event makes the row, whatever came before it that left none.
    fn begins(event: &Event) -> bool;

    /// The row that such a memory makes of a stream that has none.
    fn nothing(_fact: &Fact<'_>) -> Result<Option<Self>, Poison> {
        Ok(None)
    }

    /// The version of the last event that is in the row.
    fn version(&self) -> Version;

    /// Where that event is.
    fn position(&self) -> Position;

    /// Notes the last event folded.
    fn mark(&mut self, mark: Mark);

    /// Takes a row past one more event; a stream begins without a row. On an error nothing has changed.
    fn fold(row: &mut Option<Self>, fact: &Fact<'_>) -> Result<(), Poison> {
        let (known, found) = (row.as_ref().map_or(0, Self::version), fact.version());
        if row.is_none() && Self::leaves_no_row(fact.event) {
            return Ok(());
        }
        if !fact.joins(known) && (row.is_some() || !Self::begins(fact.event)) {
            return Err(Poison::Gap { known, found });
        }
        match (row, fact.event) {
            (Some(row), event) => {
                if !matches!(event, Event::Nothing(_)) {
                    row.next(fact)?;
                }
                row.mark(Mark::of(fact));
            }
            (row, Event::Nothing(_)) => *row = Self::nothing(fact)?,
            (row, _) => *row = Some(Self::first(fact)?),
        }
        Ok(())
    }
}

/// The last event of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) updated_at: Timestamp,
    pub(crate) version: Version,
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
}

impl Mark {
    pub(crate) fn of(fact: &Fact<'_>) -> Self {
        let position = fact.position();
        Self {
            updated_at: fact.recorded_at(),
            version: fact.version(),
            partition: position.partition,
            offset: position.offset,
        }
    }
}

/// The bookkeeping half of [`Entity`], for a row with the fields of [`Mark`].
macro_rules! marked {
    () => {
        fn version(&self) -> shopstream_domain::Version {
            self.version
        }

        fn position(&self) -> shopstream_eventlog::Position {
            shopstream_eventlog::Position { partition: self.partition, offset: self.offset }
        }

        fn mark(&mut self, mark: $crate::view::Mark) {
            let $crate::view::Mark { updated_at, version, partition, offset } = mark;
            (self.updated_at, self.version, self.partition, self.offset) =
                (updated_at, version, partition, offset);
        }
    };
}
pub(crate) use marked;

/// The rows of one batch.
pub(crate) struct EntityRows<E> {
    statements: Statements<E>,
    slots: FxHashMap<StreamId, Slot<E>>,
}

struct Slot<E> {
    row: Option<E>,
    changed: bool,
}

impl<E: Entity> EntityRows<E> {
    pub(crate) fn new(schema: &str) -> Self {
        Self { statements: Statements::new(schema), slots: FxHashMap::default() }
    }

    /// Makes a slot for every stream of `facts`, and answers those that may have a row already.
    fn occupy(&mut self, facts: &[Fact<'_>]) -> Vec<StreamId> {
        let mut known = Vec::new();
        for fact in facts.iter().filter(|fact| fact.stream().kind() == E::KIND) {
            if self.slots.contains_key(fact.stream()) {
                continue;
            }
            self.slots.insert(fact.stream().clone(), Slot { row: None, changed: false });
            if fact.version() > 1 {
                known.push(fact.stream().clone());
            }
        }
        known
    }
}

#[async_trait]
impl<E: Entity> Part for EntityRows<E> {
    fn kinds(&self) -> &'static [StreamKind] {
        const { &[E::KIND] }
    }

    fn table(&self) -> &'static str {
        E::NAME
    }

    fn key(&self) -> String {
        key::<E>()
    }

    fn create(&self) -> &str {
        &self.statements.create
    }

    async fn load(&mut self, transaction: &Transaction<'_>, facts: &[Fact<'_>]) -> Result<(), DatabaseError> {
        let streams = self.occupy(facts);
        if streams.is_empty() {
            return Ok(());
        }
        let mut keys = vec![Vec::with_capacity(streams.len()); E::KEY];
        for stream in &streams {
            for (column, value) in keys.iter_mut().zip(E::key(stream)) {
                column.push(value);
            }
        }
        for (at, row) in self.statements.load(transaction, &keys).await? {
            if let Some(slot) = streams.get(at).and_then(|stream| self.slots.get_mut(stream)) {
                slot.row = Some(row);
            }
        }
        Ok(())
    }

    fn fold(&mut self, fact: &Fact<'_>) -> Result<(), Poison> {
        let found = fact.version();
        let slot = self.slots.get_mut(fact.stream()).ok_or(Poison::Gap { known: 0, found })?;
        E::fold(&mut slot.row, fact)?;
        slot.changed = true;
        Ok(())
    }

    async fn save(&mut self, transaction: &Transaction<'_>) -> Result<u64, DatabaseError> {
        let slots = std::mem::take(&mut self.slots);
        let changed: Vec<&E> =
            slots.values().filter(|slot| slot.changed).filter_map(|slot| slot.row.as_ref()).collect();
        self.statements.upsert(transaction, &changed).await
    }

    fn forget(&mut self) {
        self.slots.clear();
    }

    fn in_memory(&self) -> Box<dyn MemoryTable> {
        Box::new(Entities::<E>::default())
    }
}
