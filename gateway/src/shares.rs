//! What one client may take of a node: connections, streams and calls are counted, in all and by the address that they
//! come from, so that one address never shuts the others out.
//!
//! An address has at most its share of connections and of streams, for these last. Calls are over in moments: of them an
//! address may have all while nobody else is connected.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::{Crowd, Failure};

/// Between two log lines about the same sort of refusal.
const LINE: Duration = Duration::from_secs(1);

/// How many streams may read the log from an earlier place on at once, each with a reader of its own and its buffers.
pub(crate) const SCANS_MAX: usize = 8;

/// How much there is to share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Streams at once; one that holds more memory counts for several.
    pub streams: usize,
    /// Calls at once.
    pub calls: usize,
    /// How much of each one address may have, in percent.
    pub peer_percent: usize,
}

impl Limits {
    const fn share(&self, of: usize) -> usize {
        let share = of * self.peer_percent / 100;
        if share == 0 { 1 } else { share }
    }
}

/// Everything that is shared, and who has what of it.
#[derive(Debug)]
pub(crate) struct Shares {
    limits: Limits,
    peers: Mutex<HashMap<IpAddr, Arc<Peer>>>,
    connections: Count,
    streams: Count,
}

/// What one address has.
#[derive(Debug)]
struct Peer {
    connections: Count,
    streams: Count,
    calls: Count,
    /// Its turns at reading the log from an earlier place on.
    scans: Arc<Semaphore>,
}

/// A number that never goes beyond its bound.
#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Count {
    fn take(&self, many: usize, max: usize) -> bool {
        let more = |now: usize| now.checked_add(many).filter(|more| *more <= max);
        self.0.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give(&self, many: usize) {
        self.0.fetch_sub(many, Relaxed);
    }
}

impl Shares {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, peers: Mutex::default(), connections: Count::default(), streams: Count::default() }
    }

    /// A place for one more connection from `address`.
    ///
    /// # Errors
    /// Which bound is reached.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr) -> Result<Arc<Membership>, &'static str> {
        let address = peer_of(address);
        let mut peers = self.peers();
        if !self.connections.take(1, self.limits.connections) {
            return Err("connections");
        }
        let scans = self.limits.share(SCANS_MAX);
        let new = || {
            let scans = Arc::new(Semaphore::new(scans));
            let (connections, streams, calls) = (Count::default(), Count::default(), Count::default());
            Arc::new(Peer { connections, streams, calls, scans })
        };
        let peer = peers.entry(address).or_insert_with(new).clone();
        if !peer.connections.take(1, self.limits.share(self.limits.connections)) {
            self.connections.give(1);
            return Err("connections_of_peer");
        }
        gauge!("shopstream_connections").increment(1.0);
        Ok(Arc::new(Membership { shares: self.clone(), address, peer }))
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stands_alone(&self) -> bool {
        self.peers().len() <= 1
    }
}

/// A host has a whole network of addresses of version 6.
fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        version_4 @ IpAddr::V4(_) => version_4,
    }
}

/// A connection's place, until it is dropped, and the way to places for what comes over it.
#[derive(Debug)]
pub(crate) struct Membership {
    shares: Arc<Shares>,
    address: IpAddr,
    peer: Arc<Peer>,
}

impl Membership {
    /// A place for a stream that holds about `weight` times what a small one does.
    pub(crate) fn stream(self: &Arc<Self>, weight: usize) -> Result<Share, Failure> {
        let Limits { streams, .. } = self.shares.limits;
        if !self.peer.streams.take(weight, self.shares.limits.share(streams)) {
            refused("stream", "streams_of_peer");
            return Err(Failure::Crowded(Crowd::StreamsOfPeer));
        }
        if !self.shares.streams.take(weight, streams) {
            self.peer.streams.give(weight);
            refused("stream", "streams");
            return Err(Failure::Crowded(Crowd::Streams));
        }
        gauge!("shopstream_stream_places").increment(weight as f64);
        Ok(Share { of: self.clone(), streams: weight })
    }

    /// Waits for a turn at reading the log from an earlier place on, among those of its address.
    pub(crate) async fn scan(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.peer.scans.clone().acquire_owned().await.ok()
    }

    /// A place for a call, as far as its address goes.
    pub(crate) fn call(self: &Arc<Self>) -> Result<Share, Failure> {
        let Limits { calls, .. } = self.shares.limits;
        let share = self.shares.limits.share(calls);
        if !self.peer.calls.take(1, share) {
            // Beyond its share only where nobody else could want it.
            if !self.shares.stands_alone() {
                refused("call", "calls_of_peer");
                return Err(Failure::Crowded(Crowd::CallsOfPeer));
            }
            self.peer.calls.take(1, usize::MAX);
        }
        Ok(Share { of: self.clone(), streams: 0 })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        gauge!("shopstream_connections").decrement(1.0);
        let mut peers = self.shares.peers();
        self.shares.connections.give(1);
        self.peer.connections.give(1);
        if self.peer.connections.0.load(Relaxed) == 0 {
            peers.remove(&self.address);
        }
    }
}

/// A place of a call or a stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Membership>,
    /// Zero: a call.
    streams: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.streams == 0 {
            return self.of.peer.calls.give(1);
        }
        gauge!("shopstream_stream_places").decrement(self.streams as f64);
        self.of.peer.streams.give(self.streams);
        self.of.shares.streams.give(self.streams);
    }
}

/// Notes that something was refused or ended because of a bound: a metric, and a line now and then. Nobody's address is
/// written down.
pub fn refused(what: &'static str, why: &'static str) {
    counter!("shopstream_refused_total", "what" => what, "why" => why).increment(1);
    let mut kinds = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    let Refused { told, untold } = kinds.entry((what, why)).or_default();
    *untold += 1;
    if told.is_none_or(|told| told.elapsed() >= LINE) {
        tracing::warn!(what, why, count = *untold, "refused or ended at a bound");
        (*told, *untold) = (Some(Instant::now()), 0);
    }
}

/// By what and why. Their words are ours, so there are few.
static REFUSED: LazyLock<Mutex<HashMap<(&'static str, &'static str), Refused>>> =
    LazyLock::new(Mutex::default);

#[derive(Default)]
struct Refused {
    /// When a line was written last.
    told: Option<Instant>,
    /// How many there were since.
    untold: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Arc<Shares> {
        Arc::new(Shares::new(Limits { connections: 4, streams: 10, calls: 4, peer_percent: 50 }))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn one_address_has_its_share_of_connections_and_the_others_the_rest() {
        let shares = shares();
        let mine = [shares.connect(address(1)).expect("one"), shares.connect(address(1)).expect("two")];
        assert_eq!(shares.connect(address(1)).err(), Some("connections_of_peer"));
        let others = [shares.connect(address(2)).expect("three"), shares.connect(address(3)).expect("four")];
        assert_eq!(shares.connect(address(4)).err(), Some("connections"));
        drop(mine);
        shares.connect(address(1)).expect("given back");
        drop(others);
        assert!(shares.peers().is_empty(), "an address that has left is forgotten");
    }

    #[test]
    fn a_network_of_version_6_is_one_address() {
        let of = |text: &str| peer_of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:10.0.0.1"), address(1));
    }

    #[test]
    fn a_stream_counts_for_as_much_as_it_holds() {
        let shares = shares();
        let (one, other) =
            (shares.connect(address(1)).expect("a place"), shares.connect(address(2)).expect("a place"));
        let heavy = one.stream(4).expect("of five");
        let light = one.stream(1).expect("of five");
        assert_eq!(one.stream(1).err(), Some(Failure::Crowded(Crowd::StreamsOfPeer)));
        drop(light);
        one.stream(1).expect("given back");
        drop(heavy);
        let _five = other.stream(5).expect("its share");
        let third = shares.connect(address(3)).expect("a place");
        let _four = one.stream(5).expect("its share");
        assert_eq!(third.stream(1).err(), Some(Failure::Crowded(Crowd::Streams)));
    }

    #[test]
    fn calls_are_shared_only_where_there_is_somebody_to_share_with() {
        let shares = shares();
        let one = shares.connect(address(1)).expect("a place");
        let many: Vec<_> = (0..4).map(|_| one.call().expect("alone")).collect();
        let other = shares.connect(address(2)).expect("a place");
        assert_eq!(one.call().err(), Some(Failure::Crowded(Crowd::CallsOfPeer)));
        other.call().expect("its share");
        drop(many);
        one.call().expect("its share");
    }
}
