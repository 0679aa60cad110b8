//! `scenario`: everything that can go wrong with a checkout (`commerce.md` C.5.3), played on a whole shop: its end is the one
//! that is promised and the books are right. With `--kills` it is played again and again, and the node killed with signal 9 one
//! record later each time.

mod plays;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use shopstream_proto::event::v1::GetLogStatusRequest;
use shopstream_proto::order::v1::OrderStatus;
use shopstream_server::client::Client;
use shopstream_tests::requests::{order, place, sell};
use shopstream_tests::{Database, Setup, TestShop, kafka};
use tokio::runtime::Runtime;

use self::plays::{PLAYS, Play, Scene, Shop};
use crate::Common;
use crate::report::Report;

/// A play that has not ended by then never will.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the end of the log.
const LOOK: Duration = Duration::from_micros(300);

/// Which, and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Such as F-02; none: all
    ids: Vec<String>,
    /// Where the log is kept
    #[arg(long, value_enum, default_value_t = Mode::Embedded)]
    log: Mode,
    /// Play each again for every record that it writes, and kill the node there
    #[arg(long)]
    kills: bool,
    /// With `--kills`, at every so manieth record only
    #[arg(long, default_value_t = 1)]
    every: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Embedded,
    Kafka,
}

const PROMISES: [(&str, &str); 2] = [
    ("end", "the order ends as promised"),
    ("books", "nothing is unfinished, the books are right, every view is its replay"),
];

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(std::env::temp_dir())?;
    let wanted = |play: &&Play| options.ids.is_empty() || options.ids.iter().any(|id| id == play.id);
    let plays: Vec<&Play> = PLAYS.iter().filter(wanted).collect();
    let known = || PLAYS.iter().map(|play| play.id).collect::<BTreeSet<_>>();
    ensure!(!plays.is_empty(), "there is none of {:?}: there are {:?}", options.ids, known());
    let mut report = Report::new("scenario", seed, &PROMISES);
    let every = options.kills.then_some(options.every.max(1));
    for kind in [Shop::Usual, Shop::ShortHolds, Shop::Forgetful] {
        let plays: Vec<&Play> = plays.iter().copied().filter(|play| play.on == kind).collect();
        if plays.is_empty() {
            continue;
        }
        let Some((stage, mut shop)) = Stage::build(options.log, kind, every)? else {
            return Ok(ExitCode::SUCCESS);
        };
        for play in plays {
            shop = stage.play(shop, play, seed, &mut report)?;
        }
        shop.stop();
    }
    options.common.end(&report, folder)
}

struct Stage {
    runtime: Runtime,
    /// The shop's, where it is not its own.
    database: Option<Database>,
    /// At every so manieth record the node is killed, one play each.
    every: Option<u64>,
}

impl Stage {
    /// A shop of this kind, and all that is needed to play on it; `None` where this machine lacks something.
    fn build(mode: Mode, kind: Shop, every: Option<u64>) -> anyhow::Result<Option<(Self, TestShop)>> {
        let setup = match mode {
            Mode::Embedded => Setup::default(),
            Mode::Kafka => {
                let Some(kafka) = kafka::shared() else { return Ok(None) };
                Setup::on(&kafka.log_url("scenario"))
            }
        };
        let mut stage = Self { runtime: Runtime::new()?, database: None, every };
        let setup = match kind {
            Shop::Usual => setup.waiting_for_the_provider(2).trying_again(1),
            Shop::ShortHolds => setup.holding_for(1),
            Shop::Forgetful => {
                let Some(database) = Database::start() else { return Ok(None) };
                let setup = setup.reading_from(database.url()).waiting_for_the_stock(1);
                stage.database = Some(database);
                setup
            }
        };
        Ok(Some((stage, TestShop::start_with(setup))))
    }

    fn play(&self, shop: TestShop, play: &Play, seed: u64, report: &mut Report) -> anyhow::Result<TestShop> {
        let title = format!("{} {}", play.id, play.says);
        let (mut shop, written) = self.once(shop, play, &format!("{seed:x}-0"), None, report)?;
        report.count(&format!("{title}: records"), written);
        if let Some(every) = self.every {
            let (mut places, mut after) = (BTreeSet::new(), 1);
            // A play whose node is killed may write a few records more; then it is over before the kill.
            loop {
                let (played, at) =
                    self.once(shop, play, &format!("{seed:x}-{after}"), Some(after), report)?;
                shop = played;
                if at < after {
                    break;
                }
                places.insert(at);
                after += every;
            }
            report.count(&format!("{title}: killed at so many different records"), places.len() as u64);
        }
        report.checked("books", 1);
        if let Err(said) = shop.audited() {
            report.broken("books", format!("{title}: {said}"));
        }
        Ok(shop)
    }

    /// Plays it once, and kills the node as soon as it has written `kill` records; answers how many there were then, or in all.
    fn once(
        &self,
        mut shop: TestShop,
        play: &Play,
        name: &str,
        kill: Option<u64>,
        report: &mut Report,
    ) -> anyhow::Result<(TestShop, u64)> {
        let name = format!(
            "{}-{}-{name}",
            play.id.to_lowercase(),
            PLAYS.iter().position(|it| it.says == play.says).unwrap_or_default()
        );
        let client = self.runtime.block_on(shop.client());
        self.runtime.block_on(sell(&client, &name, play.units))?;
        if play.on == Shop::Forgetful {
            shop.kill9();
            shop.restart();
            self.runtime.block_on(serve_another(&client, &format!("{name}-other")))?;
        }
        let before = self.runtime.block_on(written(&client)).context("the log's status")?;
        let (handle, act) = (self.runtime.handle().clone(), play.act);
        let scene = Scene {
            client: client.clone(),
            name: name.clone(),
            number: 1,
            postmaster: self.database.as_ref().map(Database::pid),
            is_disturbed: kill.is_some(),
        };
        let acted = std::thread::spawn(move || {
            handle.block_on(async { tokio::time::timeout(PATIENCE, act(scene)).await })
        });
        let begun = Instant::now();
        let mut reached = 0;
        while !acted.is_finished() && begun.elapsed() < PATIENCE {
            if let Some(end) = self.runtime.block_on(written(&client)) {
                reached = end - before;
            }
            if kill.is_some_and(|kill| reached >= kill) {
                shop.kill9();
                shop.restart();
                break;
            }
            self.runtime.block_on(async { tokio::time::sleep(LOOK).await });
        }
        report.checked("end", 1);
        let at = kill.map_or_else(|| "undisturbed".to_owned(), |kill| format!("killed after record {kill}"));
        match acted.join() {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => report.broken("end", format!("{name}, {at}: {error:#}")),
            Ok(Err(_)) => report.broken("end", format!("{name}, {at}: not ended within {PATIENCE:?}")),
            Err(_) => report.broken("end", format!("{name}, {at}: it panicked")),
        }
        if kill.is_none() {
            reached = self.runtime.block_on(written(&client)).context("the log's status")? - before;
        }
        Ok((shop, reached))
    }
}

/// A whole order of another SKU: then everything of the shop is at work.
async fn serve_another(client: &Client, sku: &str) -> anyhow::Result<()> {
    sell(client, sku, 1).await?;
    let served = place(client, order(&format!("ord_{sku}"), sku, 1, "tok_ok")).await?;
    ensure!(served.status() == OrderStatus::Confirmed, "it should be confirmed: {served:?}");
    Ok(())
}

/// Records on the log; `None` while the node does not answer.
async fn written(client: &Client) -> Option<u64> {
    let answer = client.shop().events.get_log_status(GetLogStatusRequest::default()).await.ok()?;
    Some(answer.into_inner().partitions.iter().map(|partition| partition.end_offset.unsigned_abs()).sum())
}
