//! Searches one model at the bounds named: `shopstream-models ownership --nodes 3 --commands 3`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shopstream_models::explore::{Explored, explore};
use shopstream_models::{idempotency, ownership, projection};

/// Tries every order of events of a model, and says whether its promises hold in all of them.
#[derive(Parser)]
#[command(name = "shopstream-models")]
struct Arguments {
    #[command(subcommand)]
    model: Model,
    /// End when so many steps were taken; 0: only when there are no more states.
    #[arg(long, global = true, default_value_t = 0)]
    steps_max: usize,
}

#[derive(Subcommand)]
enum Model {
    /// Who owns a partition, and which answers are true.
    Ownership {
        /// Nodes.
        #[arg(long, default_value_t = ownership::Bounds::SHORT.nodes)]
        nodes: u8,
        /// Different commands.
        #[arg(long, default_value_t = ownership::Bounds::SHORT.commands)]
        commands: u8,
        /// Claims in all.
        #[arg(long, default_value_t = ownership::Bounds::SHORT.claims)]
        claims: u8,
        /// Commits in all.
        #[arg(long, default_value_t = ownership::Bounds::SHORT.commits)]
        commits: u8,
        /// Records that arrive a second time.
        #[arg(long, default_value_t = ownership::Bounds::SHORT.duplicates)]
        duplicates: u8,
        /// Times that the log loses its end.
        #[arg(long, default_value_t = 0)]
        damages: u8,
        /// Owners may release.
        #[arg(long)]
        releases: bool,
    },
    /// One effect per command id, and the same answer for ever.
    Idempotency {
        /// Command ids.
        #[arg(long, default_value_t = idempotency::Bounds::SHORT.commands)]
        commands: u8,
        /// Effects that the aggregate takes.
        #[arg(long, default_value_t = idempotency::Bounds::SHORT.units)]
        units: u8,
        /// Calls at one time.
        #[arg(long, default_value_t = idempotency::Bounds::SHORT.calls)]
        calls: u8,
        /// Commands remembered exactly.
        #[arg(long, default_value_t = idempotency::Bounds::SHORT.recent)]
        recent: u8,
    },
    /// Exactly once into a database.
    Projection {
        /// Events.
        #[arg(long, default_value_t = projection::Projection::SHORT.events)]
        events: u8,
        /// Projectors.
        #[arg(long, default_value_t = projection::Projection::SHORT.projectors)]
        projectors: u8,
    },
}

fn main() -> ExitCode {
    let Arguments { model, steps_max } = Arguments::parse();
    let explored = match model {
        Model::Ownership { nodes, commands, claims, commits, duplicates, damages, releases } => {
            let bounds =
                ownership::Bounds { nodes, commands, claims, commits, duplicates, damages, releases };
            println!("{bounds:?}");
            explore(ownership::Ownership { bounds, flaw: None }, steps_max)
        }
        Model::Idempotency { commands, units, calls, recent } => {
            let bounds = idempotency::Bounds { commands, units, calls, recent };
            println!("{bounds:?}");
            explore(idempotency::Idempotency { bounds, flaw: None }, steps_max)
        }
        Model::Projection { events, projectors } => {
            println!("{events} events, {projectors} projectors");
            explore(projection::Projection { events, projectors, flaw: None }, steps_max)
        }
    };
    say(&explored)
}

fn say(explored: &Explored) -> ExitCode {
    println!("{explored}");
    let Some(broken) = &explored.broken else {
        let complete = !explored.exhausted || explored.never.is_empty();
        return if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    for step in &broken.steps {
        println!("  {step}");
    }
    ExitCode::FAILURE
}
