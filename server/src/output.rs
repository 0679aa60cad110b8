//! What the program writes to its standard streams. Whoever reads them may stop at any moment, and the disk behind them
//! may be full: neither is a reason to panic. A verb whose answer cannot be written ends; who serves goes on.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// 128 + SIGPIPE: what a shell says of a program whose reader has left.
const READER_LEFT: u8 = 141;

/// A line of an answer could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the output cannot be written")]
pub struct Unwritten(#[source] io::Error);

/// Writes a line of a verb's answer to standard output.
///
/// # Errors
/// [`Unwritten`]: the answer is of no use any more.
pub fn line(line: fmt::Arguments<'_>) -> Result<(), Unwritten> {
    writeln!(io::stdout().lock(), "{line}").map_err(Unwritten)
}

/// Writes a line that goes without saying: to standard output where `out`, else to standard error. One that cannot be
/// written is dropped and counted.
pub fn remark(out: bool, line: fmt::Arguments<'_>) {
    let written =
        if out { writeln!(io::stdout().lock(), "{line}") } else { writeln!(io::stderr().lock(), "{line}") };
    if written.is_err() {
        dropped();
    }
}

/// Counts a line that could not be written.
fn dropped() {
    metrics::counter!("shopstream_lines_dropped_total").increment(1);
}

/// How the program ends with this error: quietly where only its reader has left.
pub fn end(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Unwritten>() {
        Some(Unwritten(cause)) if cause.kind() == ErrorKind::BrokenPipe => ExitCode::from(READER_LEFT),
        _ => {
            hint!("shopstream: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Standard error for log lines: what it does not take is dropped and counted.
pub(crate) struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if io::stderr().lock().write_all(bytes).is_err() {
            dropped();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line of a verb's answer: `say!("{count} orders")?`.
macro_rules! say {
    ($($line:tt)*) => { $crate::output::line(format_args!($($line)*)) };
}

/// A line on standard output that may get lost.
macro_rules! note {
    ($($line:tt)*) => { $crate::output::remark(true, format_args!($($line)*)) };
}

/// A line on standard error that may get lost.
macro_rules! hint {
    ($($line:tt)*) => { $crate::output::remark(false, format_args!($($line)*)) };
}

pub(crate) use {hint, note, say};
