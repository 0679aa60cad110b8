//! StreamOrderUpdates: the present state of orders, then every change of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;

use lru::LruCache;
use shopstream_domain::model::Event;
use shopstream_domain::order::{Event as OrderEvent, Placement};
use shopstream_domain::{CustomerId, OrderId, StreamId, StreamKind, TenantId, Version};
use shopstream_eventlog::{CommitRecord, EventData, Offset, schema};
use shopstream_projections::Projection;
use shopstream_projections::order::{OrderStatus, OrderSummary};
use shopstream_proto::Validate;
use shopstream_proto::order::v1::{StreamOrderUpdatesRequest, StreamOrderUpdatesResponse};
use tokio::time::timeout;

use super::view;
use crate::call::Call;
use crate::failure::Failure;
use crate::follow::{Delivery, Follow};
use crate::shop::Shop;
use crate::stream::{HEARTBEAT, Messages, Source, messages};
use crate::token::{Resume, Scope};
use crate::wire::id;

/// Rows per query.
const PAGE: u32 = 500;
/// How many orders one stream keeps in memory; what is not among them is folded from the journal again.
const FOLDED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Opens the stream.
pub(super) async fn stream(
    shop: &Shop,
    call: &Call,
    mut request: StreamOrderUpdatesRequest,
) -> Result<Messages<StreamOrderUpdatesResponse>, Failure> {
    request.validate()?;
    shop.see(call, Projection::OrdersByUser, &std::mem::take(&mut request.min_position)).await?;
    let token = std::mem::take(&mut request.resume_token);
    let scope = Scope::new("StreamOrderUpdates", "resume_token", &call.tenant, &request);
    let filter = Filter::of(&call.tenant, &request)?;
    let resume = Resume::of(&token, scope, shop.means.commands.partitions())?;
    let present = match &resume {
        Some(resume) if resume.present_after.is_empty() => None,
        Some(resume) => Some(Some(id(OrderId::new(&resume.present_after), "resume_token")?)),
        None => Some(None),
    };
    // Where the rows are at least; what they have beyond it comes again and is left out then.
    let view = || shop.reads().progress().watch(Projection::OrdersByUser).borrow().clone();
    let from = resume.map_or_else(view, |resume| resume.next);
    let follow = Follow::from(&shop.live, from.clone()).await?;
    let updates = Updates {
        shop: shop.clone(),
        filter,
        scope,
        present,
        from,
        follow,
        shown: HashMap::new(),
        folded: LruCache::new(FOLDED),
        ready: VecDeque::new(),
    };
    Ok(messages(&shop.live, updates))
}

struct Updates {
    shop: Shop,
    filter: Filter,
    scope: Scope,
    /// `Some`: the present state is still to be sent, after this order.
    present: Option<Option<OrderId>>,
    /// By partition, the offset behind what was made into messages.
    from: Vec<Offset>,
    follow: Follow,
    /// Rows that were sent with a version which the log will show again. Few: those that changed meanwhile.
    shown: HashMap<StreamId, Version>,
    folded: LruCache<StreamId, OrderSummary>,
    /// Made of one page or one delivery.
    ready: VecDeque<StreamOrderUpdatesResponse>,
}

impl Source for Updates {
    type Message = StreamOrderUpdatesResponse;

    async fn next(&mut self) -> Result<Option<Self::Message>, Failure> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if let Some(after) = self.present.take() {
                self.show_present(after.as_ref()).await?;
                continue;
            }
            match timeout(HEARTBEAT, self.follow.next()).await {
                Ok(delivery) => self.show_changes(&delivery?).await?,
                Err(_) => {
                    let resume_token = self.token(String::new());
                    return Ok(Some(StreamOrderUpdatesResponse { resume_token, ..Default::default() }));
                }
            }
        }
    }
}

impl Updates {
    async fn show_present(&mut self, after: Option<&OrderId>) -> Result<(), Failure> {
        let Filter { tenant, orders, customer, .. } = &self.filter;
        let rows = self.shop.reads().order_summaries(tenant, orders, customer.as_ref(), after, PAGE).await?;
        if rows.len() == PAGE as usize {
            self.present = rows.last().map(|last| Some(last.order_id.clone()));
        }
        for row in rows {
            if self.from.get(usize::from(row.partition)).is_some_and(|from| row.offset >= *from) {
                self.shown.insert(row.order_id.stream(tenant), row.version);
            }
            let resume_token = self.token(row.order_id.as_str().to_owned());
            let order = Some(view::summary(&row));
            self.ready.push_back(StreamOrderUpdatesResponse {
                order,
                event_type: String::new(),
                resume_token,
            });
        }
        Ok(())
    }

    async fn show_changes(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        for record in delivery.commits() {
            if self.filter.may_want(&record.commit.stream) {
                self.change(record).await?;
            }
        }
        self.from = self.follow.resume().next;
        Ok(())
    }

    async fn change(&mut self, record: &CommitRecord) -> Result<(), Failure> {
        let stream = &record.commit.stream;
        let mut summary = self.before(record).await?;
        for (data, version) in record.commit.events.iter().zip(record.commit.first_version..) {
            summary = fold(summary, record, data, version)?;
            if version == record.commit.last_version() {
                // Only the last message of a commit leads behind it; a resume must not lose the others.
                self.from[usize::from(record.position.partition)] = record.position.offset + 1;
            }
            let shown = self.shown.get(stream).is_some_and(|shown| version <= *shown);
            if let Some(summary) = summary.as_ref().filter(|summary| !shown && self.filter.wants(summary)) {
                let (order, event_type) = (Some(view::summary(summary)), data.event_type.clone());
                let resume_token = self.token(String::new());
                self.ready.push_back(StreamOrderUpdatesResponse { order, event_type, resume_token });
            }
        }
        if let Some(summary) = summary {
            self.folded.put(stream.clone(), summary);
        }
        Ok(())
    }

    /// The order just before `record`; `None` where it begins there.
    async fn before(&mut self, record: &CommitRecord) -> Result<Option<OrderSummary>, Failure> {
        let wanted = record.commit.first_version - 1;
        let folded = self.folded.pop(&record.commit.stream).filter(|folded| folded.version == wanted);
        if wanted == 0 || folded.is_some() {
            return Ok(folded);
        }
        let mut summary = None;
        for earlier in self.shop.history_before(record).await? {
            for (data, version) in earlier.commit.events.iter().zip(earlier.commit.first_version..) {
                summary = fold(summary, &earlier, data, version)?;
            }
        }
        Ok(summary)
    }

    fn token(&self, present_after: String) -> String {
        self.scope.seal(&Resume { next: self.from.clone(), present_after })
    }
}

/// The order after one more event.
fn fold(
    before: Option<OrderSummary>,
    record: &CommitRecord,
    data: &EventData,
    version: Version,
) -> Result<Option<OrderSummary>, Failure> {
    let event = match schema::decode(StreamKind::Order, data) {
        Ok(Event::Order(event)) => event,
        Ok(other) => return Err(Failure::Internal(format!("a {} on an order stream", other.event_type()))),
        Err(error) => return Err(Failure::Internal(error.to_string())),
    };
    let placed = match &event {
        OrderEvent::Drafted(drafted) => Some(&drafted.placement),
        OrderEvent::Submitted(submitted) => Some(&submitted.placement),
        OrderEvent::AwaitingPayment(_)
        | OrderEvent::Confirmed(_)
        | OrderEvent::CancellationRequested(_)
        | OrderEvent::Cancelled(_)
        | OrderEvent::UnitsReturned(_) => None,
    };
    let Some(mut summary) = before.or_else(|| placed.map(|placed| placed_at(record, placed))) else {
        return Err(Failure::Internal(format!("{} does not begin with an order", record.commit.stream)));
    };
    summary.status = summary.status.after(&event);
    match event {
        OrderEvent::CancellationRequested(requested) => summary.cancel_reason = Some(requested.reason),
        OrderEvent::Cancelled(cancelled) => summary.cancel_reason = Some(cancelled.reason),
        OrderEvent::Drafted(_)
        | OrderEvent::Submitted(_)
        | OrderEvent::AwaitingPayment(_)
        | OrderEvent::Confirmed(_)
        | OrderEvent::UnitsReturned(_) => {}
    }
    summary.version = version;
    summary.updated_at = record.commit.recorded_at;
    (summary.partition, summary.offset) = (record.position.partition, record.position.offset);
    Ok(Some(summary))
}

fn placed_at(record: &CommitRecord, placed: &Placement) -> OrderSummary {
    let at = record.commit.recorded_at;
    OrderSummary {
        tenant_id: record.commit.stream.tenant(),
        order_id: placed.order_id.clone(),
        customer_id: placed.customer_id.clone(),
        status: OrderStatus::Draft,
        currency: placed.currency,
        total_minor: placed.total_minor,
        // At most 1,000 lines of at most 10⁹ units.
        line_count: placed.lines.len() as u32,
        unit_count: placed.lines.iter().map(|line| line.quantity.get()).sum(),
        cancel_reason: None,
        created_at: at,
        effective_at: record.commit.effective_at.unwrap_or(at),
        updated_at: at,
        version: 0,
        partition: record.position.partition,
        offset: record.position.offset,
    }
}

/// Which orders a stream is about.
#[derive(Debug)]
struct Filter {
    tenant: TenantId,
    /// Empty: all.
    orders: Vec<OrderId>,
    names: HashSet<String>,
    customer: Option<CustomerId>,
}

impl Filter {
    fn of(tenant: &TenantId, request: &StreamOrderUpdatesRequest) -> Result<Self, Failure> {
        let orders = request.order_ids.iter().enumerate();
        let orders = orders.map(|(i, name)| id(OrderId::new(name), &format!("order_ids[{i}]")));
        let customer = Some(request.customer_id.as_str()).filter(|name| !name.is_empty());
        Ok(Self {
            tenant: tenant.clone(),
            orders: orders.collect::<Result<_, _>>()?,
            names: request.order_ids.iter().cloned().collect(),
            customer: customer.map(|name| id(CustomerId::new(name), "customer_id")).transpose()?,
        })
    }

    /// As far as the stream's name tells.
    fn may_want(&self, stream: &StreamId) -> bool {
        stream.kind() == StreamKind::Order
            && stream.tenant_str() == self.tenant.as_str()
            && (self.names.is_empty() || self.names.contains(stream.id()))
    }

    fn wants(&self, summary: &OrderSummary) -> bool {
        self.customer.as_ref().is_none_or(|customer| *customer == summary.customer_id)
    }
}
