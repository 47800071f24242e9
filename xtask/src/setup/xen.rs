//! Xen's own file: finds it, unpacks it, and checks it before QEMU loads it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::error::{Context, Error, Result};
use crate::paths;

/// A Xen for QEMU to load.
#[derive(Clone, Debug)]
pub struct Xen {
    /// The hypervisor, an ELF file.
    pub path: PathBuf,
}

impl Xen {
    /// Returns the Xen named by the user: an ELF file, or a gzip of one, as distributions install it.
    ///
    /// # Errors
    ///
    /// If it can't be read or isn't Xen.
    pub fn named(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).context("reading", file)?;
        let unfit = |why: &str| {
            let advice = "name Xen itself, such as xen-4.17-amd64.gz, with --xen FILE or GRANITE_XEN";
            Error::new(format!("{}: {why}\n{advice}", file.display()))
        };
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            check(&bytes).map_err(unfit)?;
            return Ok(Self { path: file.to_owned() });
        }
        let mut unpacked = Vec::new();
        GzDecoder::new(&bytes[..])
            .read_to_end(&mut unpacked)
            .map_err(|_| unfit("its compressed data is damaged"))?;
        check(&unpacked).map_err(unfit)?;
        Ok(Self { path: keep(&unpacked)? })
    }

    /// Returns the Xen this system would boot: the newest usable `/boot/xen-*.gz`.
    pub fn installed() -> Option<Self> {
        let mut files: Vec<_> = fs::read_dir("/boot").ok()?.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("xen-") && name.ends_with(".gz")
        });
        files.sort_by_key(|file| numbers(&file.to_string_lossy()));
        files.iter().rev().find_map(|file| Self::named(file).ok())
    }

    /// Returns the Xen in an unpacked file system.
    ///
    /// # Errors
    ///
    /// If there is none, or it is damaged.
    pub fn unpacked(root: &Path) -> Result<Self> {
        let boot = root.join("boot");
        let files = fs::read_dir(&boot).context("reading", &boot)?.flatten().map(|entry| entry.path());
        let file = files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "gz"));
        Self::named(&file.ok_or_else(|| Error::new(format!("no Xen in {}", boot.display())))?)
    }
}

/// Returns the numbers in a name, so that 4.9 sorts before 4.17.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Checks that the bytes are a Xen accepted by QEMU's multiboot loader.
fn check(bytes: &[u8]) -> std::result::Result<(), &'static str> {
    const MULTIBOOT: [u8; 4] = 0x1bad_b002_u32.to_le_bytes();
    if !bytes.starts_with(b"\x7fELF") {
        return Err("it is no ELF file");
    }
    // The multiboot specification requires the header, 4-byte aligned, in the first 8 KiB.
    if !bytes[..bytes.len().min(8192)].as_chunks::<4>().0.contains(&MULTIBOOT) {
        return Err("it has no multiboot header");
    }
    let needle = b"Xen version";
    if bytes.windows(needle.len()).any(|window| window == needle) { Ok(()) } else { Err("it isn't Xen") }
}

/// Puts the unpacked file into the cache, under a name derived from its contents.
fn keep(unpacked: &[u8]) -> Result<PathBuf> {
    let folder = paths::cache()?.join("xen");
    fs::create_dir_all(&folder).context("making", &folder)?;
    // FNV-1a: the same name means the same contents, unless users tamper with their own cache.
    let hash = unpacked.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let path = folder.join(format!("xen-{hash:016x}"));
    if fs::read(&path).is_ok_and(|kept| kept == unpacked) {
        return Ok(path);
    }
    let half = folder.join(format!("half-{}", std::process::id()));
    fs::write(&half, unpacked).context("writing", &half)?;
    fs::rename(&half, &path).context("writing", &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::{check, numbers};

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("/boot/xen-4.9-amd64.gz") < numbers("/boot/xen-4.17-amd64.gz"));
    }

    #[test]
    fn xen_is_told_from_what_is_not() {
        let mut file = b"\x7fELF".to_vec();
        file.resize(64, 0);
        assert_eq!(check(b"#!/bin/sh"), Err("it is no ELF file"));
        assert_eq!(check(&file), Err("it has no multiboot header"));
        file.extend(0x1bad_b002_u32.to_le_bytes());
        assert_eq!(check(&file), Err("it isn't Xen"));
        file.extend(b"..Xen version %d");
        assert_eq!(check(&file), Ok(()));
        file.insert(4, 0);
        assert_eq!(check(&file), Err("it has no multiboot header"), "an unaligned one doesn't count");
    }
}
