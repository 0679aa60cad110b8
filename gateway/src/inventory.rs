//! InventoryService: stock, and holds on it.

use std::collections::BTreeMap;

use shopstream_command_handlers::CommandEnvelope;
use shopstream_domain::inventory::{
    ReleaseReason, ReservationCommand, ReservationEvent, ShortLine, StockCommand, StockKey,
};
use shopstream_domain::{LocationId, Quantity, ReservationId, Sku, Timestamp, model};
use shopstream_eventlog::schema;
use shopstream_projections::Projection;
use shopstream_proto::Validate;
use shopstream_proto::inventory::v1 as wire;
use shopstream_proto::inventory::v1::inventory_service_server::InventoryService;
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{
    AdjustReason, GetStockRequest, GetStockResponse, ReleaseStockRequest, ReleaseStockResponse,
    ReserveStockRequest, ReserveStockResponse, StreamStockUpdatesRequest, StreamStockUpdatesResponse,
    UpdateStockRequest, UpdateStockResponse, reserve_stock_response,
};
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::command::Asked;
use crate::failure::Failure;
use crate::places::{Wait, waiting};
use crate::positions::position;
use crate::reservations::Hold;
use crate::shop::{Policy, Shop};
use crate::stream::Messages;
use crate::wire::{id, int, time};

#[cfg(test)]
mod tests;
mod updates;
mod view;

use updates::StockUpdates;

/// The largest number of units in one request.
const UNITS_MAX: i64 = 1_000_000_000;

/// The service.
pub(crate) struct Inventory {
    pub(crate) shop: Shop,
}

#[tonic::async_trait]
impl InventoryService for Inventory {
    async fn get_stock(
        &self,
        request: Request<GetStockRequest>,
    ) -> Result<Response<GetStockResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let stock = self.stock(&call, request.get_ref()).await?;
        Ok(Response::new(GetStockResponse { stock: Some(stock) }))
    }

    async fn update_stock(
        &self,
        request: Request<UpdateStockRequest>,
    ) -> Result<Response<UpdateStockResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let change = change_of(request.get_ref());
        let (sku, command) = update(request.into_inner(), &call)?;
        let reply = match self.check_sku(&call, &sku).await {
            // The stock names a field of the change, and the request has that inside.
            Ok(()) => self.shop.submit(&call, command).await.map_err(|failure| failure.inside(change))?,
            Err(refused) => self.shop.recalled_or(&call, command.recalling(), refused).await?,
        };
        Ok(Response::new(UpdateStockResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }

    async fn reserve_stock(
        &self,
        request: Request<ReserveStockRequest>,
    ) -> Result<Response<ReserveStockResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let wanted = Wanted::of(request.into_inner(), &call, self.shop.means.policy)?;
        Ok(Response::new(self.reserve(&call, wanted).await?))
    }

    async fn release_stock(
        &self,
        request: Request<ReleaseStockRequest>,
    ) -> Result<Response<ReleaseStockResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let release = Release::of(request.into_inner(), &call)?;
        Ok(Response::new(self.release(&call, release).await?))
    }

    type StreamStockUpdatesStream = Messages<StreamStockUpdatesResponse>;

    async fn stream_stock_updates(
        &self,
        request: Request<StreamStockUpdatesRequest>,
    ) -> Result<Response<Self::StreamStockUpdatesStream>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(
            crate::updates::stream::<StockUpdates>(&self.shop, &call, request.into_inner()).await?,
        ))
    }
}

impl Inventory {
    async fn stock(&self, call: &Call, request: &GetStockRequest) -> Result<wire::StockLevel, Failure> {
        request.validate()?;
        let (sku, location) = (id(Sku::new(&request.sku), "sku")?, location(&request.location)?);
        let stream = sku.stock_stream(&call.tenant, &location);
        let read = || async { Ok(self.shop.reads().stock(&call.tenant, &sku, &location).await?) };
        match self.shop.find(call, &[Projection::StockLevel], &stream, &request.min_position, read).await? {
            Some(level) => Ok(view::stock_level(&level)),
            None => {
                let detail = format!("nothing was ever recorded for {sku} at {location}");
                Err(Failure::not_found("STOCK_NOT_FOUND", detail))
            }
        }
    }

    /// Stock is kept of what somebody sells.
    async fn check_sku(&self, call: &Call, sku: &Sku) -> Result<(), Failure> {
        let skus = std::slice::from_ref(sku);
        if self.shop.offers(call, skus).await? == [None] && self.shop.offers_now(call, skus).await? == [None]
        {
            return Err(Failure::not_found("SKU_UNKNOWN", format!("no product has the SKU {sku}")));
        }
        Ok(())
    }

    /// The request is recorded under the client's own id first, so that a repeat is told from another wish; the
    /// process then asks the stock. What it decided is answered from the reservation's history, and so the same
    /// whatever happened to the reservation since.
    async fn reserve(&self, call: &Call, wanted: Wanted) -> Result<ReserveStockResponse, Failure> {
        let Wanted { request, hold } = wanted;
        let (origin, reservation_id) = (request.origin.clone(), hold.reservation_id.clone());
        let requested = self.shop.submit(call, request).await?;
        if requested.repeated
            && let Some(answer) = self.decided(call, &reservation_id).await?
        {
            return Ok(answer);
        }
        let held: Vec<_> =
            hold.keys.iter().map(|key| key.sku.stock_stream(&call.tenant, &key.location)).collect();
        let reserved = async { Ok(self.shop.means.reservations.reserve(hold, origin).await?) };
        waiting(Wait::Command, call.answer_by(), call.within(reserved)).await?;
        self.shop.note_changed(&held);
        self.decided(call, &reservation_id).await?.ok_or_else(|| {
            let detail = format!("{reservation_id} was released while the stock was being asked");
            Failure::precondition("RESERVATION_RELEASED", "reservation_id", detail)
        })
    }

    /// Whether the reservation was given what it asked for; `None` where that is not decided, or never will be.
    async fn decided(
        &self,
        call: &Call,
        reservation_id: &ReservationId,
    ) -> Result<Option<ReserveStockResponse>, Failure> {
        let stream = reservation_id.stream(&call.tenant);
        self.shop.catch_up_on(call, Projection::Journal, &stream).await?;
        let loaded = async { Ok(self.shop.means.journal.load(std::slice::from_ref(&stream)).await?) };
        let history = call.read_within(loaded).await?.pop().unwrap_or_default();
        let mut until = None;
        for record in &history {
            for (version, data) in (record.commit.first_version..).zip(&record.commit.events) {
                let event = schema::decode(stream.kind(), data);
                let event = event.map_err(|error| Failure::Internal(error.to_string()))?;
                let outcome = match event {
                    model::Event::Reservation(ReservationEvent::Requested(requested)) => {
                        until = Some(requested.until);
                        continue;
                    }
                    model::Event::Reservation(ReservationEvent::Held(_)) => held(until),
                    model::Event::Reservation(ReservationEvent::Rejected(rejected)) => short(rejected.short),
                    _ => continue,
                };
                return Ok(Some(ReserveStockResponse {
                    version: int(version),
                    position: Some(position(record.position)),
                    reservation_id: reservation_id.as_str().to_owned(),
                    outcome: Some(outcome),
                }));
            }
        }
        Ok(None)
    }

    async fn release(&self, call: &Call, release: Release) -> Result<ReleaseStockResponse, Failure> {
        let origin = release.command.origin.clone();
        let reply = self.shop.submit(call, release.command).await?;
        let Release { reservation_id, reason, .. } = release;
        let followed =
            self.shop.means.reservations.release(call.tenant.clone(), reservation_id, reason, origin);
        // Decided is enough: if the stock items do not follow in time, the process sees to it.
        let followed = waiting(Wait::Command, call.answer_by(), call.within(async { Ok(followed.await) }));
        if let Ok(Err(error)) = followed.await {
            tracing::warn!(cause = %error, "a decided release has not been followed yet");
        }
        Ok(ReleaseStockResponse { version: int(reply.version), position: Some(position(reply.position)) })
    }
}

/// The location that a request names; `main` where it names none.
pub(crate) fn location(name: &str) -> Result<LocationId, Failure> {
    if name.is_empty() { Ok(LocationId::main()) } else { id(LocationId::new(name), "location") }
}

/// The name of the field that says what changed.
fn change_of(request: &UpdateStockRequest) -> &'static str {
    match request.change {
        Some(Change::Receive(_)) => "receive",
        Some(Change::Adjust(_)) => "adjust",
        Some(Change::Count(_)) => "count",
        None => "change",
    }
}

fn update(mut request: UpdateStockRequest, call: &Call) -> Result<(Sku, CommandEnvelope), Failure> {
    let asked = Asked::of(&mut request)?;
    let (sku, location) = (id(Sku::new(&request.sku), "sku")?, location(&request.location)?);
    let stream = sku.stock_stream(&call.tenant, &location);
    let command = match request.change {
        Some(Change::Receive(receive)) => {
            let quantity = id(Quantity::new(receive.quantity), "receive.quantity")?;
            StockCommand::Receive { sku: sku.clone(), location, quantity, reference: None }
        }
        Some(Change::Adjust(adjust)) => {
            if adjust.delta == 0 || !(-UNITS_MAX..=UNITS_MAX).contains(&adjust.delta) {
                return Err(Failure::invalid("adjust.delta", "not 0, and at most 1000000000 either way"));
            }
            StockCommand::Adjust { delta: adjust.delta, reason: adjust_reason(adjust.reason())?.to_owned() }
        }
        Some(Change::Count(count)) => {
            // Without an upper bound: receipts may have brought any number there.
            if count.found < 0 {
                return Err(Failure::invalid("count.found", "0 or more"));
            }
            StockCommand::Count { found: count.found }
        }
        None => return Err(Failure::invalid("change", "exactly one of receive, adjust and count")),
    };
    Ok((sku, asked.envelope(call, stream, command)))
}

fn adjust_reason(reason: AdjustReason) -> Result<&'static str, Failure> {
    match reason {
        AdjustReason::Correction => Ok("correction"),
        AdjustReason::Shrinkage => Ok("shrinkage"),
        AdjustReason::Damage => Ok("damage"),
        AdjustReason::Found => Ok("found"),
        AdjustReason::Unspecified => Err(Failure::invalid("adjust.reason", "required")),
    }
}

/// A hold as a request wants it.
#[derive(Debug)]
struct Wanted {
    request: CommandEnvelope,
    hold: Hold,
}

impl Wanted {
    fn of(mut request: ReserveStockRequest, call: &Call, policy: Policy) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let reservation_id =
            request.reservation_id.unwrap_or_else(|| asked.derived_id(call, "ReserveStock", "res_"));
        let reservation_id = id(ReservationId::new(&reservation_id), "reservation_id")?;
        let hold = Hold {
            tenant: call.tenant.clone(),
            reservation_id: reservation_id.clone(),
            keys: summed(&request.lines)?,
            hold_seconds: match request.hold_seconds {
                0 => policy.hold_seconds,
                seconds => seconds.min(policy.hold_seconds_max),
            },
            hard_max_seconds: policy.hold_seconds_max,
        };
        let command = ReservationCommand::Request {
            reservation_id,
            keys: hold.keys.clone(),
            hold_seconds: hold.hold_seconds,
            hard_max_seconds: hold.hard_max_seconds,
        };
        let stream = hold.reservation_id.stream(&call.tenant);
        Ok(Self { request: asked.envelope(call, stream, command), hold })
    }
}

/// Demand per SKU and location, ordered by them, so that the same lines in another order are the same wish.
fn summed(lines: &[wire::ReservationLine]) -> Result<Vec<StockKey>, Failure> {
    let mut demand: BTreeMap<(Sku, LocationId), i64> = BTreeMap::new();
    for (i, line) in lines.iter().enumerate() {
        let parsed = || Ok((id(Sku::new(&line.sku), "sku")?, location(&line.location)?));
        let key = parsed().map_err(|failure: Failure| failure.inside(&format!("lines[{i}]")))?;
        let units = demand.entry(key).or_default();
        // At most 1,000 lines of 10⁹ each, so the sum itself cannot overflow.
        *units += line.quantity;
        if *units > UNITS_MAX {
            let description = "more than 1000000000 of this SKU over all lines";
            return Err(Failure::invalid(format!("lines[{i}].quantity"), description));
        }
    }
    let key = |((sku, location), units)| {
        Ok(StockKey { sku, location, quantity: id(Quantity::new(units), "lines")? })
    };
    demand.into_iter().map(key).collect()
}

fn held(until: Option<Timestamp>) -> reserve_stock_response::Outcome {
    reserve_stock_response::Outcome::Held(wire::ReservationHeld { expire_time: until.map(time) })
}

fn short(short: Vec<ShortLine>) -> reserve_stock_response::Outcome {
    let short_lines = short.into_iter().map(short_line).collect();
    reserve_stock_response::Outcome::Rejected(wire::ReservationRejected { short_lines })
}

fn short_line(short: ShortLine) -> wire::ShortLine {
    wire::ShortLine {
        sku: short.sku.into(),
        location: short.location.into(),
        requested: short.requested.get(),
        available: short.available,
    }
}

/// A release as a request wants it.
#[derive(Debug)]
struct Release {
    reservation_id: ReservationId,
    reason: ReleaseReason,
    command: CommandEnvelope,
}

impl Release {
    fn of(mut request: ReleaseStockRequest, call: &Call) -> Result<Self, Failure> {
        let asked = Asked::of(&mut request)?;
        let reservation_id = id(ReservationId::new(&request.reservation_id), "reservation_id")?;
        let reason = match request.reason() {
            wire::ReleaseReason::Unspecified | wire::ReleaseReason::Requested => ReleaseReason::Requested,
            wire::ReleaseReason::OrderCancelled => ReleaseReason::Cancelled,
            // Validation has refused it already.
            wire::ReleaseReason::Expired => return Err(Failure::invalid("reason", "only time can say that")),
        };
        if reservation_id.is_of_an_order() {
            let detail = format!("{reservation_id} is the hold of an order: cancel or return the order");
            return Err(Failure::precondition("RESERVATION_OF_ORDER", "reservation_id", detail));
        }
        let stream = reservation_id.stream(&call.tenant);
        let command = asked.envelope(call, stream, ReservationCommand::Release { reason });
        Ok(Self { reservation_id, reason, command })
    }
}
