//! The parent's side of an appending process: what it said, and its end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::appender::Options;
use crate::book::Message;

/// How long the process may take to come to a point, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);
/// The length of a message in the pipe.
const MESSAGE: usize = 21;
/// What a pipe takes whole or not at all (POSIX asks for 512, Linux gives 4096), in messages.
const TOGETHER: usize = 4096 / MESSAGE;
/// Stands for an offset that was not said.
const NO_OFFSET: u64 = u64::MAX;

/// When a process is broken off.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// So long after it began to open the log.
    Opening(Duration),
    /// So long after it had opened the log.
    Appending(Duration),
}

/// A process that appends.
pub(crate) struct Writer {
    child: Child,
    said: Receiver<Vec<Message>>,
    /// What it said so far.
    pub(crate) heard: Vec<Message>,
}

impl Writer {
    /// Starts one.
    pub(crate) fn start(options: &Options) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("appender").arg("--dir").arg(&options.dir);
        for (flag, value) in [
            ("--seed", options.seed),
            ("--appenders", options.appenders.into()),
            ("--first-author", options.first_author.into()),
        ] {
            command.args([flag, &value.to_string()]);
        }
        for (flag, set) in [("--early", options.early), ("--unflushed", options.unflushed)] {
            command.args(set.then_some(flag));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting an appending process")?;
        let out = child.stdout.take().context("a piped output")?;
        let (say, said) = mpsc::channel();
        thread::spawn(move || hear(out, |messages| say.send(messages).is_ok()));
        Ok(Self { child, said, heard: Vec::new() })
    }

    /// Hears it until `moment`. An error where it ends by itself before.
    pub(crate) fn watch(&mut self, moment: Moment) -> anyhow::Result<()> {
        let (mark, after) = match moment {
            Moment::Opening(after) => (Message::Opening, after),
            Moment::Appending(after) => (Message::Opened, after),
        };
        let (mut deadline, mut marked) = (Instant::now() + PATIENCE, false);
        loop {
            match self.said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(messages) => {
                    if !marked && messages.contains(&mark) {
                        (deadline, marked) = (Instant::now() + after, true);
                    }
                    self.heard.extend(messages);
                }
                Err(RecvTimeoutError::Timeout) if marked => break,
                Err(RecvTimeoutError::Timeout) => bail!("the appending process says nothing"),
                Err(RecvTimeoutError::Disconnected) => return self.ended_early(),
            }
        }
        // What has arrived by now was said before the fault begins.
        while let Ok(messages) = self.said.try_recv() {
            self.heard.extend(messages);
        }
        Ok(())
    }

    fn ended_early(&mut self) -> anyhow::Result<()> {
        let mut complaint = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut complaint)?;
        }
        let status = self.child.wait()?;
        if status.success() {
            // It had nothing left to send.
            return Ok(());
        }
        bail!("the appending process ended by itself, {status}: {}", complaint.trim())
    }

    /// Kills it at once, and answers how it ended and what more it had said.
    pub(crate) fn kill(&mut self) -> anyhow::Result<(ExitStatus, Vec<Message>)> {
        self.child.kill()?;
        let status = self.child.wait()?;
        Ok((status, self.said.iter().flatten().collect()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It has mostly ended already; then both only say so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes messages so that each arrives whole or not at all.
pub(crate) fn say(mut out: &File, messages: &[Message]) -> io::Result<()> {
    for together in messages.chunks(TOGETHER) {
        let bytes: Vec<u8> = together.iter().flat_map(encode).collect();
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn hear(mut out: impl Read, mut each: impl FnMut(Vec<Message>) -> bool) {
    let (mut buffer, mut filled) = (vec![0; MESSAGE * 4096], 0);
    loop {
        match out.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => return,
            Ok(more) => filled += more,
        }
        let whole = filled / MESSAGE * MESSAGE;
        let messages = buffer[..whole].chunks_exact(MESSAGE).filter_map(decode).collect();
        if !each(messages) {
            return;
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

fn encode(message: &Message) -> [u8; MESSAGE] {
    let (kind, author, number, offset) = match *message {
        Message::Opening => (0, 0, 0, 0),
        Message::Opened => (1, 0, 0, 0),
        Message::Sent { author, below } => (2, author, below, 0),
        Message::Acknowledged { author, number, offset } => (3, author, number, offset.unwrap_or(NO_OFFSET)),
    };
    let mut bytes = [0; MESSAGE];
    bytes[0] = kind;
    bytes[1..5].copy_from_slice(&author.to_le_bytes());
    bytes[5..13].copy_from_slice(&number.to_le_bytes());
    bytes[13..].copy_from_slice(&offset.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Message> {
    let (kind, rest) = bytes.split_first()?;
    let (author, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let offset = u64::from_le_bytes(*rest.first_chunk()?);
    let (author, number) = (u32::from_le_bytes(*author), u64::from_le_bytes(*number));
    match kind {
        0 => Some(Message::Opening),
        1 => Some(Message::Opened),
        2 => Some(Message::Sent { author, below: number }),
        3 => {
            let offset = (offset != NO_OFFSET).then_some(offset);
            Some(Message::Acknowledged { author, number, offset })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_however_the_pipe_cuts_them() {
        let said = [
            Message::Opening,
            Message::Opened,
            Message::Sent { author: 7, below: 1 << 40 },
            Message::Acknowledged { author: 7, number: 3, offset: Some(9) },
            Message::Acknowledged { author: 8, number: 0, offset: None },
        ];
        let bytes: Vec<u8> = said.iter().flat_map(encode).collect();
        for step in [1, 5, MESSAGE, 50] {
            let mut heard = Vec::new();
            let pipe = bytes
                .chunks(step)
                .fold(Box::new(io::empty()) as Box<dyn Read>, |pipe, chunk| Box::new(pipe.chain(chunk)));
            hear(pipe, |messages| {
                heard.extend(messages);
                true
            });
            assert_eq!(heard, said);
        }
        let mut heard = Vec::new();
        hear(&bytes[..bytes.len() - 1], |messages| {
            heard.extend(messages);
            true
        });
        assert_eq!(heard, said[..4]);
    }
}
