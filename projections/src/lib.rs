//! Keeps read models current, rebuilds them, answers queries.
//!
//! A projection is a fold from the log's commits to rows in Postgres. Its place on the log moves in the same
//! transaction as its rows, so each event is in them exactly once, whatever dies when. [`Projector`] runs them all;
//! [`ReadModels`] asks them; [`Journal`](journal::PostgresJournal) is the one that the write path reads.

mod applier;
mod batch;
mod checkpoint;
mod column;
mod database;
mod digest;
mod epoch;
mod lease;
mod memory;
mod parked;
mod progress;
mod projection;
mod read_models;
mod rebuild;
mod repair;
mod runner;
mod schema;
mod stream_row;
mod table;
mod view;
mod views;

pub mod catalog;
pub mod cluster;
pub mod inventory;
pub mod journal;
pub mod order;
pub mod payment;
pub mod returns;
#[cfg(feature = "testing")]
pub mod testing;

pub use checkpoint::{Advance, Checkpoint, CheckpointError};
pub use column::Folded;
pub use database::{ConnectOptions, Database, DatabaseError, Faint, Limits, Pulse};
pub use digest::{Difference, Digest, TableDigest};
pub use lease::{LeaseRow, LeaseTable, MemberRow};
pub use memory::{MemoryViews, ViewStore};
pub use parked::{Keeper, Obstacle, Parked, ReleaseError, Skipped, WAITING_COUNTED, Wish};
pub use progress::{Behind, Progress};
pub use projection::Projection;
pub use read_models::ReadModels;
pub use rebuild::RebuildError;
pub use repair::Repaired;
pub use runner::{Company, Now, ProjectionState, ProjectionStatus, Projector};
pub use stream_row::StreamRow;
