//! The table from Xen's header to our items and tests, `src/grant/header.md`: what it names is there. (That the
//! items are there, rustdoc sees.)

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use granite::abi::grant::Status;
use granite::abi::grant::op::Op;

/// All of the tests' sources, and of the library's.
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

/// What is in backticks.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Names of the header beside operations and statuses, which are lists of the library's own.
const OTHERS: &str = "
    struct:grant_entry_header struct:grant_entry_v1 union:grant_entry_v2 grant_ref_t grant_handle_t grant_status_t
    struct:gnttab_map_grant_ref struct:gnttab_unmap_grant_ref struct:gnttab_setup_table struct:gnttab_dump_table
    struct:gnttab_transfer struct:gnttab_copy struct:gnttab_query_size struct:gnttab_unmap_and_replace
    struct:gnttab_set_version struct:gnttab_get_status_frames struct:gnttab_get_version
    struct:gnttab_swap_grant_ref struct:gnttab_cache_flush
    GTF_invalid GTF_permit_access GTF_accept_transfer GTF_transitive GTF_type_mask GTF_readonly GTF_reading GTF_writing
    GTF_PWT GTF_PCD GTF_PAT GTF_sub_page GTF_transfer_committed GTF_transfer_completed
    GNTMAP_device_map GNTMAP_host_map GNTMAP_readonly GNTMAP_application_map GNTMAP_contains_pte
    GNTMAP_guest_avail_mask GNTCOPY_source_gref GNTCOPY_dest_gref
    GNTTAB_NR_RESERVED_ENTRIES GNTTAB_RESERVED_CONSOLE GNTTAB_RESERVED_XENSTORE
    GNTTAB_CACHE_CLEAN GNTTAB_CACHE_INVAL GNTTAB_CACHE_SOURCE_GREF";

fn others() -> impl Iterator<Item = String> {
    OTHERS.split_whitespace().map(|name| name.replace(':', " "))
}

/// What a header defines: macros of these kinds, structures, unions and types.
fn defined(header: &str) -> BTreeSet<String> {
    let names = header.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = match (words.next()?, words.next()?) {
            ("#define", name) => {
                let kinds = ["GTF_", "GNTMAP_", "GNTCOPY_", "GNTST_", "GNTTABOP_", "GNTTAB_"];
                kinds.iter().any(|kind| name.starts_with(kind)).then(|| name.to_owned())
            }
            (kind @ ("struct" | "union"), name) => {
                line.starts_with(kind).then(|| format!("{kind} {}", name.trim_end_matches(['{', ';'])))
            }
            ("typedef", "uint32_t" | "uint16_t") => Some(words.next()?.trim_end_matches(';').to_owned()),
            _ => None,
        }?;
        Some(name.split('(').next().unwrap_or_default().to_owned())
    });
    names.filter(|name| name != "GNTTABOP_error_msgs").collect()
}

/// With Xen's headers at hand, nothing of theirs is missing in the list above.
#[test]
fn the_list_of_names_is_that_of_the_header() {
    let Some(headers) = std::env::var_os("GRANITE_XEN_HEADERS") else { return };
    let header = fs::read_to_string(Path::new(&headers).join("xen/grant_table.h")).unwrap();
    let known: BTreeSet<String> = others().chain(operations_and_statuses().map(str::to_owned)).collect();
    let defined = defined(&header);
    assert!(defined.len() > 60, "{defined:?}");
    let unknown: Vec<_> = defined.difference(&known).collect();
    assert!(unknown.is_empty(), "not in this file's list: {unknown:?}");
}

fn operations_and_statuses() -> impl Iterator<Item = &'static str> {
    Op::ALL.iter().map(|(name, _)| *name).chain(Status::ALL.iter().map(|(name, _)| *name))
}

#[test]
fn the_table_names_tests_that_there_are_and_all_of_the_header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("src/grant/header.md")).unwrap();
    let mut all = String::new();
    sources(&root.join("tests"), &mut all);
    sources(&root.join("src"), &mut all);

    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| the header"));
    let tests: BTreeSet<_> = rows.clone().flat_map(|row| names(row.rsplit(" | ").next().unwrap())).collect();
    assert!(tests.len() > 50, "{tests:?}");
    let is_there = |name: &str| all.contains(&format!("fn {name}(")) || all.contains(&format!("\"{name}\""));
    let missing: Vec<_> = tests.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");

    let listed: BTreeSet<_> = rows.flat_map(|row| names(row.split(" | ").next().unwrap())).collect();
    let header = operations_and_statuses().map(str::to_owned).chain(others());
    let unlisted: Vec<_> = header.filter(|name| !listed.contains(name.as_str())).collect();
    assert!(unlisted.is_empty(), "not in the table: {unlisted:?}");
}
