//! Resolves the addresses in a crash report to functions and lines.

use std::path::Path;

use addr2line::{Loader, demangle_auto};

use crate::paths;

/// The debugging information and the symbols of an image.
pub struct Symbols(Loader);

impl Symbols {
    /// Reads the symbols of an image. Returns `None` if there are none: a report without names is still a report.
    pub fn load(image: &Path) -> Option<Self> {
        Loader::new(image).ok().map(Self)
    }

    /// Returns a line of a crash report, with the code at its address. Other lines are unchanged.
    pub fn explain(&self, line: &str) -> String {
        let Some((address, back)) = crash_address(line) else { return line.to_owned() };
        let mut text = line.to_owned();
        for (i, place) in self.places(address - back).into_iter().enumerate() {
            text.push_str(if i == 0 { "  " } else { "\n                             in " });
            text.push_str(&place);
        }
        text
    }

    /// Returns the function at an address, and the functions it was inlined into.
    fn places(&self, address: u64) -> Vec<String> {
        let mut places = Vec::new();
        let Ok(mut frames) = self.0.find_frames(address) else { return places };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|name| Some(name.demangle().ok()?.into_owned()));
            let location = frame.location.as_ref();
            let file = location.and_then(|location| location.file).map(relative);
            let line = location.and_then(|location| location.line);
            places.push(match (name, file, line) {
                (Some(name), Some(file), Some(line)) => format!("{name} ({file}:{line})"),
                (Some(name), ..) => name,
                (None, Some(file), Some(line)) => format!("{file}:{line}"),
                (None, ..) => continue,
            });
        }
        if places.is_empty() {
            // Assembly has symbols only.
            let symbol = self.0.find_symbol(address);
            places.extend(symbol.map(|name| demangle_auto(name.into(), None).into_owned()));
        }
        places
    }
}

/// Returns the address on a crash report's line, and how far back to look: a return address points after the call.
pub fn crash_address(line: &str) -> Option<(u64, u64)> {
    // Xen's dump of a domain it ended: `(XEN) [ 1.08] RIP:    0008:[<00000000002012e8>]`.
    if line.starts_with("(XEN)")
        && let Some((_, rest)) = line.split_once("RIP:")
    {
        let digits = rest.split_once("[<")?.1.split_once(">]")?.0;
        return Some((u64::from_str_radix(digits, 16).ok()?, 0));
    }
    let (word, back) =
        [("  at 0x", 0), ("  from 0x", 1)].into_iter().find(|(word, _)| line.starts_with(word))?;
    let digits = line[word.len()..].split_whitespace().next()?;
    let address = u64::from_str_radix(digits, 16).ok()?;
    (address >= back).then_some((address, back))
}

/// Returns a readable path of a source file: from the checkout, or from the folder of its crate.
fn relative(file: &str) -> String {
    let root = paths::root().to_string_lossy();
    let file = file.strip_prefix(root.as_ref()).map_or(file, |rest| rest.trim_start_matches('/'));
    match file.rsplit_once("/src/") {
        Some((head, tail)) if file.starts_with('/') => {
            let package = head.rsplit('/').next().unwrap_or(head);
            format!("{package}/src/{tail}")
        }
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{crash_address, relative};
    use crate::paths;

    #[test]
    fn only_report_lines_have_an_address() {
        assert_eq!(crash_address("  at 0x0000000000201000"), Some((0x20_1000, 0)));
        assert_eq!(crash_address("  from 0x0000000000201000"), Some((0x20_1000, 1)));
        assert_eq!(crash_address("(XEN) [ 1.0] RIP:    0008:[<00000000002012e8>]"), Some((0x20_12e8, 0)));
        for line in [
            "(XEN) RIP: 8",
            "(XEN) RIP: 8:[<x>]",
            "RIP: 8:[<1>]",
            "",
            "at 0x10",
            "  at 0xnonsense",
            "  from 0x0",
            "  at 0x",
        ] {
            assert_eq!(crash_address(line), None, "{line}");
        }
    }

    #[test]
    fn files_are_named_from_the_checkout_or_their_crate() {
        let ours = format!("{}/src/rt/exit.rs", paths::root().display());
        assert_eq!(relative(&ours), "src/rt/exit.rs");
        assert_eq!(relative("/any/where/spin-0.12/src/once.rs"), "spin-0.12/src/once.rs");
        assert_eq!(relative("src/main.rs"), "src/main.rs");
    }
}
