//! Where a simulator is, as it writes it down in its folder: its address, its process, and a word that only it knows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The note in the folder of a simulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `host:port`.
    pub address: String,
    /// For people; a process is believed by its word.
    pub process_id: u32,
    /// What the one that answers there must call itself.
    pub instance: String,
}

impl Note {
    /// The note, if there is a whole one.
    pub fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(file(folder)).ok()?;
        let mut lines = text.lines().map(str::trim);
        let (address, process_id) = (lines.next()?.to_owned(), lines.next()?.parse().ok()?);
        let instance = lines.next().filter(|instance| !instance.is_empty())?.to_owned();
        Some(Self { address, process_id, instance })
    }

    /// Writes it, renamed into place so that nobody reads half of it.
    ///
    /// # Errors
    /// The folder does not take it.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let draft = folder.join("address.new");
        let mut written = File::create(&draft)?;
        writeln!(written, "{}\n{}\n{}", self.address, self.process_id, self.instance)?;
        fs::rename(&draft, file(folder))
    }

    /// Removes it, whoever's it is.
    pub(crate) fn remove(folder: &Path) {
        // There may be none.
        fs::remove_file(file(folder)).ok();
    }

    /// Removes it if it is still this one.
    pub(super) fn withdraw(&self, folder: &Path) {
        if Self::read(folder).as_ref() == Some(self) {
            Self::remove(folder);
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("address")
}
