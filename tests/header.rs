//! Checks `src/grant/header.md`, the table from Xen's header to our items and tests: every test named there exists, and
//! every operation and status of ours is listed. (Rustdoc checks the items, and `core/tests/abi` checks the table
//! for every name of the C header.)

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use granite::abi::grant::Status;
use granite::abi::grant::op::Op;

/// Appends all Rust sources in a folder to `into`.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Returns the texts in backticks.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn operations_and_statuses() -> impl Iterator<Item = &'static str> {
    Op::ALL.iter().map(|(name, _)| *name).chain(Status::ALL.iter().map(|(name, _)| *name))
}

#[test]
fn the_table_names_tests_that_there_are_and_all_of_the_header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("src/grant/header.md")).unwrap();
    let mut all = String::new();
    for folder in ["tests", "src", "core/tests", "core/src"] {
        sources(&root.join(folder), &mut all);
    }

    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| the header"));
    let tests: BTreeSet<_> = rows.clone().flat_map(|row| names(row.rsplit(" | ").next().unwrap())).collect();
    assert!(tests.len() > 50, "{tests:?}");
    let is_there = |name: &str| all.contains(&format!("fn {name}(")) || all.contains(&format!("\"{name}\""));
    let missing: Vec<_> = tests.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");

    let listed: BTreeSet<_> = rows.flat_map(|row| names(row.split(" | ").next().unwrap())).collect();
    let unlisted: Vec<_> = operations_and_statuses().filter(|name| !listed.contains(name)).collect();
    assert!(unlisted.is_empty(), "not in the table: {unlisted:?}");
}
