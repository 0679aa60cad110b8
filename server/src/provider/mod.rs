//! The payment provider: the simulator, a process of its own, and the way to talk to one.

mod book;
mod note;
mod remote;
mod simulator;

pub use note::Note;
pub use remote::RemoteProvider;
pub use simulator::{SimulatorOptions, run_simulator};
