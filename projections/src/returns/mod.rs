//! What returns look like to readers.

pub mod return_view;

pub use return_view::ReturnView;
