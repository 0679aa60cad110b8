//! Parked aggregates and skipped events.

use std::time::Duration;

use prost::Message;
use shopstream_domain::text::{ACCOUNT, LABEL};
use shopstream_domain::{StreamId, Version};
use shopstream_projections::{Keeper, Parked, Projection, ReleaseError, Skipped, Wish};
use shopstream_proto::Validate;
use shopstream_proto::admin::v1::{
    ExplainParkedAggregateRequest, ExplainParkedAggregateResponse, ListParkedAggregatesRequest,
    ListParkedAggregatesResponse, ListSkippedEventsRequest, ListSkippedEventsResponse, ParkedAggregate,
    RetryParkedAggregateRequest, RetryParkedAggregateResponse, SkipParkedEventRequest,
    SkipParkedEventResponse, SkippedEvent,
};
use tokio::time::Instant;

use crate::call::Call;
use crate::event::event;
use crate::failure::Failure;
use crate::page::Page;
use crate::positions::position;
use crate::shop::Shop;
use crate::wire::{id, int, time};

/// Commits whose events are shown of those that wait.
const SHOWN: u32 = 20;
/// How long a wish is waited for at most. It is done later all the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// Behind which row a page begins.
#[derive(Clone, PartialEq, Message)]
struct PageToken {
    #[prost(string, tag = "1")]
    projection: String,
    #[prost(string, tag = "2")]
    stream_id: String,
    /// 0 in a list that has none.
    #[prost(uint64, tag = "3")]
    version: Version,
}

impl PageToken {
    fn place(&self) -> Result<(Keeper, StreamId), Failure> {
        let refuse = || Failure::invalid("page_token", "not a token that this request was given");
        let keeper = Keeper::from_name(&self.projection).ok_or_else(refuse)?;
        Ok((keeper, self.stream_id.parse().map_err(|_| refuse())?))
    }
}

pub(super) async fn list(
    shop: &Shop,
    call: &Call,
    mut request: ListParkedAggregatesRequest,
) -> Result<ListParkedAggregatesResponse, Failure> {
    request.validate()?;
    let keeper = named_or_all(&request.projection)?;
    let page = Page::<PageToken>::asked("ListParkedAggregates", &call.tenant, &mut request)?;
    let after = page.after.as_ref().map(PageToken::place).transpose()?;
    let after = after.as_ref().map(|(keeper, stream)| (*keeper, stream));

    let found = async { Ok(shop.means.database.parked(keeper, after, page.look()).await?) };
    let mut rows = call.read_within(found).await?;
    let next_page_token = page.cut(&mut rows, |last| PageToken {
        projection: last.keeper.name().to_owned(),
        stream_id: last.stream.to_string(),
        version: 0,
    });
    Ok(ListParkedAggregatesResponse { aggregates: rows.iter().map(aggregate).collect(), next_page_token })
}

pub(super) async fn skipped(
    shop: &Shop,
    call: &Call,
    mut request: ListSkippedEventsRequest,
) -> Result<ListSkippedEventsResponse, Failure> {
    request.validate()?;
    let keeper = named_or_all(&request.projection)?;
    let page = Page::<PageToken>::asked("ListSkippedEvents", &call.tenant, &mut request)?;
    let after =
        page.after.as_ref().map(|last| last.place().map(|place| (place, last.version))).transpose()?;
    let after = after.as_ref().map(|((keeper, stream), version)| (*keeper, stream, *version));

    let found = async { Ok(shop.means.database.skipped(keeper, after, page.look()).await?) };
    let mut rows = call.read_within(found).await?;
    let next_page_token = page.cut(&mut rows, |last| PageToken {
        projection: last.keeper.name().to_owned(),
        stream_id: last.obstacle.stream.to_string(),
        version: last.obstacle.version,
    });
    Ok(ListSkippedEventsResponse { events: rows.iter().map(left_out).collect(), next_page_token })
}

pub(super) async fn explain(
    shop: &Shop,
    call: &Call,
    request: &ExplainParkedAggregateRequest,
) -> Result<ExplainParkedAggregateResponse, Failure> {
    request.validate()?;
    let (keeper, stream) = (named(&request.projection)?, stream(&request.stream_id)?);
    let database = &shop.means.database;
    let found = async {
        let Some(parked) = database.parked_one(keeper, &stream).await? else { return Ok(None) };
        let obstacle = &parked.obstacle;
        let commits = database.commits_from(&obstacle.stream, obstacle.version, SHOWN).await?;
        Ok(Some((parked, commits)))
    };
    let not_parked = || ReleaseError::NotParked { keeper, stream: stream.clone() };
    let (parked, commits) = call.read_within(found).await?.ok_or_else(not_parked)?;
    let first = int(parked.obstacle.version);
    let events = commits.iter().flat_map(|record| (0..record.commit.events.len()).map(|i| event(record, i)));
    Ok(ExplainParkedAggregateResponse {
        waiting: events.filter(|event| event.version >= first).collect(),
        retry_effect: retry_effect(&parked),
        skip_effect: skip_effect(&parked),
        aggregate: Some(aggregate(&parked)),
    })
}

pub(super) async fn retry(
    shop: &Shop,
    call: &Call,
    request: &RetryParkedAggregateRequest,
) -> Result<RetryParkedAggregateResponse, Failure> {
    request.validate()?;
    let (keeper, stream) = (named(&request.projection)?, stream(&request.stream_id)?);
    let parked = shop.means.database.release(keeper, &stream, Wish::Retry, deadline(call)).await?;
    Ok(RetryParkedAggregateResponse { parked: parked.as_ref().map(aggregate) })
}

pub(super) async fn skip(
    shop: &Shop,
    call: &Call,
    request: SkipParkedEventRequest,
) -> Result<SkipParkedEventResponse, Failure> {
    request.validate()?;
    let (keeper, stream) = (named(&request.projection)?, stream(&request.stream_id)?);
    for (field, text, rule, wanted) in [
        ("reason", &request.reason, ACCOUNT, "say why the event may be left out: it is kept for ever"),
        (
            "skipped_by",
            &request.skipped_by,
            LABEL,
            "say who decides that the event is left out: it is kept for ever",
        ),
    ] {
        if text.trim().is_empty() {
            return Err(Failure::invalid(field, wanted));
        }
        rule.check(field, text)?;
    }
    if keeper == Keeper::Sagas {
        return Err(Failure::invalid("projection", NO_SKIP));
    }
    // Validation has seen that it is above zero.
    let version = request.version.unsigned_abs();
    let wish = Wish::Skip { version, reason: request.reason, by: request.skipped_by };
    let parked = shop.means.database.release(keeper, &stream, wish, deadline(call)).await?;
    Ok(SkipParkedEventResponse { parked: parked.as_ref().map(aggregate) })
}

const NO_SKIP: &str = "a process skips nothing: without a payment or a hold that it has not seen it would act as if there \
     were none; run a program that reads the event, then retry";

fn deadline(call: &Call) -> Instant {
    call.answer_by().min(Instant::now() + PATIENCE)
}

fn named_or_all(name: &str) -> Result<Option<Keeper>, Failure> {
    if name.is_empty() { Ok(None) } else { named(name).map(Some) }
}

fn named(name: &str) -> Result<Keeper, Failure> {
    Keeper::from_name(name).ok_or_else(|| {
        let why = if name == Projection::Journal.name() {
            "the journal parks nothing: it keeps payloads as they are and decodes none".to_owned()
        } else {
            format!("{name:?} is neither a read model nor \"sagas\"")
        };
        Failure::invalid("projection", why)
    })
}

fn stream(name: &str) -> Result<StreamId, Failure> {
    id(name.parse(), "stream_id")
}

fn aggregate(parked: &Parked) -> ParkedAggregate {
    let Parked { keeper, stream, obstacle, since, waiting, wished } = parked;
    ParkedAggregate {
        projection: keeper.name().to_owned(),
        stream_id: stream.to_string(),
        event_stream_id: obstacle.stream.to_string(),
        version: int(obstacle.version),
        position: Some(position(obstacle.position)),
        reason: obstacle.reason.clone(),
        parked_time: Some(time(*since)),
        waiting_count: int(*waiting),
        wish_waits: *wished,
    }
}

fn left_out(skipped: &Skipped) -> SkippedEvent {
    let Skipped { keeper, obstacle, reason, by, at } = skipped;
    SkippedEvent {
        projection: keeper.name().to_owned(),
        stream_id: obstacle.stream.to_string(),
        version: int(obstacle.version),
        position: Some(position(obstacle.position)),
        obstacle: obstacle.reason.clone(),
        reason: reason.clone(),
        skipped_by: by.clone(),
        skipped_time: Some(time(*at)),
    }
}

fn retry_effect(parked: &Parked) -> String {
    let Parked { keeper, stream, waiting, .. } = parked;
    match keeper {
        Keeper::View(_) => format!(
            "folds the {waiting} events that wait into {keeper}, in order, in one transaction; where one of them cannot be \
             folded still, the aggregate is parked there"
        ),
        Keeper::Sagas => format!(
            "reads the streams of {stream} again and goes on where it was; where one of them cannot be read still, it is \
             parked as before"
        ),
    }
}

fn skip_effect(parked: &Parked) -> String {
    let Parked { keeper, obstacle, waiting, .. } = parked;
    match keeper {
        Keeper::View(_) => format!(
            "leaves event {} out of {keeper} for ever, also in every later rebuild, and folds the {} events behind it; the \
             log keeps the event",
            obstacle.version,
            waiting.saturating_sub(1)
        ),
        Keeper::Sagas => NO_SKIP.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_parks_nothing_is_refused_with_the_reason() {
        for (name, said) in [("journal", "decodes none"), ("journey", "neither"), ("", "neither")] {
            let failure = named(name).expect_err(name);
            assert!(
                matches!(&failure, Failure::Invalid(v) if v[0].field == "projection" && v[0].description.contains(said)),
                "{failure:?}"
            );
        }
        assert_eq!(named("sagas"), Ok(Keeper::Sagas));
        assert_eq!(named("stock_level"), Ok(Keeper::View(Projection::StockLevel)));
    }
}
