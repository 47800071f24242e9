//! Paths of the checkout, the build and the cache.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Returns the checkout's folder, from cargo. Without cargo, it is the checkout xtask was built from.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let xtask = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let xtask = PathBuf::from(xtask);
        xtask.parent().map(Path::to_owned).unwrap_or(xtask)
    })
}

/// Returns Granite's own checkout, the source of this crate. In an application's checkout it differs from [`root`].
pub fn granite() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let granite = xtask.parent().unwrap_or(xtask);
    granite.canonicalize().unwrap_or_else(|_| granite.to_owned())
}

/// Returns whether the checkout is Granite's own.
pub fn is_granite() -> bool {
    root().canonicalize().is_ok_and(|root| root == granite())
}

/// Returns a path from the environment, made absolute: QEMU's working folder differs from xtask's.
pub fn from_environment(name: &str) -> Option<PathBuf> {
    let path = env::var_os(name).filter(|value| !value.is_empty())?;
    std::path::absolute(path).ok()
}

/// Returns the user's cache: `GRANITE_CACHE`, or `granite` in the system's cache folder.
///
/// # Errors
///
/// If neither `GRANITE_CACHE` nor `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    from_environment("GRANITE_CACHE")
        .or_else(|| Some(from_environment("XDG_CACHE_HOME")?.join("granite")))
        .or_else(|| Some(from_environment("HOME")?.join(".cache/granite")))
        .ok_or_else(|| Error::new("no place for a cache: HOME is not set\nset GRANITE_CACHE to a folder"))
}

/// Returns cargo's build folder: `CARGO_TARGET_DIR`, or `target` in the checkout.
pub fn target() -> PathBuf {
    from_environment("CARGO_TARGET_DIR").unwrap_or_else(|| root().join("target"))
}
