//! The words on the wire: services, messages, versioned per context.
//!
//! The modules mirror the proto packages (`shopstream.order.v1` is [`shopstream::order::v1`], in short [`order::v1`]).
//! Every request implements [`Validate`] from the rules in its proto file, without reflection. [`Command`], [`Query`],
//! [`Resumable`] and [`Paged`] give the fields that all commands, queries, streams without end and lists share.

// Generated code: its documentation is that of the proto files, where buf demands a comment on everything; what
// tonic and the validation generator add of their own has none. Its style is not ours to correct.
#[allow(missing_docs, clippy::all)]
pub mod shopstream;

// Generated too: `impl Validate` for each message with rules. They name the messages by their path from the crate's root.
#[allow(unused_mut, clippy::all)]
mod validation {
    use crate::shopstream;

    include!(concat!(env!("OUT_DIR"), "/validate_impl.rs"));
}

pub mod codec;
mod descriptors;
mod request;

#[cfg(test)]
mod tests;

pub use descriptors::{Bound, bound_of, patterns};
pub use prost_protovalidate::{Validate, ValidationError, Violation};
pub use request::{AskedPage, Beginning, Command, Paged, Query, Resumable, Scope};
pub use shopstream::{
    admin, catalog, event, inventory, node, order, payment, process, provider, returns, r#type,
};

/// How many violations one validation collects before it stops looking at further elements, about: what an answer names.
pub const VIOLATIONS_MAX: usize = 20;

/// The descriptors of all packages and of what they import, as protoc wrote them (a `google.protobuf.FileDescriptorSet`
/// with comments and with the validation rules). For reflection; decode it with a library that keeps custom options if
/// the rules matter.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("shopstream");
