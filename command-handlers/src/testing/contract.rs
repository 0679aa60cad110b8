//! What every table of leases must do, in real time: with short terms, and waiting for facts.

use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use crate::coordinator::{Duty, LeaseStore, Member, View};

/// A term that a busy machine can renew in time, and a test can wait for.
const TERM: Duration = Duration::from_millis(1500);
/// Longer than anything here takes; only a failure waits for so long.
const PATIENCE: Duration = Duration::from_secs(30);

const ONE: Duty = Duty::Partition(1);
const TWO: Duty = Duty::Sagas;

fn member(node: &str) -> Member {
    Member { id: Uuid::new_v4(), node: node.to_owned(), address: format!("{node}:1"), commands: true }
}

/// The names of the members.
fn names(view: &View) -> Vec<&str> {
    let mut names: Vec<_> = view.members.iter().map(|(member, _)| member.node.as_str()).collect();
    names.sort_unstable();
    names
}

/// Runs the contract against the table to which `open` makes another way.
///
/// # Panics
/// The table breaks it.
pub async fn lease_contract<S: LeaseStore>(open: impl AsyncFn() -> S) {
    let (a, b) = (open().await, open().await);
    let (anna, bert) = (member("anna"), member("bert"));
    let mut heard = b.changes();
    let beat = async |store: &S, me: &Member, held: &[(Duty, u64)]| {
        store.renew(me, false, held, TERM).await.expect("a table that answers")
    };
    let acquire = async |store: &S, me: &Member, seen: u64, expired: bool| {
        store.acquire(me, ONE, seen, expired, TERM).await.expect("a table that answers")
    };

    // Members see each other.
    beat(&a, &anna, &[]).await;
    assert_eq!(names(&beat(&b, &bert, &[]).await), ["anna", "bert"]);

    // A lease is one node's at a time, and its epoch grows with every grant and is above what the log has seen.
    assert_eq!(acquire(&a, &anna, 0, true).await, Some(1));
    assert_eq!(acquire(&b, &bert, 0, true).await, None, "held and renewed");
    assert_eq!(acquire(&a, &anna, 0, true).await, Some(2), "its own again");
    let view = beat(&a, &anna, &[(ONE, 5), (TWO, 1)]).await;
    assert_eq!(view.kept, [ONE], "what was never granted is not renewed");
    let lease = view.leases.iter().find(|lease| lease.duty == ONE).expect("a row");
    assert_eq!((lease.epoch, lease.holder, lease.address.as_str()), (5, Some(anna.id), "anna:1"));
    assert!(lease.left <= TERM && lease.left > TERM / 2, "{:?}", lease.left);

    // Given back, it is free for all at once, and nobody else can give it back.
    b.release(&bert, ONE).await.expect("a table that answers");
    assert_eq!(acquire(&b, &bert, 0, true).await, None);
    heard.borrow_and_update();
    a.release(&anna, ONE).await.expect("a table that answers");
    tokio::time::timeout(PATIENCE, heard.changed()).await.expect("the others are told").expect("a table");
    assert_eq!(acquire(&b, &bert, 8, false).await, Some(9), "above what was seen on the log");
    assert_eq!(acquire(&a, &anna, 0, true).await, None);

    // It runs out by the table's clock: not before, and for those only who may take what has run out.
    let granted = Instant::now();
    assert_eq!(beat(&b, &bert, &[(ONE, 9)]).await.kept, [ONE]);
    while acquire(&a, &anna, 0, true).await.is_none() {
        assert!(granted.elapsed() < PATIENCE, "it never runs out");
        assert_eq!(acquire(&a, &anna, 0, false).await, None, "it is not free");
        sleep(TERM / 20).await;
    }
    assert!(granted.elapsed() >= TERM, "{:?}", granted.elapsed());
    let view = beat(&b, &bert, &[(ONE, 9)]).await;
    assert!(view.kept.is_empty(), "bert has lost it");

    // Bert said nothing for a while and is a member again; then he leaves and stays away, though he renews.
    assert!(names(&view).contains(&"bert"));
    b.leave(&bert).await.expect("a table that answers");
    b.renew(&bert, true, &[], TERM).await.expect("a table that answers");
    assert_eq!(names(&beat(&a, &anna, &[]).await), ["anna"]);
}
