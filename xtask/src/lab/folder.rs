//! What a running control domain has in the file system: a folder, and a note for `cargo xtask lab stop`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::machine::TAG;
use super::shell;
use crate::error::{Context, Result};
use crate::process;

/// A note with this process's number, deleted on drop.
pub struct Note(PathBuf);

impl Drop for Note {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Note {
    /// Writes the note.
    ///
    /// # Errors
    ///
    /// If the cache can't be written.
    pub fn new() -> Result<Self> {
        let this = Self(shell::running()?.join(std::process::id().to_string()));
        fs::write(&this.0, "").context("writing", &this.0)?;
        Ok(this)
    }
}

/// The beginning of the folders' names. The number of their process follows.
const PREFIX: &str = "granite-lab-";

/// Deletes the folders of killed processes.
fn remove_stale() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        if process.is_some_and(|id| !process::is_alive(id)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A temporary folder, deleted on drop.
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// Makes a folder, and in it the one shared with the control domain.
    ///
    /// # Errors
    ///
    /// If the system's temporary folder can't be written.
    pub fn new() -> Result<Self> {
        remove_stale();
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
