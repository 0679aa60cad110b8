//! What the catalogue and its prices look like to readers.

pub mod product_view;

pub use product_view::{ListPrice, Offer, Product, ProductStatus, ProductView};
