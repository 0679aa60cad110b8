//! The tables of each view.

use crate::view::Part;
use crate::{Projection, catalog, inventory, order, payment, returns};

/// Which rows come out of the same events. Raise it with every change of a fold, of a row's columns or of an aggregate's
/// state that a row keeps: a database that was filled by another fold is filled again by itself when the program starts.
const FOLD: u32 = 2;

/// The parts of a view in a schema; parts that may refuse an event come before those that never do. None for the
/// journal, whose table is fixed.
pub(crate) fn parts(projection: Projection, schema: &str) -> Vec<Box<dyn Part>> {
    match projection {
        Projection::Journal => Vec::new(),
        Projection::ProductView => catalog::product_view::parts(schema),
        Projection::StockLevel => inventory::stock_level::parts(schema),
        Projection::ReservationView => inventory::reservation_view::parts(schema),
        Projection::OrderDetail => order::order_detail::parts(schema),
        Projection::OrdersByUser => order::orders_by_user::parts(schema),
        Projection::OrderTimeline => order::order_timeline::parts(schema),
        Projection::SagaBoard => order::saga_board::parts(schema),
        Projection::PaymentView => payment::payment_view::parts(schema),
        Projection::ReturnView => returns::return_view::parts(schema),
    }
}

/// What makes the tables of `parts`, as it is remembered with them: by it a program knows whether they are its own.
pub(crate) fn tables(parts: &[Box<dyn Part>]) -> String {
    let tables: String = parts.iter().map(|part| part.create()).collect();
    format!("-- fold {FOLD}\n{tables}")
}
