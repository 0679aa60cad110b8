//! The recount after a crash: the log is read from its beginning, and every command that was ever acknowledged must
//! be there exactly once.

use anyhow::ensure;
use serde::Serialize;
use shopstream_proto::event::v1::ReadRequest;
use tonic::Request;

use super::acknowledged::Acknowledged;
use super::calls::Numbers;
use crate::client::{Client, describe};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Recount {
    pub(super) acknowledged: u64,
    /// Of the acknowledged ones, those on the log.
    pub(super) found: u64,
    /// On the log without an answer that arrived: in flight at the crash.
    pub(super) unanswered: u64,
    /// Acknowledged and not there.
    pub(super) lost: u64,
    /// There more than once, acknowledged or not.
    pub(super) doubled: u64,
}

impl Recount {
    /// Compares how often each command is on the log with what was acknowledged.
    fn of(times: &[u8], acknowledged: &Acknowledged) -> Self {
        let mut recount = Self { acknowledged: acknowledged.numbers.len() as u64, ..Self::default() };
        let mut promised = vec![false; times.len()];
        for number in &acknowledged.numbers {
            match promised.get_mut(*number as usize) {
                Some(promised) => *promised = true,
                None => recount.lost += 1,
            }
        }
        for (times, promised) in times.iter().zip(promised) {
            match (times, promised) {
                (0, true) => recount.lost += 1,
                (0, false) => {}
                (_, true) => recount.found += 1,
                (_, false) => recount.unanswered += 1,
            }
            recount.doubled += u64::from(*times > 1);
        }
        recount
    }

    /// # Errors
    /// A promise was broken.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.lost == 0 && self.doubled == 0,
            "{} acknowledged commands are lost, {} are on the log more than once",
            self.lost,
            self.doubled
        );
        Ok(())
    }
}

/// Reads the whole log and counts.
///
/// # Errors
/// The log cannot be read.
pub(super) async fn recount(
    client: &Client,
    numbers: &Numbers,
    acknowledged: &Acknowledged,
) -> anyhow::Result<Recount> {
    let refused = |status: tonic::Status| anyhow::anyhow!(describe(&status));
    let kinds = ["order", "stock"].map(str::to_owned).into();
    let request = ReadRequest { stream_types: kinds, ..ReadRequest::default() };
    let mut events = client.shop().events.read(Request::new(request)).await.map_err(refused)?.into_inner();
    let mut times = vec![0_u8; usize::try_from(numbers.given())?];
    while let Some(read) = events.message().await.map_err(refused)? {
        // A command's first event stands for the command. Those of a saga have other ids.
        for event in read.events.iter().filter(|event| event.index_in_record == 0) {
            if let Some(times) =
                numbers.of(&event.command_id).and_then(|number| times.get_mut(number as usize))
            {
                *times = times.saturating_add(1);
            }
        }
    }
    Ok(Recount::of(&times, acknowledged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_doubled_is_found() {
        let acknowledged = Acknowledged::of(vec![0, 1, 2, 9], []);
        let recount = Recount::of(&[1, 0, 2, 1, 0], &acknowledged);
        let expected = Recount { acknowledged: 4, found: 2, unanswered: 1, lost: 2, doubled: 1 };
        assert_eq!(recount, expected);
        assert!(recount.check().is_err());
        let acknowledged = Acknowledged::of(vec![0, 3], []);
        assert!(Recount::of(&[1, 0, 0, 1, 1], &acknowledged).check().is_ok());
    }
}
