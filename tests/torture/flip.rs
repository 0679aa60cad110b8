//! `flip`: one bit of a segment is not what was written, each in turn.
//!
//! Five logs of 64 KiB segments are tried: one whose segment is closed by another behind it, and four whose segment is
//! the last, in the states that a crash can leave it in ([`image`]). Every bit of the header and of the groups must be
//! missed, at the opening or by the reader, before anything wrong is served or anything is left out. Behind them is
//! nothing that anybody wrote, so a bit there may be refused or may not matter.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use shopstream_eventlog::local::{LocalLog, OpenError, Options as LogOptions};
use shopstream_tests::records;
use tokio::runtime::Runtime;

use self::image::{Image, ONE};
use crate::report::Report;
use crate::{Common, in_memory, reading};

mod image;

/// What is tried.
const SEGMENT_BYTES: u64 = 64 << 10;
const PROMISES: [(&str, &str); 4] = [
    ("detected", "every flipped bit of header and groups is noticed"),
    ("served", "no reader is given anything but what was written"),
    ("I1", "nothing that was acknowledged is left out unsaid"),
    ("kept", "a log that is refused is left as it was found"),
];

/// Which bits.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Only every so many-th bit
    #[arg(long, default_value_t = 1)]
    every: usize,
    #[command(flatten)]
    common: Common,
}

/// What became of a log with a wrong bit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It does not open, and says where.
    Refused,
    /// A reader ends there, having served what is before it.
    EndsAtIt,
    /// Everything is served as it was written.
    Whole,
    /// The last group is cut as if it were torn.
    Cut,
    /// A promise is broken.
    Broken(&'static str, String),
}

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let seed = options.common.seed();
    let folder = options.common.folder(in_memory())?;
    let mut report = Report::new("flip", seed, &PROMISES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let images = runtime.block_on(image::all(seed, folder.path()))?;
    let every = options.every.max(1);
    // Another sample for another seed.
    let bits: Vec<usize> =
        ((seed % every as u64) as usize..SEGMENT_BYTES as usize * 8).step_by(every).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    for image in &images {
        let outcomes = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for worker in 0..workers {
                let dir = folder.path().join(format!("{}-{worker}", image.name));
                let mine = bits.iter().copied().skip(worker).step_by(workers);
                threads.push(scope.spawn(move || flip_all(image, &dir, mine)));
            }
            let joined = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))));
            joined.collect::<anyhow::Result<Vec<_>>>()
        })?;
        for (bit, outcome) in outcomes.into_iter().flatten() {
            tell(&mut report, image, bit, outcome);
        }
    }
    options.common.end(&report, folder)
}

fn tell(report: &mut Report, image: &Image, bit: usize, outcome: Outcome) {
    let region = image.region(bit / 8);
    report.checked("served", 1);
    report.checked("I1", 1);
    if region.is_written() && !(outcome == Outcome::Cut && image.may_be_cut(bit / 8)) {
        report.checked("detected", 1);
    }
    let how = match outcome {
        Outcome::Refused => {
            report.checked("kept", 1);
            "refused at opening"
        }
        Outcome::EndsAtIt => "a reader ends at it",
        Outcome::Whole if region.is_written() => {
            report.broken("detected", format!("{}: bit {bit} in {region} was not noticed", image.name));
            "NOT NOTICED"
        }
        Outcome::Whole => "does not matter",
        Outcome::Cut if image.may_be_cut(bit / 8) => "the last group is cut, as documented",
        Outcome::Cut => {
            report.broken("I1", format!("{}: bit {bit} in {region}: the last group was cut", image.name));
            "CUT"
        }
        Outcome::Broken(promise, detail) => {
            report.broken(promise, format!("{}: bit {bit} in {region}: {detail}", image.name));
            "BROKEN"
        }
    };
    report.count(&format!("{}, {region}: {how}", image.name), 1);
}

fn flip_all(
    image: &Image,
    dir: &Path,
    bits: impl Iterator<Item = usize>,
) -> anyhow::Result<Vec<(usize, Outcome)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::fs::create_dir(dir)?;
    image::restore(dir, &image.files)?;
    bits.map(|bit| Ok((bit, flip(image, dir, bit, &runtime)?))).collect()
}

/// Flips one bit of the log that lies there, reads all of it, and puts it back as it was.
fn flip(image: &Image, dir: &Path, bit: usize, runtime: &Runtime) -> anyhow::Result<Outcome> {
    let (byte, mask) = (bit / 8, 1 << (bit % 8));
    let right = *image.files.get(ONE).and_then(|one| one.get(byte)).context("a byte of the segment")?;
    let one = std::fs::OpenOptions::new().write(true).open(dir.join(ONE))?;
    one.write_all_at(&[right ^ mask], byte as u64)?;
    let mut outcome = runtime.block_on(self::outcome(image, dir));
    let mut found = image::take(dir)?;
    let still_wrong = found.get_mut(ONE).is_some_and(|one| std::mem::replace(&mut one[byte], right) != right);
    let unchanged = match &outcome {
        Outcome::Refused => still_wrong && found == image.files,
        // What is behind it goes on, and is sealed anew; the segment itself is not touched.
        Outcome::EndsAtIt => still_wrong && found.get(ONE) == image.files.get(ONE),
        Outcome::Whole | Outcome::Cut | Outcome::Broken(..) => true,
    };
    if !unchanged {
        outcome = Outcome::Broken("kept", "a log that was refused was changed".to_owned());
    }
    // What was served is served again.
    if matches!(outcome, Outcome::Whole | Outcome::Cut) {
        let again = runtime.block_on(self::outcome(image, dir));
        if again != outcome {
            outcome = Outcome::Broken("served", format!("{outcome:?}, then {again:?}"));
        }
    }
    one.write_all_at(&[right], byte as u64)?;
    image::restore(dir, &image.files)?;
    Ok(outcome)
}

async fn outcome(image: &Image, dir: &Path) -> Outcome {
    let options = LogOptions { segment_bytes: SEGMENT_BYTES, ..reading::options(dir) };
    let log = match LocalLog::open(options) {
        Ok(log) => log,
        Err(OpenError::Damaged { .. }) => return Outcome::Refused,
        // A header of another format is refused by its own name.
        Err(OpenError::Format { .. } | OpenError::Partitions { .. }) => return Outcome::Refused,
        Err(other) => return Outcome::Broken("detected", format!("it does not open: {other}")),
    };
    let mut served = vec![Vec::new(); usize::from(reading::PARTITIONS)];
    let read = records::read_into(&log, &mut served).await;
    judge(image, &served, read.err().map(|error| format!("{error:#}")))
}

fn judge(image: &Image, served: &[Vec<Bytes>], error: Option<String>) -> Outcome {
    let is_prefix = |truth: &[Vec<Bytes>]| served.iter().zip(truth).all(|(a, b)| b.starts_with(a));
    if !is_prefix(&image.truth) {
        return Outcome::Broken("served", "something else than what was written".to_owned());
    }
    match error {
        Some(error) if error.contains(ONE) => Outcome::EndsAtIt,
        Some(error) => Outcome::Broken("detected", format!("it is noticed in another place: {error}")),
        None if served == image.truth => Outcome::Whole,
        None if served == image.without_last_group => Outcome::Cut,
        None => Outcome::Broken("I1", "records are left out".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let record = |byte: u8| Bytes::from(vec![byte]);
        let truth = vec![vec![record(1), record(2)], vec![record(3)], vec![]];
        let without_last_group = vec![vec![record(1)], vec![record(3)], vec![]];
        Image { truth, without_last_group, ..Image::default() }
    }

    #[test]
    fn what_is_served_wrong_or_left_out_is_seen() {
        let image = image();
        let judged = |served: &[Vec<Bytes>], error: Option<&str>| match judge(
            &image,
            served,
            error.map(str::to_owned),
        ) {
            Outcome::Broken(promise, _) => promise.to_owned(),
            other => format!("{other:?}"),
        };
        let truth = image.truth.clone();
        assert_eq!(judged(&truth, None), "Whole");
        assert_eq!(judged(&image.without_last_group, None), "Cut");
        assert_eq!(
            judged(&image.without_last_group, Some("damaged at 0000000000000001.seg byte 9")),
            "EndsAtIt"
        );
        assert_eq!(judged(&truth, Some("elsewhere")), "detected");
        let mut wrong = truth.clone();
        wrong[0][1] = Bytes::from_static(b"x");
        assert_eq!(judged(&wrong, Some(ONE)), "served");
        let mut more = truth.clone();
        more[2].push(Bytes::from_static(b"x"));
        assert_eq!(judged(&more, None), "served");
        let mut fewer = truth;
        fewer[1].clear();
        assert_eq!(judged(&fewer, None), "I1");
    }

    #[test]
    fn the_planted_outcomes_turn_the_run_red() {
        let image = Image { end: 9000, last_group: 8000..9000, ..image() };
        for (byte, outcome, promise) in [
            (5000, Outcome::Whole, "detected"),
            (8500, Outcome::Cut, "I1"),
            (5000, Outcome::Broken("served", String::new()), "served"),
        ] {
            let mut report = Report::new("flip", 0, &PROMISES);
            tell(&mut report, &image, 8 * 100, Outcome::Refused);
            assert!(report.is_green());
            tell(&mut report, &image, 8 * byte, outcome);
            assert!(!report.is_green(), "{promise}");
        }
        let mut report = Report::new("flip", 0, &PROMISES);
        tell(&mut report, &image, 8 * 100, Outcome::Refused);
        tell(&mut report, &image, 8 * 9100, Outcome::Whole);
        assert!(report.is_green(), "behind the end nothing was written");
    }
}
