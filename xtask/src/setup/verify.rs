//! Checks files against a list of SHA-256 sums, in the format of the program `sha256sum`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};

/// Returns the files of `list` that are missing from `folder`, can't be read, or differ.
pub fn damaged(folder: &Path, list: &str) -> Vec<String> {
    let files = list.lines().filter_map(|line| line.split_once("  "));
    let is_damaged = |&(sum, name): &(&str, &str)| sum_of(&folder.join(name)).ok().as_deref() != Some(sum);
    files.filter(is_damaged).map(|(_, name)| name.to_owned()).collect()
}

/// Returns the SHA-256 sums of all files below `folder`. From this list, [`sizes`] makes the one for [`sizes_match`].
///
/// # Errors
///
/// If a file can't be read.
pub fn manifest(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    walk(folder, folder, &mut files)?;
    files.sort();
    let mut sums = String::new();
    for name in files {
        let path = folder.join(&name);
        let sum = sum_of(&path).context("reading", &path)?;
        sums.push_str(&format!("{sum}  {name}\n"));
    }
    Ok(sums)
}

/// Returns the sum of a file in hexadecimal digits.
fn sum_of(path: &Path) -> io::Result<String> {
    Ok(Sha256::digest(fs::read(path)?).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns the sizes of the files in a manifest, a line each. They are enough to notice, at every start, if files were
/// truncated or removed.
///
/// # Errors
///
/// If a file isn't there.
pub fn sizes(folder: &Path, manifest: &str) -> Result<String> {
    let mut text = String::new();
    for (_, name) in manifest.lines().filter_map(|line| line.split_once("  ")) {
        let path = folder.join(name);
        let size = fs::metadata(&path).context("reading", &path)?.len();
        text.push_str(&format!("{size} {name}\n"));
    }
    Ok(text)
}

/// Returns whether every file has the size recorded by [`sizes`].
pub fn sizes_match(folder: &Path, sizes: &str) -> bool {
    sizes.lines().all(|line| {
        let Some((size, name)) = line.split_once(' ') else { return false };
        let found = fs::metadata(folder.join(name)).map(|metadata| metadata.len());
        found.is_ok_and(|found| size.parse() == Ok(found))
    })
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).context("reading", folder)? {
        let entry = entry.context("reading", folder)?;
        let path = entry.path();
        let kind = entry.file_type().context("reading", &path)?;
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file()
            && let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && !name.contains(['\n', '\\'])
        {
            files.push(name.to_owned());
        }
    }
    Ok(())
}

/// Removes a file, if it exists.
///
/// # Errors
///
/// If it exists and can't be removed.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("removing", path, &error)),
        _ => Ok(()),
    }
}

/// Returns a file's text, or `None` if there is no such file.
///
/// # Errors
///
/// If it exists and can't be read.
pub fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("reading", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::{damaged, manifest};
    use std::fs;

    #[test]
    fn a_changed_file_and_a_missing_one_are_damaged() {
        let folder = std::env::temp_dir().join(format!("granite-verify-{}", std::process::id()));
        fs::create_dir_all(folder.join("below")).unwrap();
        for (name, text) in [("a", "abc"), ("b", "b"), ("below/c", "c")] {
            fs::write(folder.join(name), text).unwrap();
        }
        let list = manifest(&folder).unwrap();
        // The sum of "abc" in FIPS 180-4's example.
        assert!(
            list.starts_with("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"),
            "{list}"
        );
        assert!(damaged(&folder, &list).is_empty());
        fs::write(folder.join("b"), "B").unwrap();
        fs::remove_file(folder.join("below/c")).unwrap();
        assert_eq!(damaged(&folder, &list), ["b", "below/c"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
