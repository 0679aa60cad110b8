//! A SKU is one product's, for ever.

use std::collections::HashMap;

use shopstream_domain::catalog::ProductEvent;
use shopstream_domain::model::Event;
use shopstream_domain::{Sku, StreamId};

use super::Found;
use crate::evidence::Evidence;

/// No two products of a tenant have variants of one SKU.
pub(super) fn one_owner(evidence: &Evidence, found: &mut Found) {
    let mut owners: HashMap<(&str, &Sku), &StreamId> = HashMap::new();
    for (at, stream, event) in evidence.events() {
        let Event::Product(event) = event else { continue };
        let skus: Vec<&Sku> = match event {
            ProductEvent::Drafted(drafted) => drafted.variants.iter().map(|variant| &variant.sku).collect(),
            ProductEvent::VariantPut(put) => vec![&put.sku],
            _ => continue,
        };
        for sku in skus {
            let owner = *owners.entry((stream.tenant_str(), sku)).or_insert(stream);
            found.require(owner == stream, "OWNER", || {
                format!("{sku} is a variant of {owner}, and since {at} of {stream} as well")
            });
        }
    }
}
