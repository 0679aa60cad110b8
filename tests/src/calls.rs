//! The call log of the payment provider simulator: an independent witness of what was charged.

use std::path::Path;

use serde::Deserialize;

/// One call, as the simulator wrote it down before it answered.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    /// `authorize`, `capture`, `void`, `refund` or `get`.
    pub operation: String,
    /// `{payment_id}:{operation}:{n}`.
    pub key: String,
    /// Money moved, was promised, or a promise was given up.
    pub effective: bool,
    /// How much.
    pub amount_minor: i64,
}

/// All calls that a shop on this data made, in order.
///
/// # Panics
/// There is no such log, or it is not one.
pub fn calls(data: &Path) -> Vec<Call> {
    let path = data.join("provider/calls.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}
