//! Speaks gRPC: who asks, what do they mean, how do we answer.

mod call;
mod catalog;
mod command;
mod failure;
mod follow;
mod landmarks;
mod live;
mod offers;
mod positions;
mod reservations;
mod rpc;
mod shop;
mod status;
mod token;
mod wire;
mod order {
    mod submit;
}
