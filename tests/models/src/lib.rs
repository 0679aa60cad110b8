//! The rules that safety rests on, small enough to try every order of events.
//!
//! A model is not the code: it is the rule, with as few values as can break it, and every step that anybody could
//! take at any time. What the checker has exhausted cannot happen under these rules within the bounds; what the code
//! does with them is for the contract suites and the simulation. Each model takes [`Flaw`](ownership::Flaw)s, one
//! rule left out, and must then fail: a model that nothing can break shows nothing. `docs/models.md` has the figures.

pub mod explore;
pub mod idempotency;
pub mod keys;
pub mod ownership;
pub mod projection;
