//! The files of the repository, and what may stand in none of them.

use std::path::{Path, PathBuf};

use shopstream_tests::repository;

/// What is not ours, or not kept.
const SKIPPED: [&str; 4] = ["target", ".git", ".cache", "third_party"];

/// All files of the repository, as paths from its root.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repository().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default();
            if SKIPPED.iter().any(|skipped| name == *skipped) {
                // In a worktree of git, `.git` is a file that names the repository's place.
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files.push(path.strip_prefix(repository()).expect("inside").to_owned());
            }
        }
    }
    files
}

/// The text of a file of the repository; `None` where it is no text.
pub(crate) fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(repository().join(path)).ok()
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let places = ["home", "root", "work", "Users"].map(|place| format!("/{place}/"));
    let files = files();
    assert!(files.len() > 100, "only {} files were found", files.len());
    for (path, text) in files.iter().filter_map(|path| Some((path, text(path)?))) {
        for (number, line) in (1..).zip(text.lines()) {
            let found = places.iter().find(|place| line.contains(place.as_str()));
            assert_eq!(found, None, "{}:{number}: {line}", path.display());
        }
    }
}
