//! Which product owns a SKU: one stream per SKU, so that no two products sell under one.
//!
//! A product claims its SKUs before it exists, so a claim alone says only that somebody meant to. It stands for ever once
//! the product has the SKU; until then it can be given back, or taken over. Both need the product's own word first
//! ([`ProductCommand::Forgo`](super::ProductCommand::Forgo)), which keeps whoever is still at work with the claim from
//! coming to an end with it: claims are counted, and the product refuses the ones that it did without.

use serde::{Deserialize, Serialize};

use super::{Error, SkuClaimCommand, SkuClaimEvent, SkuClaimed, SkuGivenBack};
use crate::aggregate::cqrs_aggregate;
use crate::{Aggregate, ProductId, Sku, StreamKind, Timestamp};

/// The claim on one SKU.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SkuClaim {
    owner: Option<ProductId>,
    /// How often it was claimed: which claim the owner's is.
    #[serde(default)]
    claims: u64,
}

impl SkuClaim {
    /// Whose it is, if it is anybody's.
    pub fn owner(&self) -> Option<&ProductId> {
        self.owner.as_ref()
    }

    /// Which claim that is, counted from 1; 0 where there was none.
    pub fn claim(&self) -> u64 {
        self.claims
    }

    fn take(
        &self,
        sku: &Sku,
        product_id: &ProductId,
        instead_of: Option<&ProductId>,
    ) -> Result<Vec<SkuClaimEvent>, Error> {
        match &self.owner {
            Some(owner) if owner == product_id => Ok(vec![]),
            Some(owner) if Some(owner) != instead_of => {
                Err(Error::SkuTaken { sku: sku.clone(), owner: owner.clone() })
            }
            Some(_) | None => {
                let claimed = SkuClaimed { sku: sku.clone(), product_id: product_id.clone() };
                Ok(vec![SkuClaimEvent::Claimed(claimed)])
            }
        }
    }
}

impl Aggregate for SkuClaim {
    const KIND: StreamKind = StreamKind::Sku;
    type Command = SkuClaimCommand;
    type Event = SkuClaimEvent;
    type Error = Error;

    fn decide(&self, command: &SkuClaimCommand, _now: Timestamp) -> Result<Vec<SkuClaimEvent>, Error> {
        match command {
            // Nothing where it is the product's already: the retry after a crash between the claim and the product.
            SkuClaimCommand::Claim { sku, product_id } => self.take(sku, product_id, None),
            SkuClaimCommand::TakeOver { sku, product_id, from, claim } => {
                self.take(sku, product_id, (self.claims == *claim).then_some(from))
            }
            SkuClaimCommand::GiveBack { sku, product_id, claim } => {
                if self.owner.as_ref() != Some(product_id) || self.claims != *claim {
                    return Ok(vec![]);
                }
                let given_back = SkuGivenBack { sku: sku.clone(), product_id: product_id.clone() };
                Ok(vec![SkuClaimEvent::GivenBack(given_back)])
            }
        }
    }

    fn evolve(&mut self, event: &SkuClaimEvent) {
        match event {
            SkuClaimEvent::Claimed(claimed) => {
                self.owner = Some(claimed.product_id.clone());
                self.claims += 1;
            }
            SkuClaimEvent::GivenBack(_) => self.owner = None,
        }
    }
}

cqrs_aggregate!(SkuClaim, "sku");
