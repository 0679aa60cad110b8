//! What payments look like to readers.

pub mod payment_view;

pub use payment_view::PaymentView;
