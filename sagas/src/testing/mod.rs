//! A whole shop in memory: real shards over a simulated log, real processes, a scripted provider.

mod older;
mod provider;
mod shop;
mod store;

pub use older::Unreadable;
pub use provider::ScriptedProvider;
pub use shop::{Remains, Shop, TRACE, TestClock, client};
pub use store::{MemoryStore, note_unfinished};
