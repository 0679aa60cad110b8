//! Verbs: what a text tells people to run is there to be run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use shopstream_tests::program;

use crate::tree;

/// The program's name, before a verb.
const NAME: &str = "shopstream ";

#[test]
fn every_verb_that_is_named_exists() {
    let mut named: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for path in tree::files() {
        for (number, line) in (1..).zip(tree::text(&path).unwrap_or_default().lines()) {
            for verb in verbs(line) {
                named.entry(verb).or_insert_with(|| format!("{}:{number}", path.display()));
            }
        }
    }
    let first: BTreeSet<&str> = named.keys().filter_map(|verb| Some(verb.first()?.as_str())).collect();
    assert!(["serve", "verify", "topics"].iter().all(|verb| first.contains(verb)), "found only {first:?}");
    for (verb, place) in &named {
        let (verb, sub) = (&verb[0], verb.get(1));
        let Some(said) = help(&[verb]) else { panic!("{place}: there is no verb `{verb}`") };
        // Other verbs have arguments after them, or the rest of a sentence.
        if let Some(sub) = sub.filter(|_| said.contains("\nCommands:")) {
            assert!(help(&[verb, sub]).is_some(), "{place}: there is no verb `{verb} {sub}`");
        }
    }
    assert_eq!(help(&["rebuild"]), None, "the program takes any word for a verb");
}

/// What the program says about a verb; `None` where it has none of that name.
fn help(verb: &[&str]) -> Option<String> {
    let said = Command::new(program()).arg("help").args(verb).output().expect("the program runs");
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

/// The verbs that a line names, each with the word that follows it.
fn verbs(line: &str) -> Vec<Vec<String>> {
    let before = |at: usize| line[..at].chars().next_back();
    let is_name = |at: &usize| !before(*at).is_some_and(|c| c.is_alphanumeric() || "-_/.".contains(c));
    let places = line.match_indices(NAME).map(|(at, _)| at).filter(is_name);
    places.map(|at| words(&line[at + NAME.len()..])).filter(|verb| !verb.is_empty()).collect()
}

/// Up to two words that could be verbs, if the text begins with them. What a shell is given a value for is none.
fn words(text: &str) -> Vec<String> {
    let is_end = |c: char| !c.is_ascii_lowercase() && c != '-';
    let mut words = Vec::new();
    let mut rest = text;
    while words.len() < 2 && rest.starts_with(|c: char| c.is_ascii_lowercase()) {
        let end = rest.find(is_end).unwrap_or(rest.len());
        if rest[end..].starts_with('=') {
            break;
        }
        words.push(rest[..end].to_owned());
        let Some(next) = rest[end..].strip_prefix(' ') else { break };
        rest = next;
    }
    words
}
