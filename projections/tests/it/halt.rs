//! A log that is not the log that was read before is not read on.

use shopstream_eventlog::{Halt, Position};
use shopstream_projections::{Projection, ProjectionState};
use tokio::time::{Instant, timeout_at};

use crate::story::{PATIENCE, Shop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_partition_halts_visibly_and_the_others_go_on() {
    let shop = Shop::new(2).await;
    let lost = shop.receive("MUG", 1, 10).await;
    let mut names = (0..).map(|n| format!("OTHER{n}"));
    let other = loop {
        let name = names.next().unwrap();
        if shop.receive(&name, 1, 1).await.partition != lost.partition {
            break name;
        }
    };
    let projector = shop.project().await;
    shop.caught_up(&projector.progress()).await;
    projector.stop().await;

    shop.log.sim.faults().truncate(lost.partition, lost.offset);
    let projector = shop.project().await;
    for projection in [Projection::Journal, Projection::StockLevel] {
        let mut state = projector.watch(projection);
        let halted = state.wait_for(|state| matches!(state, ProjectionState::Halted { .. }));
        let halted = timeout_at(Instant::now() + PATIENCE, halted).await.unwrap().unwrap().clone();
        let ProjectionState::Halted { partition, cause } = halted else { unreachable!("just asked") };
        assert_eq!(partition, lost.partition);
        assert!(matches!(cause, Halt::BeyondEnd { end, .. } if end == lost.offset), "{cause}");
    }
    let written: Position = shop.receive(&other, 2, 1).await;
    for projection in Projection::ALL {
        projector.progress().wait_for(projection, &[written], Instant::now() + PATIENCE).await.unwrap();
    }
    let on_hand = format!("SELECT on_hand FROM stock_level_e1.stock WHERE sku = '{other}'");
    assert_eq!(shop.count(&on_hand).await, 2);
    assert_eq!(shop.count("SELECT on_hand FROM stock_level_e1.stock WHERE sku = 'MUG'").await, 10);
}
