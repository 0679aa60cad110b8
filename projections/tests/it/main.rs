//! Projections over a real Postgres.

mod cluster;
mod exactly_once;
mod halt;
mod journal;
mod lost;
mod poison;
mod queries;
mod rebuild;
mod refused;
mod release;
mod story;
