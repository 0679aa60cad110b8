//! ProcessBulkOrders: many orders in one stream, one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use shopstream_command_handlers::{CommandEnvelope, CommandError, Reply};
use shopstream_domain::{Partition, Sku};
use shopstream_eventlog::{Offset, Position};
use shopstream_proto::order::v1::{
    BulkOrderFailure, CreateOrderRequest, ProcessBulkOrdersRequest, ProcessBulkOrdersResponse,
};
use tonic::{Status, Streaming};

use super::Orders;
use super::submit::Wanted;
use crate::call::Call;
use crate::failure::Failure;
use crate::offers::Offer;
use crate::positions::position;
use crate::shop::Shop;
use crate::status::Answer;

/// How many messages of the stream are worked on at once; together with the size of a message this bounds what a
/// stream holds in memory.
const IN_FLIGHT: usize = 4;
/// How many orders are checked in one go.
const BREATH: usize = 32;
/// How many failures the answer lists.
const LISTED: usize = 1_000;

pub(super) async fn process(
    shop: &Shop,
    call: &Call,
    stream: Streaming<ProcessBulkOrdersRequest>,
) -> Result<ProcessBulkOrdersResponse, Status> {
    let orders = Orders { shop: shop.clone() };
    // In order, so that the indexes of the answer are those of the stream.
    let chunks = stream.map_ok(|message| orders.chunk(call, message.orders)).try_buffered(IN_FLIGHT);
    let tally = chunks.try_fold(Tally::default(), |tally, chunk| std::future::ready(Ok(tally.with(chunk))));
    call.within(async { Ok(tally.await) }).await?.map(Tally::answer)
}

/// What became of one order.
struct Done {
    request_id: String,
    outcome: Result<Reply, Failure>,
}

impl Orders {
    /// Submits the orders of one message side by side. Never fails as a whole: each order stands for itself.
    async fn chunk(&self, call: &Call, orders: Vec<CreateOrderRequest>) -> Result<Vec<Done>, Status> {
        let now = self.shop.now();
        let request_ids: Vec<String> = orders.iter().map(|order| order.request_id.clone()).collect();
        let mut wanted = Vec::with_capacity(orders.len());
        for order in orders {
            // Checking a thousand orders of many lines takes its time; others have theirs in between.
            if wanted.len() % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            wanted.push(Wanted::of(order, call, now));
        }
        let mut outcomes = self.priced(call, &wanted).await;

        let commands: Vec<CommandEnvelope> =
            outcomes.iter_mut().filter_map(|outcome| outcome.as_mut().ok().and_then(Option::take)).collect();
        let mut replies = self.shop.submit_claimed(call, commands).await.into_iter();
        let mut done = Vec::with_capacity(request_ids.len());
        for ((request_id, outcome), wanted) in request_ids.into_iter().zip(outcomes).zip(&wanted) {
            let outcome = match outcome {
                Ok(_submitted) => replies
                    .next()
                    .unwrap_or_else(|| Err(Failure::Internal("fewer replies than commands".to_owned()))),
                Err(failure) => Err(failure),
            };
            let outcome = match (outcome, wanted) {
                // The slow way, which looks twice before it refuses, and whether the key was used for anything.
                (
                    Err(Failure::Refused(_) | Failure::Command(CommandError::RequestReused { .. })),
                    Ok(wanted),
                ) => self.submit(call, wanted).await,
                (outcome, _) => outcome,
            };
            done.push(Done { request_id, outcome });
        }
        Ok(done)
    }

    /// The command of every order, with one look at the catalogue for all of them.
    async fn priced(
        &self,
        call: &Call,
        wanted: &[Result<Wanted, Failure>],
    ) -> Vec<Result<Option<CommandEnvelope>, Failure>> {
        let skus: Vec<Sku> = wanted.iter().flatten().flat_map(Wanted::skus).cloned().collect();
        let offers = self.shop.offers(call, &skus).await;
        let mut rest: Result<&[Option<Arc<Offer>>], &Failure> = offers.as_deref();
        let one = |wanted: &Result<Wanted, Failure>| {
            let wanted = wanted.as_ref().map_err(Failure::clone)?;
            let (mine, others) = rest.map_err(Failure::clone)?.split_at(wanted.skus().count());
            rest = Ok(others);
            Ok(Some(wanted.envelope(call, wanted.command(mine)?)))
        };
        wanted.iter().map(one).collect()
    }
}

/// The answer as it grows.
#[derive(Default)]
struct Tally {
    received: i64,
    accepted: i64,
    highest: BTreeMap<Partition, Offset>,
    failures: Vec<BulkOrderFailure>,
}

impl Tally {
    fn with(mut self, chunk: Vec<Done>) -> Self {
        for Done { request_id, outcome } in chunk {
            match outcome {
                Ok(reply) => {
                    self.accepted += 1;
                    let highest = self.highest.entry(reply.position.partition).or_default();
                    *highest = reply.position.offset.max(*highest);
                }
                Err(failure) if self.failures.len() < LISTED => {
                    self.failures.push(listed(self.received, request_id, failure));
                }
                Err(_counted) => {}
            }
            self.received += 1;
        }
        self
    }

    fn answer(self) -> ProcessBulkOrdersResponse {
        let failed_count = self.received - self.accepted;
        ProcessBulkOrdersResponse {
            received_count: self.received,
            accepted_count: self.accepted,
            failed_count,
            positions: self
                .highest
                .into_iter()
                .map(|(partition, offset)| position(Position { partition, offset }))
                .collect(),
            more_failures_count: failed_count - self.failures.len() as i64,
            failures: self.failures,
        }
    }
}

fn listed(index: i64, request_id: String, failure: Failure) -> BulkOrderFailure {
    let Answer { code, reason, message, violations, .. } = failure.into();
    let field = violations.into_iter().next().map(|violation| violation.field).unwrap_or_default();
    BulkOrderFailure { index, request_id, code: code.into(), reason, message, field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_counts_all_and_lists_the_first_thousand_failures() {
        let reply = |offset| Reply {
            version: 1,
            position: Position { partition: 3, offset },
            outcome: None,
            repeated: false,
        };
        let done = |outcome| Done { request_id: "r".to_owned(), outcome };
        let mut chunk = vec![done(Ok(reply(9))), done(Ok(reply(7)))];
        chunk.extend((0..1_200).map(|_| done(Err(Failure::invalid("lines", "empty")))));
        let answer = Tally::default().with(chunk).answer();
        assert_eq!((answer.received_count, answer.accepted_count, answer.failed_count), (1_202, 2, 1_200));
        assert_eq!((answer.failures.len(), answer.more_failures_count), (1_000, 200));
        assert_eq!((answer.failures[0].index, answer.failures[0].field.as_str()), (2, "lines"));
        assert_eq!((answer.positions[0].partition, answer.positions[0].offset), (3, 9));
    }
}
