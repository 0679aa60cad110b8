//! Projections over a real Postgres.

mod exactly_once;
mod journal;
mod poison;
mod queries;
mod rebuild;
mod story;
