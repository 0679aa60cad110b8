//! What the running shop must show: the real program, over the network, on a real Postgres and a real Kafka.

mod attack;
mod attention;
mod bad_input;
mod bounds;
mod catalog;
mod crash;
mod idempotency;
mod import;
mod modes;
mod nodes;
mod orders;
mod owners;
mod parked;
mod payments;
mod reads;
mod rebuild;
mod reflection;
mod returns;
mod settings;
mod start;
mod stock;
mod verify;
