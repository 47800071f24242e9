//! The temporary folder of a running control domain. Its name has the number of the process, so the folders also list
//! the running control domains.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::machine::TAG;
use crate::error::{Context, Result};
use crate::process;

/// The beginning of the folders' names. The number of the process follows.
const PREFIX: &str = "granite-lab-";

/// Returns the folders with the numbers of their processes. A killed process leaves its folder.
fn all() -> impl Iterator<Item = (libc::pid_t, PathBuf)> {
    fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()?;
        Some((number, entry.path()))
    })
}

/// Returns the other processes with a control domain.
pub fn others() -> Vec<libc::pid_t> {
    // A number may be another program's by now.
    let is_other = |&id: &libc::pid_t| u32::try_from(id) != Ok(std::process::id()) && process::is_xtask(id);
    let mut processes: Vec<_> = all().map(|(process, _)| process).filter(is_other).collect();
    processes.sort_unstable();
    processes.dedup();
    processes
}

/// A temporary folder, deleted on drop.
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// Makes a folder, and in it the one shared with the control domain. Deletes the folders of killed processes.
    ///
    /// # Errors
    ///
    /// If the system's temporary folder can't be written.
    pub fn new() -> Result<Self> {
        for (_, stale) in all().filter(|(process, _)| !process::is_alive(*process)) {
            let _ = fs::remove_dir_all(stale);
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // A socket's path has at most 107 bytes, so the folder isn't in the cache.
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir_all(path.join(TAG)).context("making", &path)?;
        Ok(Self(path))
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}
