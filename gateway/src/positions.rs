//! Positions on the wire: what a command answers and what a query can wait for.

use shopstream_domain::Partition;
use shopstream_eventlog::Position;
use shopstream_proto::r#type::v1 as wire;

use crate::failure::Failure;

/// The log of orders, stock, payments and the catalogue.
pub const CORE: &str = "core";

/// A position in protobuf.
pub(crate) fn position(position: Position) -> wire::Position {
    wire::Position {
        log: CORE.to_owned(),
        partition: position.partition.into(),
        offset: crate::wire::int(position.offset),
    }
}

/// The positions that a query has to reflect.
///
/// # Errors
/// Another log, or a partition that the log does not have.
pub(crate) fn min_positions(given: &[wire::Position], partitions: u16) -> Result<Vec<Position>, Failure> {
    let mut positions = Vec::with_capacity(given.len());
    for (i, position) in given.iter().enumerate() {
        if position.log != CORE {
            let description = format!("there is no log {:?}; it is {CORE:?}", position.log);
            return Err(Failure::invalid(format!("min_position[{i}].log"), description));
        }
        let partition = partition(position.partition, partitions, || format!("min_position[{i}].partition"))?;
        // Validation has seen that it is not negative.
        positions.push(Position { partition, offset: position.offset.unsigned_abs() });
    }
    Ok(positions)
}

/// A partition that a request names.
///
/// # Errors
/// The log does not have it.
pub(crate) fn partition(
    given: u32,
    partitions: u16,
    field: impl FnOnce() -> String,
) -> Result<Partition, Failure> {
    match Partition::try_from(given) {
        Ok(partition) if partition < partitions => Ok(partition),
        _ => Err(Failure::invalid(
            field(),
            format!("the log has partitions 0 to {}", partitions.saturating_sub(1)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_another_log_or_partition_are_refused() {
        let at = |log: &str, partition| wire::Position { log: log.to_owned(), partition, offset: 5 };
        let field_of = |given: &[wire::Position]| match min_positions(given, 16) {
            Err(Failure::Invalid(violations)) => violations[0].field.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!(field_of(&[at(CORE, 0), at("behaviour", 0)]), "min_position[1].log");
        assert_eq!(field_of(&[at(CORE, 16)]), "min_position[0].partition");
        assert_eq!(field_of(&[at(CORE, 65_536)]), "min_position[0].partition");
        assert_eq!(min_positions(&[at(CORE, 15)], 16), Ok(vec![Position { partition: 15, offset: 5 }]));
    }
}
