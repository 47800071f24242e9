//! Finds the kernel's modules, in the order of their dependencies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// The modules of the control domain. The modules they depend on are found by themselves.
const WANTED: &[&str] = &[
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
    "loop",
    "xen-blkback",
    "xen-netback",
    "virtio_pci",
    "9pnet_virtio",
    "9p",
];

/// Returns the modules' files, each after those that it depends on.
///
/// # Errors
///
/// If a module is missing or can't be read.
pub fn modules(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = BTreeMap::new();
    find(&root.join("lib/modules"), &mut files)?;
    let mut ordered = Vec::new();
    for name in WANTED {
        add(&canonical(name), &files, &mut ordered)?;
    }
    Ok(ordered)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, ordered: &mut Vec<PathBuf>) -> Result<()> {
    let Some(file) = files.get(name) else {
        return Err(Error::new(format!("the packages' kernel has no module {name}")));
    };
    if ordered.contains(file) {
        return Ok(());
    }
    for dependency in dependencies(&fs::read(file).context("reading", file)?) {
        add(&canonical(&dependency), files, ordered)?;
    }
    ordered.push(file.clone());
    Ok(())
}

/// Returns the modules that a module's section `.modinfo` names.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let text = module[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(text);
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The kernel takes `-` and `_` in a module's name as equal.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).context("reading", folder)? {
        let path = entry.context("reading", folder)?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ko")) {
            files.insert(canonical(name), path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn dependencies_are_read() {
        assert_eq!(dependencies(b"x\0depends=virtio_ring,virtio\0name=y\0"), ["virtio_ring", "virtio"]);
        assert!(dependencies(b"x\0depends=\0name=y\0").is_empty());
        assert!(dependencies(b"independs=x").is_empty());
    }
}
