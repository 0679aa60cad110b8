//! Law 14: a SKU is one product's, and the product whose it is has it.

use std::collections::{BTreeMap, BTreeSet};

use shopstream_domain::catalog::{ProductEvent, SkuClaimEvent};
use shopstream_domain::{Sku, StreamId};

use super::laws::Findings;

/// All SKUs, by tenant.
#[derive(Default)]
pub(super) struct Skus(BTreeMap<(String, Sku), OneSku>);

#[derive(Default)]
struct OneSku {
    /// Whose its claim says that it is.
    claimed_for: Option<String>,
    /// The products that have it.
    products: BTreeSet<String>,
}

impl Skus {
    pub(super) fn claim(&mut self, stream: &StreamId, event: &SkuClaimEvent) {
        match event {
            SkuClaimEvent::Claimed(claimed) => {
                self.of(stream, &claimed.sku).claimed_for = Some(claimed.product_id.to_string());
            }
            SkuClaimEvent::GivenBack(given_back) => self.of(stream, &given_back.sku).claimed_for = None,
        }
    }

    pub(super) fn product(&mut self, stream: &StreamId, event: &ProductEvent) {
        let product = || stream.id().to_owned();
        match event {
            ProductEvent::Drafted(drafted) => {
                for variant in &drafted.variants {
                    self.of(stream, &variant.sku).products.insert(product());
                }
            }
            ProductEvent::VariantPut(put) => drop(self.of(stream, &put.sku).products.insert(product())),
            ProductEvent::DetailsChanged(_)
            | ProductEvent::Published(_)
            | ProductEvent::Unpublished(_)
            | ProductEvent::Discontinued(_)
            | ProductEvent::SkuForgone(_) => {}
        }
    }

    /// A claim of a product that does not have the SKU is unfinished work: of a request at this moment, or of one that
    /// nobody came back to.
    pub(super) fn conclude(&self, findings: &mut Findings) {
        for ((tenant, sku), OneSku { claimed_for, products }) in &self.0 {
            let name = format!("{tenant}/sku/{sku}");
            match (claimed_for, products.len()) {
                (None, 0) => {}
                (Some(_), 0) => findings.skipped.push(name),
                (Some(owner), 1) if products.contains(owner) => {}
                (owner, _) => {
                    let detail = format!("{products:?} have it, and it is claimed for {owner:?}");
                    findings.broken(14, &name, detail);
                }
            }
        }
    }

    fn of(&mut self, stream: &StreamId, sku: &Sku) -> &mut OneSku {
        self.0.entry((stream.tenant_str().to_owned(), sku.clone())).or_default()
    }
}
