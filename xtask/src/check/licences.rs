//! Checks the licences of all packages linked or run at build time.

use std::process::Stdio;

use crate::error::{Error, Result};

/// Licences compatible with the project's own, MIT OR Apache-2.0.
const ACCEPTED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "0BSD",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "BSL-1.0",
    "Unicode-3.0",
];

/// Returns the third-party packages with any other licence, one readable line each.
///
/// # Errors
///
/// If `cargo tree` fails.
pub fn unknown() -> Result<Vec<String>> {
    let format = ["--prefix", "none", "--format", "{p}\t{l}"];
    let mut command = super::host(&["tree", "--workspace", "--edges", "normal,build"])?;
    let output = command.args(format).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Error::new(format!("cannot run cargo tree: {error}")))?;
    if !output.status.success() {
        return Err(Error::new("cargo tree failed"));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(package, licence)| (package, licence.trim_end_matches(" (*)")))
        // A package in a local folder is the user's own.
        .filter(|(package, licence)| !package.contains(" (/") && !is_accepted(licence))
        .map(|(package, licence)| format!("{package}: licence \"{licence}\" is not on the list"))
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// Returns whether an SPDX expression can be met with accepted licences alone. `/` is an old way to write `OR`.
fn is_accepted(licence: &str) -> bool {
    let accepted = |required: &spdx::LicenseReq| {
        // An exception is a text of its own, and none is on the list.
        required.addition.is_none() && required.license.id().is_some_and(|id| ACCEPTED.contains(&id.name))
    };
    let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX);
    expression.is_ok_and(|expression| expression.evaluate(accepted))
}

#[cfg(test)]
mod tests {
    use super::is_accepted;

    #[test]
    fn one_accepted_alternative_is_enough() {
        for good in
            ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND ISC", "Unlicense OR MIT"]
        {
            assert!(is_accepted(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MITTENS",
            "GPL-3.0 AND (MIT OR ISC)",
            "(MIT OR GPL-3.0) AND GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "MIT OR (",
        ] {
            assert!(!is_accepted(bad), "{bad}");
        }
    }
}
