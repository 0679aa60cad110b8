//! Networks that are cut: one machine from some others, for longer than leases last, proved cut and healed again.

use std::net::{IpAddr, SocketAddr};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use shopstream_tests::network::{Loss, Machine, Network};

/// The machines of a run, and the cuts that are still to come before all come again.
pub(super) struct Networks {
    pub(super) nodes: Vec<Machine>,
    pub(super) brokers: Vec<Machine>,
    deck: Vec<Cut>,
}

/// Who is cut from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It keeps its leases and cannot write.
    NodeFromBrokers,
    /// What it asks of the brokers arrives, their answers do not.
    NodeHearsNoBroker,
    /// It can write until others take over, and does not know who owns what.
    NodeFromDatabase,
    /// What clients send it cannot be passed on, nor what the others have for it.
    NodeFromNodes,
    /// A zombie: it does not even know that time passes.
    NodeFromAll,
    /// Everything takes longer.
    NodeLosesPackets,
    /// It may still think itself the leader of partitions.
    BrokerFromBrokers,
}

/// A cut in force.
pub(super) struct InForce<'a> {
    machine: &'a Machine,
    doors: Vec<SocketAddr>,
}

/// What is where.
pub(super) struct Doors {
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) brokers: Vec<SocketAddr>,
    pub(super) database: SocketAddr,
}

impl Cut {
    const ALL: [Self; 7] = [
        Self::NodeFromBrokers,
        Self::NodeHearsNoBroker,
        Self::NodeFromDatabase,
        Self::NodeFromNodes,
        Self::NodeFromAll,
        Self::NodeLosesPackets,
        Self::BrokerFromBrokers,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NodeFromBrokers => "a node is cut from the brokers",
            Self::NodeHearsNoBroker => "a node hears no broker, and they hear it",
            Self::NodeFromDatabase => "a node is cut from the database",
            Self::NodeFromNodes => "a node is cut from the other nodes",
            Self::NodeFromAll => "a node is cut from everything",
            Self::NodeLosesPackets => "a node loses three packets of ten",
            Self::BrokerFromBrokers => "a broker is cut from the other brokers",
        }
    }
}

impl Networks {
    /// So many machines for nodes and as many for brokers.
    pub(super) fn make(network: &mut Network, each: u8) -> Self {
        let mut machines = |kind: &str| -> Vec<Machine> {
            (1..=each).map(|number| network.machine(&format!("{kind}-{number}"))).collect()
        };
        Self { nodes: machines("node"), brokers: machines("broker"), deck: Vec::new() }
    }

    /// The next cut: all come before one comes again.
    pub(super) fn next(&mut self, random: &mut StdRng) -> Cut {
        if self.deck.is_empty() {
            self.deck = Cut::ALL.to_vec();
            self.deck.shuffle(random);
        }
        self.deck.pop().unwrap_or(Cut::NodeFromAll)
    }

    /// Cuts the machine of this index.
    ///
    /// # Errors
    /// What it is to be cut from it could not reach before: the cut would prove nothing. Or it still can.
    pub(super) fn cut(&self, cut: Cut, index: usize, doors: &Doors) -> Result<InForce<'_>, String> {
        let others = |all: &[SocketAddr]| -> Vec<SocketAddr> {
            all.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, door)| *door).collect()
        };
        let node = &self.nodes[index];
        let (machine, doors, loss) = match cut {
            Cut::NodeFromBrokers => (node, doors.brokers.clone(), Loss::All),
            Cut::NodeHearsNoBroker => (node, doors.brokers.clone(), Loss::ToMachine),
            Cut::NodeFromDatabase => (node, vec![doors.database], Loss::All),
            Cut::NodeFromNodes => (node, others(&doors.nodes), Loss::All),
            Cut::NodeFromAll => {
                let all = [others(&doors.nodes), doors.brokers.clone(), vec![doors.database]].concat();
                (node, all, Loss::All)
            }
            Cut::NodeLosesPackets => {
                (node, [doors.brokers.clone(), vec![doors.database]].concat(), Loss::Some)
            }
            Cut::BrokerFromBrokers => (&self.brokers[index], others(&doors.brokers), Loss::All),
        };
        let in_force = InForce { machine, doors };
        in_force.expect_reached(true, "before the cut")?;
        let mut from: Vec<IpAddr> = in_force.doors.iter().map(SocketAddr::ip).collect();
        if cut == Cut::NodeFromAll {
            from.push(Network::CLIENTS.into());
        }
        machine.cut(&from, loss);
        if loss != Loss::Some {
            in_force.expect_reached(false, "behind the cut")?;
        }
        Ok(in_force)
    }
}

impl InForce<'_> {
    /// Ends it; answers how many packets were lost.
    ///
    /// # Errors
    /// None was, or the way is not free again.
    pub(super) fn heal(self) -> Result<u64, String> {
        let lost = self.machine.heal();
        self.expect_reached(true, "after the cut")?;
        if lost == 0 { Err("no packet was lost".to_owned()) } else { Ok(lost) }
    }

    fn expect_reached(&self, wanted: bool, when: &str) -> Result<(), String> {
        match self.doors.iter().find(|door| self.machine.reaches(**door) != wanted) {
            None => Ok(()),
            Some(door) => {
                let how = if wanted { "does not reach" } else { "reaches" };
                Err(format!("{} {how} {door} {when}", self.machine.name()))
            }
        }
    }
}
