//! `shopstream import`.

use std::path::Path;

use anyhow::Context as _;

use super::Connected;
use crate::config::Config;
use crate::import::{self, ImportOptions, Retail};
use crate::output::say;

/// Imports a retail file, prints the figures and writes them to the report file.
///
/// # Errors
/// The file is not one, or the shop does not take it.
pub async fn retail(config: &Config, file: &Path, options: ImportOptions) -> anyhow::Result<()> {
    let mut retail = Retail::read(file)?;
    if let Some(end) = options.until {
        retail = retail.until(end);
    }
    let connected = Connected::open_or_make(config).await?;
    let report_file = options.report.clone();
    let imported = import::run(connected.client.clone(), retail, options).await;
    connected.close().await?;
    let report = imported?;
    if let Some(path) = report_file {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(&path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    say!("{}", report.table())?;
    Ok(())
}
