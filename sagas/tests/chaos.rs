//! Checkouts over a log that loses, doubles and delays: every one ends, and nothing is left over.

use shopstream_domain::order::Stage;
use shopstream_eventlog::sim::Chaos;
use shopstream_sagas::Settings;
use shopstream_sagas::testing::Shop;

const TOKENS: &[&str] = &[
    "tok_approve",
    "tok_decline",
    "tok_timeout_after_charge",
    "tok_approve",
    "tok_unknown",
    "tok_capture_fails_once",
];

#[tokio::test(start_paused = true)]
async fn every_checkout_ends_whatever_the_log_does() {
    for seed in 0..40 {
        let chaos = Chaos {
            seed,
            lose: 0.02,
            lose_ack: 0.02,
            duplicate: 0.05,
            delay: 0.1,
            turns_max: 4,
            ..Chaos::default()
        };
        let mut shop = Shop::open_in(chaos, Settings::default()).await;
        shop.receive("MUG", 8).await;
        shop.receive("PEN", 100).await;
        let mut orders = Vec::new();
        for (n, token) in TOKENS.iter().enumerate() {
            orders.push(shop.order(&format!("ord_{n}"), &[("MUG", 2), ("PEN", 3)], token).await);
            if n == 2 {
                shop.restart().await;
            }
        }
        let stage = |shop: &Shop, order| shop.checkout(order).stage();
        let over = |stage| matches!(stage, Some(Stage::Done | Stage::Cancelled));
        shop.until(&format!("over with seed {seed}"), |shop| {
            orders.iter().all(|order| over(stage(shop, order))).then_some(())
        })
        .await;
        shop.assert_conserved();
        let done = orders.iter().filter(|order| stage(&shop, order) == Some(Stage::Done)).count();
        assert_eq!(shop.provider.carried_out("captured").len(), done, "seed {seed}: {:#?}", shop.story());
        assert_eq!(shop.stock("PEN").committed(), 3 * done as i64, "seed {seed}");
    }
}
