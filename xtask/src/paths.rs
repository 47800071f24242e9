//! Where things are: the checkout, the build, the cache.

use std::env;
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

/// Granite's own checkout: where this crate was built from. In an application's checkout it is another than [`root`].
pub fn granite() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let granite = xtask.parent().unwrap_or(xtask);
    granite.canonicalize().unwrap_or_else(|_| granite.to_owned())
}

/// Whether the checkout is Granite's own.
pub fn is_granite() -> bool {
    root().canonicalize().is_ok_and(|root| root == granite())
}

/// A path that the environment names, made absolute: QEMU runs in another folder than xtask.
pub fn from_environment(name: &str) -> Option<PathBuf> {
    let path = env::var_os(name).filter(|value| !value.is_empty())?;
    std::path::absolute(path).ok()
}

/// The user's cache: `GRANITE_CACHE`, or `granite` in the system's place for caches.
///
/// # Errors
///
/// If no place is known.
pub fn cache() -> Result<PathBuf> {
    from_environment("GRANITE_CACHE")
        .or_else(|| Some(from_environment("XDG_CACHE_HOME")?.join("granite")))
        .or_else(|| Some(from_environment("HOME")?.join(".cache/granite")))
        .ok_or_else(|| Error::new("no place for a cache: HOME is not set\nset GRANITE_CACHE to a folder"))
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the checkout.
pub fn target() -> PathBuf {
    from_environment("CARGO_TARGET_DIR").unwrap_or_else(|| root().join("target"))
}
