//! Which commit wakes which process.
//!
//! A process follows its own replies, so what it wrote itself wakes nobody (`rulings.md` 23), and stock events are
//! not looked at. Only a new order is decoded here; all else is known by the names of its events.

use shopstream_domain::inventory::ReservationEvent;
use shopstream_domain::model::Event;
use shopstream_domain::requests::NothingChanged;
use shopstream_domain::{OrderId, StreamId, StreamKind, Timestamp};
use shopstream_eventlog::{CommitRecord, schema};

use crate::issue::is_own;

/// What a commit asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Begin with this very commit.
    Begin(StreamId),
    /// Look at the streams again.
    Look(StreamId),
    /// Wake at this time.
    At(StreamId, Timestamp),
}

/// What `record` asks for; mostly nothing.
pub(crate) fn route(record: &CommitRecord) -> Vec<Call> {
    let commit = &record.commit;
    let has = |name: &str| commit.events.iter().any(|event| event.event_type == name);
    let stream = &commit.stream;
    match stream.kind() {
        StreamKind::Product
        | StreamKind::Sku
        | StreamKind::Price
        | StreamKind::Stock
        | StreamKind::Request => vec![],
        _ if is_own(&commit.actor) => vec![],
        // A client's request that came to nothing, on a stream that may have nothing else.
        _ if commit.events.iter().all(|event| event.event_type == NothingChanged::TYPE.0) => vec![],
        StreamKind::Order if has("OrderSubmitted") => {
            checkout_of(stream).map(Call::Begin).into_iter().collect()
        }
        StreamKind::Order if has("OrderCancellationRequested") => {
            checkout_of(stream).map(Call::Look).into_iter().collect()
        }
        StreamKind::Order => vec![],
        StreamKind::Checkout if has("CheckoutResumed") || has("CheckoutSettled") => {
            vec![Call::Look(stream.clone())]
        }
        StreamKind::Checkout => vec![],
        StreamKind::Payment => {
            let operation = has("ProviderOperationStarted").then(|| Call::Look(stream.clone()));
            operation.into_iter().chain(checkout_of(stream).map(Call::Look)).collect()
        }
        StreamKind::Reservation => hold_end(record).into_iter().collect(),
        StreamKind::Return if ["ReturnRequested", "ReturnResumed", "ReturnSettled"].into_iter().any(has) => {
            vec![Call::Look(stream.clone())]
        }
        StreamKind::Return => vec![],
    }
}

/// The checkout of an order or of a payment of it.
fn checkout_of(stream: &StreamId) -> Option<StreamId> {
    let (_, root) = stream.id().split_once('_')?;
    let root = match stream.kind() {
        StreamKind::Payment => root.rsplit_once('.')?.0,
        _ => root,
    };
    let order_id = OrderId::new(&format!("ord_{root}")).ok()?;
    Some(order_id.checkout_stream(&stream.tenant()))
}

/// When a hold that somebody outside took or extended has to be looked at. At once, where that cannot be read: whoever
/// looks says so.
fn hold_end(record: &CommitRecord) -> Option<Call> {
    let stream = &record.commit.stream;
    let events = record.commit.events.iter().rev();
    events.map(|data| schema::decode(StreamKind::Reservation, data)).find_map(|event| match event {
        Ok(Event::Reservation(ReservationEvent::Requested(requested))) => {
            Some(Call::At(stream.clone(), requested.until))
        }
        Ok(Event::Reservation(ReservationEvent::Extended(extended))) => {
            Some(Call::At(stream.clone(), extended.until))
        }
        Ok(_) => None,
        Err(_) => Some(Call::Look(stream.clone())),
    })
}
