//! Which crate may know which: the table in `docs/ARCHITECTURE.md` is the whole truth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use shopstream_tests::repository;

use crate::tree;

/// What the domain must do without: clocks, threads, networks, databases.
const NOT_PURE: [&str; 8] =
    ["tokio", "rdkafka", "tokio-postgres", "deadpool-postgres", "tonic", "axum", "rand", "jiff"];

#[test]
fn every_crate_knows_only_those_it_may() {
    let allowed = allowed();
    let crates = dependencies();
    let names = |map: &BTreeMap<String, BTreeSet<String>>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&crates), names(&allowed), "the table names each crate once");
    for (name, known) in &crates {
        let ours: BTreeSet<&String> = known.iter().filter(|known| crates.contains_key(*known)).collect();
        let forbidden: Vec<_> = ours.into_iter().filter(|known| !allowed[name].contains(*known)).collect();
        assert!(forbidden.is_empty(), "{name} must not know {forbidden:?}: see docs/ARCHITECTURE.md");
    }
}

#[test]
fn the_domain_is_pure() {
    let known = &dependencies()["domain"];
    let impure: Vec<_> = NOT_PURE.iter().filter(|name| known.contains(**name)).collect();
    assert!(impure.is_empty(), "domain knows {impure:?}");
}

/// The names of what each crate depends on, tests apart; ours without their prefix.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let asked = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let metadata: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let short = |name: &Value| {
        let name = name.as_str().expect("a name");
        name.strip_prefix("shopstream-").unwrap_or(name).to_owned()
    };
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().expect("a list");
        let for_use = all.iter().filter(|dependency| dependency["kind"] != "dev");
        (short(&package["name"]), for_use.map(|dependency| short(&dependency["name"])).collect())
    };
    metadata["packages"].as_array().expect("a list").iter().map(of).collect()
}

/// The rows `| `crate` | one sentence | `may`, `know` |` of the document's table.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let document = tree::text(Path::new("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, _, known, _] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((name, known.split(',').map(|known| known.trim().trim_matches('`').to_owned()).collect()))
    };
    let table =
        document.lines().skip_while(|line| !line.starts_with("| crate |")).take_while(|l| l.starts_with('|'));
    table.filter_map(row).collect()
}
