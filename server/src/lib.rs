//! The one program, `shopstream`: configuration, roles, start and stop, and the verbs of operators.

// They panic where nothing can be written: see `output`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod client;
pub mod config;
pub mod import;
pub mod node;
pub mod output;
pub mod provider;
pub mod repair;
pub mod telemetry;
pub mod verbs;
pub mod verify;
