//! A network of a test's own: machines that are network namespaces, on one bridge, which can be cut from each other.
//! It is nobody else's business, and it ends with the process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// The name in `SHOPSTREAM_TEST_REQUIRE`.
const NETNS: &str = "netns";
/// Where `ip` and `nsenter` find namespaces by name.
const NAMES: &str = "/run/netns";
/// The first three bytes of every address.
const NETWORK: [u8; 3] = [10, 77, 0];
/// The bridge, where this process itself is.
const BRIDGE: &str = "bridge0";
/// The table of a machine's cut.
const CUT: &str = "inet cut";
/// How long a machine tries to connect before the way counts as cut: much longer than it takes where it is not.
const PROBE: Duration = Duration::from_secs(1);

/// The network, and the place on it of whoever made it.
#[derive(Debug)]
pub struct Network {
    machines: u8,
}

/// A namespace with an address of its own, for the processes that are started in it.
#[derive(Clone, Debug)]
pub struct Machine {
    name: String,
    address: Ipv4Addr,
}

/// What is lost between a machine and those it is cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All that either side sends.
    All,
    /// All that the others send; what the machine sends arrives.
    ToMachine,
    /// Three packets of ten.
    Some,
}

impl Network {
    /// From here on the calling thread, and all threads and processes that it starts, are on a network of their own and
    /// on no other. `None`, after a loud line, where that is not possible.
    ///
    /// # Panics
    /// It is not possible and `SHOPSTREAM_TEST_REQUIRE` names `netns`.
    pub fn make() -> Option<Self> {
        if let Err(why) = possible() {
            crate::skip(NETNS, &why);
            return None;
        }
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "add", BRIDGE, "type", "bridge"]);
        for address in [Self::CLIENTS, Self::DATABASE] {
            ip(&["address", "add", &format!("{address}/24"), "dev", BRIDGE]);
        }
        ip(&["link", "set", BRIDGE, "up"]);
        Some(Self { machines: 0 })
    }

    /// Where this process' own calls come from.
    pub const CLIENTS: Ipv4Addr = address(1);
    /// For a database that this process starts: machines can be cut from it and not from the clients.
    pub const DATABASE: Ipv4Addr = address(2);

    /// A new machine, of a name of at most twelve characters.
    ///
    /// # Panics
    /// The name is taken.
    pub fn machine(&mut self, name: &str) -> Machine {
        self.machines += 1;
        let machine = Machine { name: name.to_owned(), address: address(10 + self.machines) };
        let wire = format!("to-{name}");
        ip(&["netns", "add", name]);
        ip(&["link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", name]);
        ip(&["link", "set", &wire, "master", BRIDGE, "up"]);
        ip(&["-n", name, "address", "add", &format!("{}/24", machine.address), "dev", "eth0"]);
        ip(&["-n", name, "link", "set", "eth0", "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        machine
    }
}

impl Machine {
    /// The name of its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is reached.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// `program`, to be run on it: as its child the same process, nobody stands between.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Whether a process on it can connect to `door` now.
    ///
    /// # Panics
    /// The machine is gone.
    pub fn reaches(&self, door: SocketAddr) -> bool {
        let namespace = File::open(self.path()).expect("a machine");
        // A thread of its own, which stays on the machine for the rest of its life.
        let probe = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("entered");
            TcpStream::connect_timeout(&door, PROBE).is_ok()
        });
        probe.join().expect("it does not panic")
    }

    /// Cuts it from `others` until [`Machine::heal`]. Connections are not ended: their packets do not arrive.
    ///
    /// # Panics
    /// It is cut already.
    pub fn cut(&self, others: &[IpAddr], loss: Loss) {
        let others = others.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        let chance = if loss == Loss::Some { "numgen random mod 10 < 3 " } else { "" };
        let chain = |hook: &str, side: &str| {
            format!(
                "chain {hook} {{ type filter hook {hook} priority 0; ip {side} {{ {others} }} {chance}counter drop; }};"
            )
        };
        let sent = if loss == Loss::ToMachine { String::new() } else { chain("output", "daddr") };
        self.nft(&format!("create table {CUT}; table {CUT} {{ {} {sent} }};", chain("input", "saddr")));
    }

    /// Ends [`Machine::cut`]; answers how many packets were lost by it.
    ///
    /// # Panics
    /// It is not cut.
    pub fn heal(&self) -> u64 {
        let rules = self.nft(&format!("list table {CUT}"));
        self.nft(&format!("delete table {CUT}"));
        let counted = rules.split("counter packets ").skip(1);
        counted.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn nft(&self, rules: &str) -> String {
        said(self.command("nft").arg(rules))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(NAMES).join(&self.name)
    }
}

const fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(NETWORK[0], NETWORK[1], NETWORK[2], last)
}

/// Leaves the machine's own network, or says why that cannot be and how to get there.
fn possible() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can have networks of its own".to_owned());
    }
    for program in ["ip", "nft", "nsenter"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
            return Err(format!("no {program}: run deploy/install test"));
        }
    }
    let none = None::<&str>;
    // Mounts of one's own too: the names of the namespaces are seen by nobody else, and end with this process.
    fs::create_dir_all(NAMES)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
                .and_then(|()| mount(Some("tmpfs"), NAMES, Some("tmpfs"), MsFlags::empty(), none))
                .map_err(|errno| errno.to_string())
        })
        .map_err(|why| format!("networks of one's own are not allowed here: {why}"))
}

fn ip(arguments: &[&str]) {
    said(Command::new("ip").args(arguments));
}

/// Runs a command that must succeed, and answers what it said.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_machine_reaches_others_until_it_is_cut_from_them_and_again_when_it_is_healed() {
        let Some(mut network) = Network::make() else { return };
        let machine = network.machine("one");
        let listen = |address: Ipv4Addr| {
            let listener = TcpListener::bind((address, 0)).expect("an address of this process");
            (listener.local_addr().expect("bound"), listener)
        };
        let ((clients, _first), (database, _second)) = (listen(Network::CLIENTS), listen(Network::DATABASE));
        for loss in [Loss::All, Loss::ToMachine] {
            assert!(machine.reaches(clients) && machine.reaches(database), "before {loss:?}");
            machine.cut(&[database.ip()], loss);
            assert!(machine.reaches(clients), "nobody cut it from them");
            assert!(!machine.reaches(database), "{loss:?}");
            assert_ne!(machine.heal(), 0, "{loss:?}");
        }
        machine.cut(&[database.ip()], Loss::Some);
        let tries = (0..40).take_while(|_| machine.reaches(database)).count();
        assert_ne!(machine.heal(), 0, "no packet of {tries} connections and more was lost");
        assert!(machine.reaches(database));
    }

    #[test]
    fn what_runs_on_a_machine_has_its_address_and_no_other() {
        let Some(mut network) = Network::make() else { return };
        let machine = network.machine("two");
        let addresses = said(machine.command("ip").args(["-brief", "-4", "address"]));
        assert!(addresses.contains(&format!(" {}/", machine.address())), "{addresses}");
        assert!(!addresses.contains(&format!(" {}/", Network::CLIENTS)), "{addresses}");
    }
}
