//! Leases over a table in memory, time moved by hand.

use super::*;
use crate::testing::MemoryLeases;

const PARTITIONS: u16 = 16;

/// A node that only holds leases.
struct Node {
    leases: Leases,
    table: Arc<MemoryLeases>,
}

impl Node {
    async fn join(name: &str, table: MemoryLeases) -> Self {
        let table = Arc::new(table);
        let address = format!("{name}:1");
        let me = Member { id: Uuid::new_v4(), node: name.to_owned(), address, commands: true };
        let leases = Leases::new(me, table.clone(), PARTITIONS, Timing::default());
        leases.join().await.unwrap();
        Self { leases, table }
    }

    fn wanted(&self) -> Vec<Partition> {
        (0..PARTITIONS).filter(|partition| *self.leases.desired(*partition).borrow()).collect()
    }

    /// As a process that is killed: it says nothing any more.
    fn kill(&self) {
        self.leases.stop();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.leases.stop();
    }
}

async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

const FIRST: Duty = Duty::Partition(0);

#[tokio::test(start_paused = true)]
async fn every_partition_is_wanted_by_exactly_one_member() {
    let a = Node::join("a", MemoryLeases::default()).await;
    assert_eq!(a.wanted().len(), 16, "alone");
    let b = Node::join("b", a.table.another()).await;
    let c = Node::join("c", a.table.another()).await;
    pass(0.1).await;
    let mut all = [a.wanted(), b.wanted(), c.wanted()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..16).collect::<Vec<_>>());
    let before = b.wanted();
    c.leases.leave().await;
    pass(0.1).await;
    assert!(c.wanted().is_empty());
    assert!(before.iter().all(|partition| b.wanted().contains(partition)), "what it had it keeps");
    assert_eq!(a.wanted().len() + b.wanted().len(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_lease_goes_to_the_next_when_it_is_given_back_and_its_epoch_grows() {
    let a = Node::join("a", MemoryLeases::default()).await;
    let b = Node::join("b", a.table.another()).await;
    assert_eq!(a.leases.acquire(FIRST, 0).await.epoch, 1);
    let waiting = tokio::spawn({
        let leases = b.leases.clone();
        async move { (leases.acquire(FIRST, 0).await, Instant::now()) }
    });
    pass(10.0).await;
    assert!(!waiting.is_finished() && a.leases.is_live(FIRST), "it is renewed for as long as it is held");
    let given_back = Instant::now();
    a.leases.release(FIRST).await;
    let (grant, granted) = waiting.await.unwrap();
    assert_eq!(grant.epoch, 2);
    assert!(granted - given_back < Duration::from_millis(100), "{:?}", granted - given_back);
    assert!(!a.leases.is_live(FIRST) && b.leases.is_live(FIRST));
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_dead_node_is_taken_when_it_has_run_out_and_not_before() {
    let a = Node::join("a", MemoryLeases::default()).await;
    let b = Node::join("b", a.table.another()).await;
    let grant = a.leases.acquire(FIRST, 0).await;
    pass(10.0).await;
    a.kill();
    let killed = Instant::now();
    assert_eq!(b.leases.acquire(FIRST, 0).await.epoch, 2);
    let taken = killed.elapsed();
    assert!((2.0..3.1).contains(&taken.as_secs_f64()), "{taken:?}");
    assert!(!a.leases.is_live(FIRST), "its own clock said so before");
    assert!(!grant.lost.is_cancelled(), "a dead node hears nothing");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_comes_back_too_late_hears_that_it_has_lost() {
    let a = Node::join("a", MemoryLeases::default()).await;
    let b = Node::join("b", a.table.another()).await;
    let grant = a.leases.acquire(FIRST, 0).await;
    pass(5.0).await;
    a.table.set_away(true);
    b.leases.acquire(FIRST, 0).await;
    assert!(!a.leases.is_live(FIRST) && !grant.lost.is_cancelled());
    a.table.set_away(false);
    let back = Instant::now();
    grant.lost.cancelled().await;
    assert!(back.elapsed() <= Duration::from_secs(1), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_the_table_nobody_loses_what_he_can_renew() {
    let a = Node::join("a", MemoryLeases::default()).await;
    let b = Node::join("b", a.table.another()).await;
    let grant = a.leases.acquire(FIRST, 0).await;
    let waiting = tokio::spawn({
        let leases = b.leases.clone();
        async move { leases.acquire(FIRST, 0).await }
    });
    pass(5.0).await;
    [&a, &b].iter().for_each(|node| node.table.set_away(true));
    pass(60.0).await;
    // The one that waits is the first to be heard again.
    b.table.set_away(false);
    pass(1.5).await;
    a.table.set_away(false);
    pass(20.0).await;
    assert!(a.leases.is_live(FIRST) && !grant.lost.is_cancelled() && !waiting.is_finished());
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_lost_costs_no_lease_and_no_takeover() {
    let a = Node::join("a", MemoryLeases::default()).await;
    let b = Node::join("b", a.table.another()).await;
    a.leases.acquire(FIRST, 0).await;
    pass(10.0).await;
    a.table.set_silent(true);
    pass(1.1).await;
    a.table.set_silent(false);
    for _ in 0..50 {
        pass(0.1).await;
        assert!(a.leases.is_live(FIRST), "there was time enough to ask again");
    }
    a.kill();
    let killed = Instant::now();
    let lost = async {
        pass(1.5).await;
        b.table.set_silent(true);
        pass(1.1).await;
        b.table.set_silent(false);
    };
    let (grant, ()) = tokio::join!(b.leases.acquire(FIRST, 0), lost);
    assert_eq!(grant.epoch, 2);
    let taken = killed.elapsed();
    assert!((2.0..3.6).contains(&taken.as_secs_f64()), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn an_epoch_is_above_the_logs_even_where_the_table_forgot() {
    let a = Node::join("a", MemoryLeases::default()).await;
    assert_eq!(a.leases.acquire(FIRST, 6).await.epoch, 7);
    // What was claimed in doubt is above what was granted; the next renewal tells the table.
    a.leases.learn(0, Location { epoch: 9, node: "a".into(), address: "a:1".into() });
    pass(1.5).await;
    assert_eq!(a.table.holder(FIRST), (9, Some("a".to_owned())));
    a.leases.release(FIRST).await;
    a.table.forget_epochs();
    assert_eq!(a.leases.acquire(FIRST, 0).await.epoch, 10, "the log said 9");
}

#[tokio::test(start_paused = true)]
async fn a_duty_that_flaps_waits_longer_and_longer() {
    let a = Node::join("a", MemoryLeases::default()).await;
    let mut waits = Vec::new();
    for _ in 0..20 {
        let asked = Instant::now();
        a.leases.acquire(FIRST, 0).await;
        waits.push(asked.elapsed());
        a.leases.release(FIRST).await;
    }
    let millis: Vec<_> = waits.iter().map(Duration::as_millis).collect();
    assert!(millis[..12].iter().all(|wait| *wait < 50), "{millis:?}");
    assert!(
        millis[12..].iter().zip([250, 500, 1000, 2000, 4000, 8000, 10000, 10000]).all(|(w, at)| *w >= at)
    );
    pass(61.0).await;
    let asked = Instant::now();
    a.leases.acquire(FIRST, 0).await;
    assert!(asked.elapsed() < Duration::from_millis(50), "calm again");
}

#[tokio::test(start_paused = true)]
async fn the_owner_is_found_by_lease_by_claim_and_by_who_comes_next() {
    let a = Node::join("a", MemoryLeases::default()).await;
    let b = Node::join("b", a.table.another()).await;
    let c = Node::join("c", a.table.another()).await;
    let at = |node: &Node| c.leases.locate(0).map(|it| (it.epoch, it.node == node.leases.shared.me.node));
    a.leases.acquire(FIRST, 0).await;
    pass(1.1).await;
    assert_eq!(at(&a), Some((1, true)), "by its lease");
    let named = |epoch| Location { epoch, node: "b".into(), address: "b:1".into() };
    c.leases.learn(0, named(2));
    assert_eq!(at(&b), Some((2, true)), "by a claim on the log, before the table is seen again");
    c.leases.learn(0, Location { epoch: 1, node: "a".into(), address: "a:1".into() });
    assert_eq!(at(&b), Some((2, true)), "what is older is ignored");
    c.leases.learn(0, Location { epoch: 5, node: "x".into(), address: "x:1".into() });
    assert_ne!(c.leases.locate(0).map(|it| it.node).as_deref(), Some("x"), "not a member");
    a.leases.leave().await;
    pass(0.1).await;
    c.leases.shared.state().learned[0] = None;
    assert_eq!(at(&a), Some((1, true)), "it leaves, and has it still");
    a.leases.release(FIRST).await;
    pass(0.1).await;
    let next = [&a, &b, &c].into_iter().find(|node| node.wanted().contains(&0)).unwrap();
    let other =
        if std::ptr::eq(next, &raw const c) { None } else { Some(next.leases.shared.me.node.clone()) };
    assert_eq!(c.leases.locate(0).map(|it| it.node), other, "nobody has it: who comes next");
}

#[tokio::test(start_paused = true)]
async fn the_table_in_memory_keeps_the_contract_of_leases() {
    let table = MemoryLeases::default();
    crate::testing::lease_contract(async || table.another()).await;
}
