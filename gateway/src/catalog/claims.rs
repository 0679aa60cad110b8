//! SKUs are claimed, a stream each, before the product that wants them has them.
//!
//! A request that is refused gives back what it claimed. One that is forgotten, because its node ended, leaves claims
//! behind that came to nothing; whoever wants such a SKU next asks the product to do without it and takes the claim over.
//! Both go through the product ([`ProductCommand::Forgo`]): it refuses a claim that it did without, however late the
//! request comes that made it, so a SKU is never two products'. What is read here only says whom to ask and how long to
//! wait.

use std::collections::BTreeMap;
use std::time::Duration;

use shopstream_command_handlers::{CommandEnvelope, body_hash};
use shopstream_domain::catalog::{Error, Product, ProductCommand, SkuClaim, SkuClaimCommand};
use shopstream_domain::model::{self, State};
use shopstream_domain::{ProductId, Sku, StreamId, Timestamp};
use shopstream_eventlog::CommandId;
use tokio::time::Instant;
use tracing::warn;

use super::Catalog;
use crate::call::Call;
use crate::command::Asked;
use crate::failure::Failure;
use crate::history;

/// A claim that is younger belongs to a request that is probably still at work.
const AT_WORK: Duration = Duration::from_secs(5);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// Which claim a product has on each SKU.
pub(super) type Claims = BTreeMap<Sku, u64>;

/// A SKU's claim as it was last seen.
struct Seen {
    state: SkuClaim,
    /// When the last of its events was recorded.
    at: Timestamp,
}

impl Catalog {
    /// Claims every SKU for a product, or none. In the order of their names: of two requests that want the same SKUs one
    /// waits for the other, and never each for the other.
    ///
    /// # Errors
    /// One of them is another product's; those before it are given back.
    pub(super) async fn claim(
        &self,
        call: &Call,
        asked: &Asked,
        product_id: &ProductId,
        skus: &[&Sku],
    ) -> Result<Claims, Failure> {
        let mut claims = Claims::new();
        let mut ordered: Vec<(&Sku, usize)> = skus.iter().copied().zip(0..).collect();
        ordered.sort_unstable();
        for (sku, index) in ordered {
            match self.claim_one(call, asked, product_id, sku).await {
                Ok(claim) => claims.insert(sku.clone(), claim),
                Err(failure) => {
                    self.give_back(call, asked, product_id, &claims).await;
                    return Err(failure.inside(&format!("variants[{index}]")));
                }
            };
        }
        Ok(claims)
    }

    async fn claim_one(
        &self,
        call: &Call,
        asked: &Asked,
        product_id: &ProductId,
        sku: &Sku,
    ) -> Result<u64, Failure> {
        let stream = sku.claim_stream(&call.tenant);
        let claim = || SkuClaimCommand::Claim { sku: sku.clone(), product_id: product_id.clone() };
        match self.shop.submit(call, asked.further(call, stream.clone(), 0, claim())).await {
            // The first claim ever, and now.
            Ok(reply) if reply.version == 1 && !reply.repeated => return Ok(1),
            Ok(_) | Err(Failure::Refused(_)) => {}
            Err(failure) => return Err(failure),
        }
        loop {
            let seen = self.claim_on(call, &stream).await?;
            let number = seen.state.claim();
            let Some(owner) = seen.state.owner() else {
                self.settle(call, asked, &stream, ["claim", product_id.as_str()], number, claim()).await?;
                continue;
            };
            let product = self.product_now(call, owner).await?;
            if owner == product_id {
                if product.has(sku) || !product.has_lost(sku, number) {
                    return Ok(number);
                }
                // Somebody was told that it is not needed here, and went no further.
                self.give_one_back(call, asked, product_id, sku, number).await?;
            } else if product.has(sku) {
                return Err(taken(sku, owner));
            } else if self.shop.now().since(seen.at).micros() < AT_WORK.as_micros() as i64 {
                if Instant::now() + LOOK >= call.answer_by() {
                    return Err(Failure::OutcomeUnknown);
                }
                tokio::time::sleep(LOOK).await;
            } else if self.forgo(call, asked, owner, sku, number).await? {
                let (sku, from) = (sku.clone(), owner.clone());
                let take =
                    SkuClaimCommand::TakeOver { sku, product_id: product_id.clone(), from, claim: number };
                match self.settle(call, asked, &stream, ["take", product_id.as_str()], number, take).await {
                    // Somebody else was faster: the claim is looked at again.
                    Ok(()) | Err(Failure::Refused(_)) => {}
                    Err(failure) => return Err(failure),
                }
            } else {
                return Err(taken(sku, owner));
            }
        }
    }

    /// Gives back what the product does not have, of what was claimed for it. What cannot be given back now is taken over
    /// by whoever wants it next.
    pub(super) async fn give_back(
        &self,
        call: &Call,
        asked: &Asked,
        product_id: &ProductId,
        claims: &Claims,
    ) {
        for (sku, claim) in claims {
            let given_back = async {
                if self.forgo(call, asked, product_id, sku, *claim).await? {
                    self.give_one_back(call, asked, product_id, sku, *claim).await?;
                }
                Ok::<(), Failure>(())
            };
            if let Err(cause) = given_back.await {
                warn!(%product_id, %sku, %cause, "a claim on a SKU is left to whoever wants it next");
            }
        }
    }

    async fn give_one_back(
        &self,
        call: &Call,
        asked: &Asked,
        product_id: &ProductId,
        sku: &Sku,
        claim: u64,
    ) -> Result<(), Failure> {
        let stream = sku.claim_stream(&call.tenant);
        let (sku, product_id) = (sku.clone(), product_id.clone());
        let name = ["give back".to_owned(), product_id.as_str().to_owned()];
        let command = SkuClaimCommand::GiveBack { sku, product_id, claim };
        self.settle(call, asked, &stream, [&name[0], &name[1]], claim, command).await
    }

    /// Asks a product to do without a SKU. Whether it does: not where the SKU is one of its variants'.
    async fn forgo(
        &self,
        call: &Call,
        asked: &Asked,
        product_id: &ProductId,
        sku: &Sku,
        claim: u64,
    ) -> Result<bool, Failure> {
        let stream = product_id.stream(&call.tenant);
        let command = ProductCommand::Forgo { sku: sku.clone(), claim };
        match self.settle(call, asked, &stream, ["forgo", sku.as_str()], claim, command).await {
            Ok(()) => Ok(true),
            Err(Failure::Refused(refused)) if refused.reason == "SKU_IN_USE" => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Carries out a command that means the same whoever gives it: its id says all of it.
    async fn settle(
        &self,
        call: &Call,
        asked: &Asked,
        stream: &StreamId,
        name: [&str; 2],
        claim: u64,
        command: impl Into<model::Command>,
    ) -> Result<(), Failure> {
        let command_id =
            CommandId::derive(&["claims", stream.as_str(), name[0], name[1], &claim.to_string()]);
        let envelope = CommandEnvelope {
            command_id,
            body_hash: body_hash(command_id.0.as_bytes()),
            // Nobody's request: whoever gives it next means the same.
            request: None,
            ..asked.further(call, stream.clone(), 0, command)
        };
        self.shop.submit(call, envelope).await.map(drop)
    }

    async fn claim_on(&self, call: &Call, stream: &StreamId) -> Result<Seen, Failure> {
        let history = history::load(&self.shop, call, stream).await?;
        let at = history.last().map_or_else(Timestamp::default, |record| record.commit.recorded_at);
        match history::fold(stream.kind(), &history)? {
            State::Sku(state) => Ok(Seen { state, at }),
            state => Err(Failure::Internal(format!("{stream} is {:?}", state.kind()))),
        }
    }

    async fn product_now(&self, call: &Call, product_id: &ProductId) -> Result<Product, Failure> {
        let stream = product_id.stream(&call.tenant);
        match history::fold(stream.kind(), &history::load(&self.shop, call, &stream).await?)? {
            State::Product(product) => Ok(product),
            state => Err(Failure::Internal(format!("{stream} is {:?}", state.kind()))),
        }
    }
}

fn taken(sku: &Sku, owner: &ProductId) -> Failure {
    Failure::refused(&Error::SkuTaken { sku: sku.clone(), owner: owner.clone() })
}
