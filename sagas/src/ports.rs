//! What the processes need from outside: a memory of how far they read, and somebody who moves money.
//!
//! `server/` implements both; the tests bring their own ([`crate::testing`]).

use async_trait::async_trait;
use shopstream_domain::payment::Answer;
use shopstream_domain::{Currency, StreamId, TenantId, Timestamp, Version, order};
use shopstream_eventlog::{Cursor, Position};
use tokio::sync::watch;

/// Remembers how far the runner has read, and lists what was not finished when the program ended.
#[async_trait]
pub trait SagaStore: Send + Sync + 'static {
    /// The saved cursors, one per partition that has one.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn cursors(&self) -> Result<Vec<Cursor>, StoreError>;

    /// Moves cursors, all or none, each only from exactly the cursor it names: a runner that was replaced while it
    /// slept cannot move what its successor moved.
    ///
    /// # Errors
    /// [`StoreError::Moved`] where a cursor is not where it should be; then nothing moved.
    async fn save(&self, moves: &[CursorMove]) -> Result<(), StoreError>;

    /// What was not finished, as of at least these positions: waits for the read models where they are behind.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn unfinished(&self, at_least: &[Position]) -> Result<Unfinished, StoreError>;

    /// Remembers that a process cannot go on because of `obstacle`: [`Unfinished::parked`] brings it back. A wish for it
    /// is done by that.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn park(&self, process: &StreamId, obstacle: &Obstacle) -> Result<(), StoreError>;

    /// Forgets that a process could not go on, if it was parked.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn free(&self, process: &StreamId) -> Result<(), StoreError>;

    /// Changes when an operator wishes that a parked process is tried again, and when that may have been missed.
    fn wishes(&self) -> watch::Receiver<u64>;

    /// The parked processes for which that is wished.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn wished(&self) -> Result<Vec<StreamId>, StoreError>;
}

/// An event that a process cannot read: a newer program's, or a bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{stream} does not read back at version {version}: {detail}")]
pub struct Obstacle {
    /// Its stream, one of those that the process looks at.
    pub stream: StreamId,
    /// Its version.
    pub version: Version,
    /// Where it is.
    pub position: Position,
    /// What is wrong with it.
    pub detail: String,
}

/// One cursor's way.
#[derive(Clone, Debug, PartialEq)]
pub struct CursorMove {
    /// Where it must be; `None` where it was never saved.
    pub from: Option<Cursor>,
    /// Where it goes.
    pub to: Cursor,
}

/// Everything that a restart has to take up again. Its size is what was in flight plus what waits for somebody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unfinished {
    /// Checkouts neither done nor cancelled.
    pub checkouts: Vec<UnfinishedCheckout>,
    /// Reservations with a decision the stock has not followed, still being allocated, or held.
    pub reservations: Vec<UnfinishedReservation>,
    /// Payment streams with an operation whose outcome is not recorded.
    pub payments: Vec<StreamId>,
    /// Return streams neither resolved nor refused. One that waits for an operator may be among them: it rests.
    pub returns: Vec<StreamId>,
    /// Processes that are parked, and those of whose streams the read models know too little: they have parked them.
    pub parked: Vec<StreamId>,
}

/// A checkout that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct UnfinishedCheckout {
    /// Its stream.
    pub stream: StreamId,
    /// Where it is.
    pub stage: order::Stage,
    /// What wakes it, from its last event.
    pub timer: Option<order::Timer>,
}

/// A reservation that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct UnfinishedReservation {
    /// Its stream.
    pub stream: StreamId,
    /// When the hold ends, where it only holds and nothing else is to do.
    pub held_until: Option<Timestamp>,
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached; tried again.
    #[error("the saga store is not available: {detail}")]
    Unavailable {
        /// What it said.
        detail: String,
    },
    /// Somebody else moved a cursor: another runner is at work, and this one must stop.
    #[error("the cursor of partition {partition} was moved by another runner")]
    Moved {
        /// Whose cursor.
        partition: u16,
    },
}

/// Moves money. Every operation has a key, and the provider carries out each key at most once, however often it is
/// asked; so asking again after an unknown outcome is always safe with the same key, and never with another. One provider
/// serves all tenants: what it is told are the names of [`at_provider`](shopstream_domain::payment::at_provider).
#[async_trait]
pub trait PaymentProvider: Send + Sync + 'static {
    /// Promises the amount.
    async fn authorize(&self, call: &ProviderCall) -> Outcome;
    /// Takes what was promised.
    async fn capture(&self, call: &ProviderCall) -> Outcome;
    /// Lets a promise go.
    async fn void(&self, call: &ProviderCall) -> Outcome;
    /// Gives back what was taken.
    async fn refund(&self, call: &ProviderCall) -> Outcome;
    /// What became of the operation with this key of a [`ProviderCall`].
    async fn get(&self, key: &str) -> Lookup;
}

/// An operation at the provider.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderCall {
    /// Whose shop.
    pub tenant: TenantId,
    /// What the provider knows the operation by: the log's `{payment_id}:{operation}:{n}` with the tenant, so that no two
    /// tenants have the same.
    pub key: String,
    /// What the provider knows the payment by: the log's id with the tenant, likewise.
    pub payment: String,
    /// How much.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
    /// The provider's own reference to how the customer pays.
    pub method_token: String,
}

// The token pays: it is never printed.
impl std::fmt::Debug for ProviderCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, amount_minor, currency, .. } = self;
        write!(f, "{key} {amount_minor} {currency}")
    }
}

/// What came back from a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The provider has carried it out, or declined it.
    Answer(Answer),
    /// Nobody knows: a time-out, a lost connection. It may have been carried out.
    Unknown {
        /// What was seen, without secrets.
        detail: String,
    },
    /// The provider did not take the call: it was not carried out and will not be.
    Refused {
        /// The provider's word for it.
        code: String,
    },
}

/// What the provider knows of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// Its outcome.
    Answer(Answer),
    /// It is at work on it.
    Pending,
    /// It never heard of it.
    NotFound,
    /// It did not answer.
    Unknown {
        /// What was seen, without secrets.
        detail: String,
    },
}
