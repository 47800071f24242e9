//! The floors of src/: a module uses those below its own, and nothing else.

use std::fs;
use std::path::Path;

use crate::error::{Context, Result};

/// Each module's floor. Modules of one floor don't know each other, but for those at the top.
const FLOORS: &[(&str, u32)] = &[
    ("abi", 0),
    ("sync", 0),
    ("hypercall", 1),
    ("arch", 1),
    ("mm", 2),
    ("time", 3),
    ("event", 4),
    ("grant", 5),
    ("vcpu", 5),
    ("embassy", 6),
    ("ring", 6),
    ("driver", 7),
    ("toolstack", 7),
    ("twin", TOP),
    ("rt", TOP),
    ("start", TOP),
];

/// Bring-up and the application's surface, which hold everything together.
const TOP: u32 = 9;

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Every use of a module that isn't below, as a line for a person.
///
/// # Errors
///
/// If the sources can't be read.
pub fn violations(src: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(src).context("reading", src)? {
        let path = entry.context("reading", src)?.path();
        let module = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // The library, and the application above it.
        if matches!(module.as_str(), "lib" | "main" | "demo") {
            continue;
        }
        let Some(own) = floor(&module) else {
            found.push(format!("src/{module} has no floor: give it one in xtask/src/check/layers.rs"));
            continue;
        };
        walk(&path, &mut |file, text| {
            for used in uses(text) {
                let allowed = used == module
                    || floor(&used).is_none_or(|floor| floor < own)
                    || (own == TOP && floor(&used) == Some(TOP));
                if !allowed {
                    let file = file.strip_prefix(src).unwrap_or(file).display();
                    found.push(format!("src/{file} uses crate::{used}, which isn't below {module}"));
                }
            }
        })?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(path: &Path, see: &mut impl FnMut(&Path, &str)) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).context("reading", path)? {
            walk(&entry.context("reading", path)?.path(), see)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        see(path, &fs::read_to_string(path).context("reading", path)?);
    }
    Ok(())
}

/// The modules named after `crate::` in code; comments, where documentation links to anything, don't count.
fn uses(text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => found.extend(top_level_names(group)),
            None => found.push(first_name(rest)),
        }
    }
    found
}

fn first_name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each part of `a::b, c::{d, e}, f}`.
fn top_level_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            other if depth == 0 => parts.last_mut().into_iter().for_each(|part| part.push(other)),
            _ => {}
        }
    }
    parts.iter().map(|part| first_name(part)).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{uses, violations};
    use std::fs;

    #[test]
    fn names_are_found_in_every_form_of_use() {
        let text = "use crate::abi::X; // crate::rt\nuse crate::{mm::{a, b}, arch};\nlet _ = crate::sync::Y;";
        assert_eq!(uses(text), ["abi", "mm", "arch", "sync"]);
    }

    #[test]
    fn looking_up_or_sideways_is_found() {
        let src = std::env::temp_dir().join(format!("granite-layers-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let path = src.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("abi/mod.rs", "use crate::mm::X;");
        write("arch/mod.rs", "use crate::{abi::Y, hypercall::Z};");
        write("start/mod.rs", "use crate::rt::A; use crate::abi::B;");
        write("mystery/mod.rs", "");
        let found = violations(&src).unwrap();
        fs::remove_dir_all(&src).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("src/abi/mod.rs uses crate::mm"));
        assert!(found[1].starts_with("src/arch/mod.rs uses crate::hypercall"));
        assert!(found[2].starts_with("src/mystery has no floor"));
    }
}
