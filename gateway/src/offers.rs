//! What SKUs are sold for, at hand: submitting an order must not cost a query.
//!
//! An offer comes from the read model `product_view` and stays until the log says that its product or price changed.
//! It decides no invariant: an order freezes the price that the catalogue showed (`rulings.md` 13).

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use shopstream_domain::order::{LineOffer, LinePrice};
use shopstream_domain::{Currency, ProductId, Sku, StreamId, StreamKind, TenantId, Version};
use shopstream_eventlog::{CommitRecord, Offset, Position};
use tracing::warn;

use crate::failure::Failure;
use crate::follow::Follow;
use crate::live::Live;

#[cfg(test)]
mod tests;

/// How many offers are kept; about 300 bytes each.
const KEPT: NonZeroUsize = NonZeroUsize::new(50_000).expect("not zero");

/// What a SKU is sold for.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The product it belongs to.
    pub product_id: ProductId,
    /// Whether that product is published.
    pub on_sale: bool,
    /// At most one per currency.
    pub prices: Vec<ListPrice>,
}

/// A list price.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPrice {
    /// Its currency.
    pub currency: Currency,
    /// In minor units.
    pub amount_minor: i64,
    /// Of the price's stream.
    pub version: Version,
}

impl Offer {
    /// The list price in `currency`.
    pub fn price_in(&self, currency: Currency) -> Option<&ListPrice> {
        self.prices.iter().find(|price| price.currency == currency)
    }

    /// What a line of an order in `currency` is told of it.
    pub fn for_line(&self, sku: &Sku, currency: Currency) -> LineOffer {
        let price =
            |price: &ListPrice| LinePrice { amount_minor: price.amount_minor, version: price.version };
        LineOffer {
            sku: sku.clone(),
            product_id: self.product_id.clone(),
            on_sale: self.on_sale,
            price: self.price_in(currency).map(price),
        }
    }
}

/// A SKU in a tenant's shop.
pub type Key = (TenantId, Sku);

/// The offers at hand.
pub struct Offers {
    kept: Mutex<Kept>,
}

struct Kept {
    offers: LruCache<Key, Arc<Offer>>,
    /// By partition, the offset after the last change that is known. A row read from a view that had not got there
    /// may be older than the change.
    changed: Vec<Offset>,
    /// Whether the log tells of changes; while it does not, nothing is kept.
    followed: bool,
}

impl Offers {
    /// None, over a log of `partitions`.
    pub fn new(partitions: u16) -> Self {
        let changed = vec![0; partitions.into()];
        Self { kept: Mutex::new(Kept { offers: LruCache::new(KEPT), changed, followed: false }) }
    }

    /// The offers at hand, one place per SKU.
    pub fn of<'a>(&self, tenant: &TenantId, skus: impl Iterator<Item = &'a Sku>) -> Vec<Option<Arc<Offer>>> {
        let mut kept = self.kept();
        skus.map(|sku| kept.offers.get(&(tenant.clone(), sku.clone())).cloned()).collect()
    }

    /// Keeps offers that were read while the view was at least at `view` (the next offset of each partition, asked
    /// for before the rows).
    pub fn keep(&self, found: impl IntoIterator<Item = (Key, Arc<Offer>)>, view: &[Offset]) {
        let mut kept = self.kept();
        let current = kept.changed.iter().zip(view).all(|(changed, view)| view >= changed);
        if kept.followed && current && kept.changed.len() == view.len() {
            for (key, offer) in found {
                kept.offers.put(key, offer);
            }
        }
    }

    /// Forgets what changes, for as long as the log can be followed.
    pub async fn follow(self: Arc<Self>, live: Live) {
        loop {
            let cause = tokio::select! {
                biased;
                () = live.stopped() => return,
                cause = self.follow_once(&live) => cause,
            };
            self.distrust();
            if matches!(cause, Failure::LogHalted { .. }) {
                return;
            }
            warn!(%cause, "offers are read from Postgres until the log can be followed again");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    async fn follow_once(&self, live: &Live) -> Failure {
        // A feed that has only to begin is no trouble: nothing is kept so far, and nothing has to be said.
        live.started().await;
        let mut follow = match Follow::from_now(live) {
            Ok(follow) => follow,
            Err(cause) => return cause,
        };
        self.trust(&follow.resume().next);
        loop {
            match follow.next().await {
                Ok(delivery) => self.forget(delivery.commits()),
                Err(cause) => return cause,
            }
        }
    }

    fn forget<'a>(&self, commits: impl Iterator<Item = &'a CommitRecord>) {
        let mut kept = self.kept();
        for record in commits {
            // Nobody can have read a product that has only just come to be.
            let new = record.commit.stream.kind() == StreamKind::Product && record.commit.first_version == 1;
            if !new {
                kept.change(&record.commit.stream, record.position);
            }
        }
    }

    /// A command of this node changed this stream: known here before the log shows it.
    pub fn changed(&self, stream: &StreamId, position: Position) {
        self.kept().change(stream, position);
    }

    /// What a view must have got to before its rows are worth reading.
    pub fn changes(&self) -> Vec<Position> {
        let kept = self.kept();
        let changed = (0..).zip(&kept.changed);
        changed
            .filter_map(|(partition, next)| Some(Position { partition, offset: next.checked_sub(1)? }))
            .collect()
    }

    /// Everything from `next` on will be told; what happened before may not be in the view yet.
    fn trust(&self, next: &[Offset]) {
        let mut kept = self.kept();
        for (changed, next) in kept.changed.iter_mut().zip(next) {
            *changed = (*changed).max(*next);
        }
        kept.followed = true;
    }

    fn distrust(&self) {
        let mut kept = self.kept();
        kept.followed = false;
        kept.offers.clear();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn change(&mut self, stream: &StreamId, position: Position) {
        match stream.kind() {
            StreamKind::Product => {
                let (tenant, product) = (stream.tenant_str(), stream.id());
                let of_it = |(key, offer): &(&Key, &Arc<Offer>)| {
                    key.0.as_str() == tenant && offer.product_id.as_str() == product
                };
                let gone: Vec<Key> = self.offers.iter().filter(of_it).map(|(key, _)| key.clone()).collect();
                for key in gone {
                    self.offers.pop(&key);
                }
            }
            StreamKind::Price => {
                // `SKU.GBP`; what does not parse was never a key.
                if let Some(sku) = stream.id().rsplit_once('.').and_then(|(sku, _)| Sku::new(sku).ok()) {
                    self.offers.pop(&(stream.tenant(), sku));
                }
            }
            StreamKind::Sku
            | StreamKind::Stock
            | StreamKind::Reservation
            | StreamKind::Order
            | StreamKind::Checkout
            | StreamKind::Payment
            | StreamKind::Return
            | StreamKind::Request => return,
        }
        if let Some(changed) = self.changed.get_mut(usize::from(position.partition)) {
            *changed = (*changed).max(position.offset + 1);
        }
    }
}
