//! The program `shopstream`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use shopstream_server::config::{Config, ConfigFlags};
use shopstream_server::import::ImportOptions;
use shopstream_server::provider::{SimulatorOptions, run_simulator};
use shopstream_server::repair::{self, Way};
use shopstream_server::{bench, node, output, telemetry, verbs};

/// Events are many small allocations that are freed on another thread than made them: with the allocator of the C
/// library that was the first item of a node's profile, 15 to 30 % of its CPU.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The transactional heart of a shop
#[derive(Parser)]
#[command(name = "shopstream", version, about)]
struct Cli {
    /// Log lines as JSON
    #[arg(long, global = true)]
    json_logs: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve a shop; without arguments everything it needs is kept in one folder
    Serve(ConfigFlags),
    /// Place one order and show its timeline
    Demo(ConfigFlags),
    /// List the checkouts and returns that need a person, or let one go on
    Attention {
        #[command(subcommand)]
        verb: AttentionVerb,
    },
    /// Read events from the log
    Events {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        options: verbs::events::EventsOptions,
    },
    /// Look at the log, or repair it
    Log {
        #[command(subcommand)]
        verb: LogVerb,
    },
    /// Check the conservation laws over the whole log; exit 1 and the first offending event where one is broken
    Verify {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        options: verbs::verify::VerifyOptions,
    },
    /// What read models and processes have set aside because they cannot read it, and the two ways out
    Parked {
        #[command(subcommand)]
        verb: ParkedVerb,
    },
    /// Bring data in
    Import {
        #[command(subcommand)]
        what: ImportVerb,
    },
    /// Make or check the topics of a log on Kafka
    Topics {
        #[command(subcommand)]
        verb: TopicsVerb,
    },
    /// Measure this machine and the shop on it, side by side
    Bench(bench::BenchOptions),
    /// Print the settings that a node would run with, secrets masked
    Config(ConfigFlags),
    /// Be a payment provider that misbehaves on demand
    ProviderSimulator {
        /// Where to listen; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// The folder of the call log
        #[arg(long)]
        data: PathBuf,
        /// The shop to which signals are sent
        #[arg(long)]
        shop: Option<String>,
    },
}

#[derive(Subcommand)]
enum AttentionVerb {
    /// What has stopped: since when, at which step, and what was seen there
    List {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        whose: verbs::attention::Whose,
    },
    /// Let one go on where it stopped
    Resume {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        options: verbs::attention::ResumeOptions,
    },
    /// Let one go on whose failing step was done by hand
    Settle {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        options: verbs::attention::SettleOptions,
    },
}

#[derive(Subcommand)]
enum LogVerb {
    /// Every partition: whether it takes commands, and if not, why
    Status(ConfigFlags),
    /// Say what the log has lost and the journal still has; with a flag, make one history of them again. No node may run
    Repair {
        #[command(flatten)]
        config: ConfigFlags,
        /// The log is right: what it has lost is listed, and everything else forgets it
        #[arg(long)]
        keep_log: bool,
        /// Append what the log has lost again, from the journal
        #[arg(long, conflicts_with = "keep_log")]
        append_lost: bool,
    },
}

#[derive(Subcommand)]
enum ParkedVerb {
    /// Every aggregate that is set aside: where, since when, why, and how much waits. Exit 1 where there is one
    List {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        options: verbs::parked::ListOptions,
    },
    /// The event in the way as the log has it, what waits behind it, and what the two ways out would do
    Explain {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        aggregate: verbs::parked::Aggregate,
    },
    /// Fold what waits, in order: after the program was mended. Exit 1 where something is still in the way
    Retry {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        aggregate: verbs::parked::Aggregate,
    },
    /// Leave the one event in the way out of a read model, for ever, and fold what waits behind it
    Skip {
        #[command(flatten)]
        config: ConfigFlags,
        #[command(flatten)]
        options: verbs::parked::SkipOptions,
    },
}

#[derive(Subcommand)]
enum ImportVerb {
    /// Invoices of a retail shop, one CSV row per line (gzipped or not)
    Retail(RetailArgs),
}

#[derive(Args)]
struct RetailArgs {
    #[command(flatten)]
    config: ConfigFlags,
    /// The file
    file: PathBuf,
    #[command(flatten)]
    options: ImportOptions,
}

#[derive(Subcommand)]
enum TopicsVerb {
    /// Make the topic with the settings it needs, or mend the settings of one that is there
    Apply(verbs::topics::TopicsOptions),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::log_lines(cli.json_logs);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return output::end(&anyhow::anyhow!("no runtime: {error}"));
        }
    };
    let code = runtime.block_on(run_unless_interrupted(cli.verb)).unwrap_or_else(|error| output::end(&error));
    // What still runs has been told to stop; nobody waits for it any more.
    runtime.shutdown_background();
    code
}

/// Who serves ends in order when asked to. Everything else is broken off where it is, and a node that it had started
/// for itself goes with it.
async fn run_unless_interrupted(verb: Verb) -> anyhow::Result<ExitCode> {
    // A benchmark has servers of its own to stop, and its echo is one.
    let serves = matches!(verb, Verb::Serve(_) | Verb::ProviderSimulator { .. } | Verb::Bench(_));
    tokio::select! {
        biased;
        done = run(verb) => done,
        () = node::asked_to_stop(), if !serves => anyhow::bail!("interrupted"),
    }
}

async fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Serve(flags) => node::serve(Config::load(&flags)?).await?,
        Verb::Demo(flags) => verbs::demo::run(&Config::load(&flags)?).await?,
        Verb::Attention { verb: AttentionVerb::List { config, whose } } => {
            verbs::attention::list(&Config::load(&config)?, &whose).await?;
        }
        Verb::Attention { verb: AttentionVerb::Resume { config, options } } => {
            verbs::attention::resume(&Config::load(&config)?, &options).await?;
        }
        Verb::Attention { verb: AttentionVerb::Settle { config, options } } => {
            verbs::attention::settle(&Config::load(&config)?, &options).await?;
        }
        Verb::Events { config, options } => verbs::events::run(&Config::load(&config)?, &options).await?,
        Verb::Log { verb: LogVerb::Status(flags) } => {
            return verbs::log::status(&Config::load(&flags)?).await;
        }
        Verb::Log { verb: LogVerb::Repair { config, keep_log, append_lost } } => {
            let way = match (keep_log, append_lost) {
                (true, _) => Some(Way::KeepLog),
                (_, true) => Some(Way::AppendLost),
                _ => None,
            };
            return repair::run(&Config::load(&config)?, way).await;
        }
        Verb::Verify { config, options } => {
            return verbs::verify::run(&Config::load(&config)?, &options).await;
        }
        Verb::Parked { verb } => return parked(verb).await,
        Verb::Import { what: ImportVerb::Retail(args) } => {
            verbs::import::retail(&Config::load(&args.config)?, &args.file, args.options).await?;
        }
        Verb::Topics { verb: TopicsVerb::Apply(options) } => return verbs::topics::apply(&options).await,
        Verb::Bench(options) => bench::run(&options).await?,
        Verb::Config(flags) => {
            let config = Config::load(&flags)?;
            output::line(format_args!("{}", config.render()?.trim_end()))?;
            for warning in config.warnings() {
                output::remark(false, format_args!("warning: {warning}"));
            }
        }
        Verb::ProviderSimulator { listen, data, shop } => {
            run_simulator(SimulatorOptions { listen, data, shop }, node::asked_to_stop()).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn parked(verb: ParkedVerb) -> anyhow::Result<ExitCode> {
    match verb {
        ParkedVerb::List { config, options } => verbs::parked::list(&Config::load(&config)?, options).await,
        ParkedVerb::Explain { config, aggregate } => {
            verbs::parked::explain(&Config::load(&config)?, aggregate).await
        }
        ParkedVerb::Retry { config, aggregate } => {
            verbs::parked::retry(&Config::load(&config)?, aggregate).await
        }
        ParkedVerb::Skip { config, options } => verbs::parked::skip(&Config::load(&config)?, options).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        super::Cli::command().debug_assert();
    }
}
