//! Documents: what they point at is there.

use std::path::Path;

use shopstream_tests::repository;

use crate::tree;

#[test]
fn every_relative_link_leads_somewhere() {
    let mut links = 0;
    let documents =
        tree::files().into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    for document in documents {
        let folder = document.parent().unwrap_or_else(|| Path::new(""));
        for target in targets(&tree::text(&document).expect("text")) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { document.clone() } else { folder.join(file) };
            assert!(repository().join(&path).exists(), "{}: {target} leads nowhere", document.display());
            if !anchor.is_empty() {
                let text = tree::text(&path).unwrap_or_default();
                let found = text.lines().any(|line| line.starts_with('#') && slug(line) == anchor);
                assert!(found, "{}: {} has no heading {anchor}", document.display(), path.display());
            }
            links += 1;
        }
    }
    assert!(links > 20, "only {links} links were found");
}

/// The targets of the `[text](target)` in a document.
fn targets(text: &str) -> Vec<String> {
    let after = text.split("](").skip(1);
    after.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// A heading as its link has it.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
