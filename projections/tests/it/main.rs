//! Projections over a real Postgres.

mod exactly_once;
mod halt;
mod journal;
mod poison;
mod queries;
mod lost;
mod rebuild;
mod refused;
mod release;
mod story;
