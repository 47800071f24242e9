//! Checks files against a list of SHA-256 sums, in the format of the `sha256sum` program, by running it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::process;

/// Returns the files of `list` that are missing from `folder`, or differ.
///
/// # Errors
///
/// If `sha256sum` can't be run.
pub fn damaged(folder: &Path, list: &str) -> Result<Vec<String>> {
    let failed = |error: std::io::Error| Error::new(format!("cannot run sha256sum: {error}"));
    let mut command = Command::new("sha256sum");
    process::die_together(&mut command);
    let mut child = command
        .args(["--check", "-"])
        .current_dir(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut input = child.stdin.take();
    let text = list.to_owned();
    // A separate thread writes the list, because it may be longer than a pipe holds.
    let writer = std::thread::spawn(move || input.as_mut().map(|input| input.write_all(text.as_bytes())));
    let output = child.wait_with_output().map_err(failed)?;
    // If the child ended early, its output lacks the files it didn't reach.
    let _ = writer.join();
    let report = String::from_utf8_lossy(&output.stdout);
    let good: std::collections::HashSet<_> =
        report.lines().filter_map(|line| line.strip_suffix(": OK")).collect();
    let names = list.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name);
    Ok(names.filter(|name| !good.contains(name)).map(str::to_owned).collect())
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
    for chunk in files.chunks(200) {
        let mut command = Command::new("sha256sum");
        process::die_together(&mut command);
        let output = command.args(["--"]).args(chunk).current_dir(folder).output();
        let output = output.map_err(|error| Error::new(format!("cannot run sha256sum: {error}")))?;
        if !output.status.success() {
            return Err(Error::new(format!("sha256sum: {}", String::from_utf8_lossy(&output.stderr))));
        }
        sums.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    Ok(sums)
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
