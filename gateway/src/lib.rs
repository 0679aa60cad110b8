//! Speaks gRPC: who asks, what do they mean, how do we answer.
//!
//! A call is read ([`Call`]), its request checked and translated into commands or queries in the file of its
//! context, and what fails is put into the words of gRPC in one place ([`status`]). [`Gateway`] is all of it behind
//! one address; the server gives it its [`Means`].

mod admin;
mod answer;
mod call;
mod command;
mod connections;
mod failure;
mod follow;
mod health;
mod history;
mod intake;
mod landmarks;
mod live;
mod node;
mod offers;
mod page;
mod peers;
mod places;
mod positions;
mod recent;
mod reservations;
mod rpc;
mod server;
mod shares;
mod shop;
mod status;
mod stream;
mod token;
mod updates;
mod wire;

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod testing;

mod catalog;
mod event;
mod inventory;
mod keys;
mod order;
mod payment;
mod process;
mod returns;

pub use admin::Describe;
pub use call::Call;
pub use connections::CONNECTION_WINDOW;
pub use failure::{Crowd, Failure, Violation};
pub use health::ReadSide;
pub use peers::GrpcPeers;
pub use positions::CORE;
pub use reservations::{Hold, ReservationError, StockReservations};
pub use rpc::Watched;
pub use server::{Gateway, GatewayError, MESSAGE_MAX};
pub use shares::{Limits, refused};
pub use shop::{Means, Policy};
pub use status::DOMAIN;
