//! The one program, `shopstream`: configuration, roles, start and stop, and the verbs of operators.

pub mod bench;
pub mod client;
pub mod config;
pub mod import;
pub mod node;
pub mod provider;
pub mod repair;
pub mod telemetry;
pub mod verbs;
pub mod verify;
