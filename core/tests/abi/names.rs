//! Every name of Xen's `grant_table.h` has a row in `src/grant/header.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

pub const NAME: &str = "every_name_of_the_grant_table_s_header_is_listed";

/// Returns the names defined by a header: macros of these kinds, structures, unions and types.
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

/// Compares the header with the table. Returns the number of names.
///
/// # Errors
///
/// A message for a person, if a file can't be read, if a name is missing from the table, or if the header has too
/// few names.
pub fn check(headers: &Path) -> Result<usize, String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let defined = defined(&read(&headers.join("xen/grant_table.h"))?);
    let table = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/grant/header.md"))?;
    let first_columns =
        table.lines().filter(|line| line.starts_with("| ")).filter_map(|row| row.split(" | ").next());
    let listed: BTreeSet<&str> =
        first_columns.flat_map(|column| column.split('`').skip(1).step_by(2)).collect();
    let missing: Vec<_> = defined.iter().filter(|name| !listed.contains(name.as_str())).collect();
    match missing.is_empty() {
        // An old header has fewer names, but none has so few.
        true if defined.len() < 50 => Err(format!("only {} names are found in the header", defined.len())),
        true => Ok(defined.len()),
        false => Err(format!("not in header.md: {missing:?}")),
    }
}
