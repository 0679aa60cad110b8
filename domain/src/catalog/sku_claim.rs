//! Which product owns a SKU: one stream per SKU, claimed once, so that no two products sell under one.

use serde::{Deserialize, Serialize};

use super::{Error, SkuClaimCommand, SkuClaimEvent, SkuClaimed};
use crate::aggregate::cqrs_aggregate;
use crate::{Aggregate, ProductId, StreamKind, Timestamp};

/// The claim on one SKU.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SkuClaim {
    owner: Option<ProductId>,
}

impl Aggregate for SkuClaim {
    const KIND: StreamKind = StreamKind::Sku;
    type Command = SkuClaimCommand;
    type Event = SkuClaimEvent;
    type Error = Error;

    fn decide(&self, command: &SkuClaimCommand, _now: Timestamp) -> Result<Vec<SkuClaimEvent>, Error> {
        let SkuClaimCommand::Claim { sku, product_id } = command;
        match &self.owner {
            None => {
                let claimed = SkuClaimed { sku: sku.clone(), product_id: product_id.clone() };
                Ok(vec![SkuClaimEvent::Claimed(claimed)])
            }
            // The retry after a crash between the claim and the product's first event.
            Some(owner) if owner == product_id => Ok(vec![]),
            Some(owner) => Err(Error::SkuTaken { sku: sku.clone(), owner: owner.clone() }),
        }
    }

    fn evolve(&mut self, event: &SkuClaimEvent) {
        let SkuClaimEvent::Claimed(claimed) = event;
        self.owner = Some(claimed.product_id.clone());
    }
}

cqrs_aggregate!(SkuClaim, "sku");
