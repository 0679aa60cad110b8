//! The program under test: another one of this package, which cargo does not build when it is asked for this one.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use shopstream_tests::{program, repository};

/// Builds it where cargo runs us, so that it is of the same sources, and says which one is tested. Otherwise it is
/// whatever lies beside us.
pub(crate) fn ready() -> anyhow::Result<()> {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let us = std::env::current_exe().context("finding this program")?;
        let folder = us.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let profile = match folder {
            None | Some("debug") => "dev",
            Some(profile) => profile,
        };
        let built = Command::new(cargo)
            .args(["build", "--quiet", "-p", "shopstream-tests", "--bin", "shopstream-under-test"])
            .args(["--profile", profile])
            .current_dir(repository())
            .status()
            .context("running cargo")?;
        ensure!(built.success(), "the program under test cannot be built");
    }
    let program = program();
    let age = program
        .metadata()
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|built| now().duration_since(built).ok());
    let age = age.map_or_else(String::new, |age| format!(", built {} s ago", age.as_secs()));
    println!("under test: {}{age}", program.display());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "compared with the time of a file, which no `Clock` makes")]
fn now() -> SystemTime {
    SystemTime::now()
}
