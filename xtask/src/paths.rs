//! Where things are: the checkout, the build, the cache.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The checkout: cargo says where, and without cargo it is where xtask was built.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let xtask = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let xtask = PathBuf::from(xtask);
        xtask.parent().map(Path::to_owned).unwrap_or(xtask)
    })
}

/// The user's cache: `GRANITE_CACHE`, or `granite` in the system's place for caches.
///
/// # Errors
///
/// If no place is known.
pub fn cache() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("GRANITE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("granite")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/granite")))
        .ok_or_else(|| Error::new("no place for a cache: HOME is not set\nset GRANITE_CACHE to a folder"))
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the checkout, or where that is read-only, a folder
/// of the cache.
///
/// # Errors
///
/// If there is no cache either.
pub fn target() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty()) {
        return Ok(root().join(path));
    }
    let target = root().join("target");
    if is_writable(&target) { Ok(target) } else { Ok(cache()?.join("target")) }
}

/// Whether files can be made in a folder, or the folder itself can.
fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(format!(".writable-{}", std::process::id()));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&probe, b""));
    // A probe that could not be written isn't there to remove.
    let _ = fs::remove_file(&probe);
    written.is_ok()
}
