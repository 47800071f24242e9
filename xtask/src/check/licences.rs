//! The licences of everything that is linked or run at build time.

use std::process::Stdio;

use crate::error::{Error, Result};

/// Licences that the project's own, MIT OR Apache-2.0, goes with.
const ACCEPTED: &[&str] =
    &["MIT", "Apache-2.0", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unlicense", "BSL-1.0"];

/// Packages of others whose licence isn't among those, as lines for a person.
///
/// # Errors
///
/// If cargo can't tell.
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
        // What lies in a folder here is the user's own.
        .filter(|(package, licence)| !package.contains(" (/") && !is_accepted(licence))
        .map(|(package, licence)| format!("{package}: licence \"{licence}\" is not on the list"))
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether one alternative is accepted as a whole. `/` is an old way to write `OR`.
fn is_accepted(licence: &str) -> bool {
    let alternatives = licence.replace('/', " OR ");
    alternatives.split(" OR ").any(|alternative| {
        let parts = alternative.trim_matches(['(', ')', ' ']).split(" AND ");
        parts.into_iter().all(|part| ACCEPTED.contains(&part.trim_matches(['(', ')', ' '])))
    })
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
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "MITTENS"] {
            assert!(!is_accepted(bad), "{bad}");
        }
    }
}
