//! Positions on the wire: what a command answers and what a query can wait for.

use std::fmt;
use std::sync::Arc;

use shopstream_domain::Partition;
use shopstream_eventlog::{Position, Topology};
use shopstream_proto::r#type::v1 as wire;

use crate::failure::Failure;

/// The log of orders, stock, payments and the catalogue.
pub const CORE: &str = "core";

/// Which log a position is on, so that one of another log is not taken for one of this. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogName(Arc<str>);

tokio::task_local! {
    /// The log that the answer of this task speaks of.
    static ANSWERED_FROM: LogName;
}

impl LogName {
    /// The name of the log with this identity: short, since every answer has it.
    pub fn of(topology: Topology) -> Self {
        // The end of the id: its beginning is the time, which two logs made together share.
        let id = topology.log.0.simple().to_string();
        Self(format!("{}.{}", &id[id.len() - 8..], topology.generation).into())
    }

    /// Lets every position in what `answer` makes be one of this log.
    pub async fn name_in<T>(self, answer: impl Future<Output = T>) -> T {
        ANSWERED_FROM.scope(self, answer).await
    }

    /// Refuses what was given out by another log; `given` is empty where the caller does not say.
    ///
    /// # Errors
    /// [`Failure::AnotherLog`].
    pub(crate) fn check(&self, given: &str, field: impl FnOnce() -> String) -> Result<(), Failure> {
        if given.is_empty() || given == &*self.0 {
            return Ok(());
        }
        // As a terminal may show it, and no more than a name is long.
        let given = given.chars().take(32).flat_map(char::escape_debug).collect();
        Err(Failure::AnotherLog { field: field(), given, here: self.to_string() })
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of the log that this task answers from.
pub(crate) fn log_id() -> String {
    ANSWERED_FROM.try_with(LogName::to_string).unwrap_or_default()
}

/// A position in protobuf.
pub(crate) fn position(position: Position) -> wire::Position {
    wire::Position {
        log: CORE.to_owned(),
        partition: position.partition.into(),
        offset: crate::wire::int(position.offset),
        log_id: log_id(),
    }
}

/// The positions that a query has to reflect.
///
/// # Errors
/// Another log, or a partition that the log does not have.
pub(crate) fn min_positions(
    given: &[wire::Position],
    here: &LogName,
    partitions: u16,
) -> Result<Vec<Position>, Failure> {
    let mut positions = Vec::with_capacity(given.len());
    for (i, position) in given.iter().enumerate() {
        if position.log != CORE {
            let description = format!("there is no log {:?}; it is {CORE:?}", position.log);
            return Err(Failure::invalid(format!("min_position[{i}].log"), description));
        }
        here.check(&position.log_id, || format!("min_position[{i}].log_id"))?;
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
    use shopstream_eventlog::LogId;
    use uuid::Uuid;

    use super::*;

    fn name(id: u128, generation: u32) -> LogName {
        LogName::of(Topology { log: LogId(Uuid::from_u128(id)), generation, partitions: 16 })
    }

    #[test]
    fn positions_of_another_log_or_partition_are_refused() {
        let here = name(7, 1);
        let of = |log_id: &str, log: &str, partition| wire::Position {
            log: log.to_owned(),
            partition,
            offset: 5,
            log_id: log_id.to_owned(),
        };
        let at = |log: &str, partition| of("", log, partition);
        let field_of = |given: &[wire::Position]| match min_positions(given, &here, 16) {
            Err(Failure::Invalid(violations)) => violations[0].field.clone(),
            Err(Failure::AnotherLog { field, .. }) => field,
            other => format!("{other:?}"),
        };
        assert_eq!(field_of(&[at(CORE, 0), at("behaviour", 0)]), "min_position[1].log");
        assert_eq!(field_of(&[at(CORE, 16)]), "min_position[0].partition");
        assert_eq!(field_of(&[at(CORE, 65_536)]), "min_position[0].partition");
        assert_eq!(field_of(&[at(CORE, 1), of("00000008.1", CORE, 0)]), "min_position[1].log_id");
        let good = [at(CORE, 15), of("00000007.1", CORE, 15)];
        assert_eq!(min_positions(&good, &here, 16), Ok(vec![Position { partition: 15, offset: 5 }; 2]));
    }

    #[test]
    fn a_log_made_anew_or_in_another_generation_has_another_name() {
        assert_ne!(name(1, 1), name(2, 1));
        assert_ne!(name(1, 1), name(1, 2));
    }

    #[tokio::test]
    async fn a_position_says_which_log_it_is_on() {
        let at = async { position(Position { partition: 1, offset: 2 }).log_id };
        assert_eq!(name(7, 3).name_in(at).await, "00000007.3");
    }
}
