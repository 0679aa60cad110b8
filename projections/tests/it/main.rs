//! Projections over a real Postgres.

mod exactly_once;
mod halt;
mod journal;
mod poison;
mod queries;
mod rebuild;
mod release;
mod story;
