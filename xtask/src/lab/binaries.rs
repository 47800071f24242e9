//! Finds programs in an unpacked file system, with the libraries that they need.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use object::LittleEndian;
use object::elf::{DT_NEEDED, DT_NULL, DT_STRTAB, FileHeader64, PT_LOAD};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use crate::error::{Context, Error, Result};

const LE: LittleEndian = LittleEndian;

/// The folders with libraries.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// Returns all libraries needed by these programs, by their names, with their files.
///
/// # Errors
///
/// If a program or library is missing or can't be read.
pub fn libraries(root: &Path, programs: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut pending = programs.to_vec();
    while let Some(file) = pending.pop() {
        for name in needed(&file)? {
            if found.contains_key(&name) {
                continue;
            }
            let place =
                LIBRARIES.iter().map(|folder| root.join(folder).join(&name)).find(|path| path.exists());
            let place = place.ok_or_else(|| {
                Error::new(format!("{} needs {name}, which none of the packages has", file.display()))
            })?;
            pending.push(place.clone());
            found.insert(name, place);
        }
    }
    Ok(found)
}

/// Returns the names of the libraries that a program or library needs itself.
fn needed(file: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(file).context("reading", file)?;
    read_needed(&bytes).ok_or_else(|| Error::new(format!("{} isn't a 64-bit ELF program", file.display())))
}

fn read_needed(bytes: &[u8]) -> Option<Vec<String>> {
    let header = FileHeader64::<LittleEndian>::parse(bytes).ok()?;
    let segments = header.program_headers(LE, bytes).ok()?;
    let entries = segments.iter().find_map(|segment| segment.dynamic(LE, bytes).ok()?).unwrap_or_default();
    let entries = || entries.iter().take_while(|entry| entry.tag32(LE) != Some(DT_NULL));
    let strings =
        entries().find(|entry| entry.tag32(LE) == Some(DT_STRTAB)).map_or(0, |entry| entry.d_val(LE));
    // The table is given by its address.
    let segment = segments.iter().find(|segment| {
        let (start, size) = (segment.p_vaddr(LE), segment.p_filesz(LE));
        segment.p_type(LE) == PT_LOAD && (start..start + size).contains(&strings)
    });
    let offset = segment.map_or(0, |segment| strings - segment.p_vaddr(LE) + segment.p_offset(LE));
    let name = |entry: &object::elf::Dyn64<LittleEndian>| {
        let start = usize::try_from(offset + entry.d_val(LE)).ok()?;
        let text = bytes.get(start..)?.split(|&byte| byte == 0).next()?;
        String::from_utf8(text.to_vec()).ok()
    };
    entries().filter(|entry| entry.tag32(LE) == Some(DT_NEEDED)).map(name).collect()
}
