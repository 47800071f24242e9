//! Checks the layers of a crate. A room, a top-level module, may use only rooms on lower layers. The table of layers is
//! in the documentation of the crate's `lib.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::uses::{Source, macros, uses};
use crate::error::{Context, Error, Result};

/// The layer of each room.
type Layers = BTreeMap<String, u32>;

/// Parses the rows of the table: `//! room   what it is   layer N`.
fn layers(lib: &str) -> Layers {
    let rows = lib.lines().filter_map(|line| {
        let (before, layer) = line.strip_prefix("//! ")?.rsplit_once(" layer ")?;
        Some((before.split_whitespace().next()?.to_owned(), layer.trim().parse().ok()?))
    });
    rows.collect()
}

/// Returns every use of a room on the same or a higher layer, one readable line each. `src` holds the crate's sources.
///
/// # Errors
///
/// If the sources can't be read, or `lib.rs` has no table.
pub fn violations(src: &Path) -> Result<Vec<String>> {
    let lib = src.join("lib.rs");
    let layers = layers(&fs::read_to_string(&lib).context("reading", &lib)?);
    if layers.is_empty() {
        return Err(Error::new(format!("{} has no table of layers", lib.display())));
    }
    let mut sources = Vec::new();
    read(src, src, &mut sources)?;
    // The library and the application on top may use every room.
    sources.retain(|source| !matches!(source.room(), "lib" | "main" | "demo"));
    let macros: BTreeMap<_, _> = sources
        .iter()
        .flat_map(|source| macros(source).map(|name| (name, source.room().to_owned())))
        .collect();

    let mut found = Vec::new();
    for source in &sources {
        let room = source.room();
        let Some(own) = layers.get(room) else {
            found.push(format!("{room} has no layer: give it one in the table of {}", lib.display()));
            continue;
        };
        let own_macros: Vec<_> = crate::check::uses::macros(source).collect();
        for used in uses(source).into_iter().filter(|used| !own_macros.contains(used)) {
            // A macro belongs to its room, wherever it is called from.
            let used = macros.get(&used).unwrap_or(&used);
            if used != room && layers.get(used).is_some_and(|layer| layer >= own) {
                let file = source.path.join("/");
                found.push(format!("{file}.rs uses {used}, which isn't below {room}"));
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn read(src: &Path, path: &Path, sources: &mut Vec<Source>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).context("reading", path)? {
            read(src, &entry.context("reading", path)?.path(), sources)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let relative = path.strip_prefix(src).unwrap_or(path).with_extension("");
        let path_of_file = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        sources.push(Source { path: path_of_file, text: fs::read_to_string(path).context("reading", path)? });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::violations;
    use std::fs;

    const LIB: &str = "//! abi   data    layer 0\n//! arch  machine layer 1\n//! mm    memory  layer 2\n";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let src = std::env::temp_dir().join(format!("granite-layers-{}-{number}", std::process::id()));
        for (name, text) in files.iter().chain(&[("lib.rs", LIB)]) {
            let path = src.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = violations(&src);
        fs::remove_dir_all(&src).unwrap();
        found.unwrap()
    }

    #[test]
    fn an_arrow_down_is_no_finding() {
        let down = (
            "mm/mod.rs",
            "use crate::{abi::X, arch}; use super::arch::Y; mod inner { use super::super::abi; }",
        );
        let inside =
            ("mm/frames.rs", "use super::page; use super::super::arch::Z; // crate::mm and super::super::mm");
        assert_eq!(found(&[down, inside]), [""; 0]);
    }

    #[test]
    fn arrows_up_and_sideways_are_found_however_they_are_written() {
        let ups = [
            ("abi/mod.rs", "use crate::mm::X;"),
            ("abi/mod.rs", "use crate::{arch::Y, abi::Z};"),
            ("abi/mod.rs", "fn f() { super::mm::x() }"),
            ("abi/sub.rs", "use super::super::arch;"),
            ("abi/sub.rs", "use super::{super::{mm::X}};"),
            ("abi/deep/sub.rs", "mod inner { use super::super::super::super::mm::X; }"),
            ("abi/mod.rs", "macro_rules! m { () => { $crate::mm::x() } }"),
        ];
        for (name, text) in ups {
            assert_eq!(found(&[(name, text)]).len(), 1, "{name}: {text}");
        }
        let by_macro =
            [("mm/mod.rs", "macro_rules! frame { () => {} }"), ("abi/mod.rs", "fn f() { frame!() }")];
        assert_eq!(found(&by_macro), ["abi/mod.rs uses mm, which isn't below abi"]);
        let own = [
            ("mm/mod.rs", "macro_rules! m { () => {} }"),
            ("abi/mod.rs", "macro_rules! m { () => {} } m!()"),
        ];
        assert!(found(&own).is_empty(), "a file's own macro of the same name");
        assert!(found(&[("mystery/mod.rs", "")])[0].starts_with("mystery has no layer"));
    }
}
