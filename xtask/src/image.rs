//! Checks a finished guest. A build without its compiler flags still links, so the file itself is checked.

use std::fmt;
use std::path::PathBuf;

use object::LittleEndian;
use object::elf::{
    EM_X86_64, ET_EXEC, FileHeader64, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, SHF_ALLOC,
    SHT_REL, SHT_RELA, SHT_SYMTAB,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};

use crate::{functions, redzone, x87};

type Elf = FileHeader64<LittleEndian>;
const LE: LittleEndian = LittleEndian;

/// A guest, built and checked.
#[derive(Clone, Debug)]
pub struct Image {
    /// The image with symbols, for crash reports and debuggers.
    pub path: PathBuf,
    /// The image to boot.
    pub stripped: PathBuf,
}

/// The reason why an image can't be booted.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It can't be read as a 64-bit ELF file.
    NotElf,
    /// It is not a static x86-64 executable.
    NotStatic(&'static str),
    /// It has relocations, in this section.
    Relocations(String),
    /// This section is loaded, but linker.ld has no place for it: it would lie outside the image known to the kernel.
    Orphan(String),
    /// It calls functions missing from it: the C library's.
    Undefined(Vec<String>),
    /// It has no PVH entry point for a loader.
    NoNote(&'static str),
    /// The entry point isn't in executable memory.
    BadEntry(u32),
    /// A segment is writable and executable, is loaded away from its linked address, or shares a page with another.
    BadSegment(u64, &'static str),
    /// Most of its code has no symbols, so the code can't be checked.
    NoSymbols,
    /// Instructions access memory below the stack pointer.
    RedZone(Vec<redzone::Access>),
    /// Instructions use registers not saved by a trap.
    X87(Vec<x87::Use>),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FLAGS: &str = "the guest's compiler flags did not reach the build (xtask/src/guest.rs)";
        match self {
            Self::NotElf => f.write_str("it isn't a 64-bit little-endian ELF file"),
            Self::NotStatic(what) => write!(f, "it is {what}, not a static x86-64 executable\n{FLAGS}"),
            Self::Relocations(section) => write!(f, "it has relocations in {section}\n{FLAGS}"),
            Self::Orphan(section) => {
                write!(
                    f,
                    "linker.ld has no place for its section {section}\nuse an ordinary section, or add it to linker.ld"
                )
            }
            Self::Undefined(symbols) => write!(
                f,
                "it calls {}, which nothing in it has\na dependency wants the C library: find it with `cargo tree --edges \
                 features`, and give it `default-features = false`",
                symbols.join(", ")
            ),
            Self::NoNote(what) => write!(
                f,
                "{what}\nwithout a PHYS32_ENTRY note Xen has no entry point: does it use granite::entry!, and was \
                 it linked with linker.ld?"
            ),
            Self::BadEntry(entry) => write!(f, "its entry point {entry:#x} isn't in executable memory"),
            Self::BadSegment(address, what) => write!(f, "the segment at {address:#x} {what}; see linker.ld"),
            Self::NoSymbols => write!(f, "its code has no symbols, so it can't be checked\n{FLAGS}"),
            Self::RedZone(accesses) => {
                list(f, "reach below the stack pointer", accesses)?;
                write!(f, "\n{FLAGS}, or a precompiled function uses the red zone")
            }
            Self::X87(uses) => {
                list(f, "use x87 or MMX, whose registers interrupts don't save", uses)?;
                f.write_str("\nRust code has none: is it assembly, or C with long double?")
            }
        }
    }
}

/// Writes the number of these instructions, and the first few.
fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, what: &str, instructions: &[T]) -> fmt::Result {
    write!(f, "{} instructions {what}:", instructions.len())?;
    instructions.iter().take(5).try_for_each(|instruction| write!(f, "\n  {instruction}"))
}

/// Checks a finished image.
///
/// # Errors
///
/// [`Unfit`], with the first defect found.
pub fn check(bytes: &[u8]) -> Result<(), Unfit> {
    let elf = Elf::parse(bytes).map_err(|_| Unfit::NotElf)?;
    if elf.e_machine.get(LE) != EM_X86_64 || elf.e_type.get(LE) != ET_EXEC {
        return Err(Unfit::NotStatic("of another type or machine"));
    }
    let segments = elf.program_headers(LE, bytes).map_err(|_| Unfit::NotElf)?;
    if segments.iter().any(|segment| matches!(segment.p_type(LE), PT_INTERP | PT_DYNAMIC)) {
        return Err(Unfit::NotStatic("dynamically linked"));
    }
    let sections = elf.sections(LE, bytes).map_err(|_| Unfit::NotElf)?;
    let undefined = undefined(&sections, bytes);
    if !undefined.is_empty() {
        return Err(Unfit::Undefined(undefined));
    }
    for section in sections.iter() {
        let name = || {
            let name = sections.section_name(LE, section).unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        };
        if matches!(section.sh_type(LE), SHT_REL | SHT_RELA) && section.sh_size(LE) != 0 {
            return Err(Unfit::Relocations(name()));
        }
        const PLACES: [&str; 6] = [".text", ".hypercall_page", ".note.Xen", ".rodata", ".data", ".bss"];
        if section.sh_flags(LE) & u64::from(SHF_ALLOC) != 0 && !PLACES.contains(&name().as_str()) {
            return Err(Unfit::Orphan(name()));
        }
    }

    check_segments(segments)?;
    let entry = entry_point(elf, bytes)?;
    let executable = |segment: &&object::elf::ProgramHeader64<LittleEndian>| {
        let start = segment.p_paddr(LE);
        segment.p_type(LE) == PT_LOAD
            && segment.p_flags(LE) & PF_X != 0
            && (start..start + segment.p_filesz(LE)).contains(&entry.into())
    };
    if !segments.iter().any(|segment| executable(&segment)) {
        return Err(Unfit::BadEntry(entry));
    }
    let functions = functions::of(bytes).ok_or(Unfit::NoSymbols)?;
    let accesses = redzone::find(&functions);
    if !accesses.is_empty() {
        return Err(Unfit::RedZone(accesses));
    }
    let uses = x87::find(&functions);
    if uses.is_empty() { Ok(()) } else { Err(Unfit::X87(uses)) }
}

/// Returns the names of the first few undefined symbols.
fn undefined(sections: &SectionTable<'_, Elf>, bytes: &[u8]) -> Vec<String> {
    let Ok(symbols) = sections.symbols(LE, bytes, SHT_SYMTAB) else { return Vec::new() };
    let missing = symbols.iter().filter(|symbol| symbol.is_undefined(LE));
    let names = missing.filter_map(|symbol| symbols.symbol_name(LE, symbol).ok());
    let names = names.filter(|name| !name.is_empty()).map(|name| String::from_utf8_lossy(name).into_owned());
    names.take(5).collect()
}

/// Checks that no segment is both writable and executable, and that no page belongs to two segments.
fn check_segments(segments: &[object::elf::ProgramHeader64<LittleEndian>]) -> Result<(), Unfit> {
    const PAGE: u64 = 4096;
    let mut end = 0;
    for segment in segments.iter().filter(|segment| segment.p_type(LE) == PT_LOAD) {
        let start = segment.p_vaddr(LE);
        let unfit = |what| Err(Unfit::BadSegment(start, what));
        if segment.p_flags(LE) & (PF_W | PF_X) == PF_W | PF_X {
            return unfit("is writable and executable");
        }
        if segment.p_paddr(LE) != start {
            return unfit("isn't linked where it is loaded");
        }
        if !start.is_multiple_of(PAGE) || start < end {
            return unfit("shares a page with another");
        }
        end = (start + segment.p_memsz(LE)).next_multiple_of(PAGE);
    }
    Ok(())
}

/// Returns the address in the PHYS32_ENTRY note.
fn entry_point(elf: &Elf, bytes: &[u8]) -> Result<u32, Unfit> {
    const PHYS32_ENTRY: u32 = 18;
    let segments = elf.program_headers(LE, bytes).map_err(|_| Unfit::NotElf)?;
    for segment in segments.iter().filter(|segment| segment.p_type(LE) == PT_NOTE) {
        let Ok(Some(mut notes)) = segment.notes(LE, bytes) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() != b"Xen" || note.n_type(LE) != PHYS32_ENTRY {
                continue;
            }
            if segment.p_align(LE) != 4 {
                return Err(Unfit::NoNote("its note's segment isn't aligned to 4, by which QEMU reads it"));
            }
            return note
                .desc()
                .first_chunk()
                .map(|bytes| u32::from_le_bytes(*bytes))
                .ok_or(Unfit::NoNote("its PHYS32_ENTRY note is cut short"));
        }
    }
    Err(Unfit::NoNote("it has no PHYS32_ENTRY note"))
}

/// Returns the image without symbols and debugging information: only its loaded part. The rest follows the segments in
/// the file, so the file is cut off there.
pub fn strip(bytes: &[u8]) -> Vec<u8> {
    let Some(end) = loaded_end(bytes) else { return bytes.to_vec() };
    let mut stripped = bytes[..end].to_vec();
    stripped[40..48].fill(0); // e_shoff
    stripped[58..64].fill(0); // e_shentsize, e_shnum, e_shstrndx
    // A segment without bytes in the file may have an offset after its end. Loaders take such a file for truncated.
    for header in empty_segments(bytes) {
        if let Some(offset) = stripped.get_mut(header + 8..header + 16) {
            offset.fill(0); // p_offset
        }
    }
    stripped
}

/// Returns the file offsets of the headers of loaded segments without bytes in the file.
fn empty_segments(bytes: &[u8]) -> Vec<usize> {
    let headers = || {
        let elf = Elf::parse(bytes).ok()?;
        let (first, size) = (elf.e_phoff.get(LE) as usize, usize::from(elf.e_phentsize.get(LE)));
        let segments = elf.program_headers(LE, bytes).ok()?.iter().enumerate();
        let empty =
            segments.filter(|(_, segment)| segment.p_type(LE) == PT_LOAD && segment.p_filesz(LE) == 0);
        Some(empty.map(|(index, _)| first + index * size).collect())
    };
    headers().unwrap_or_default()
}

fn loaded_end(bytes: &[u8]) -> Option<usize> {
    let elf = Elf::parse(bytes).ok()?;
    let segments = elf.program_headers(LE, bytes).ok()?;
    let filled = segments.iter().filter(|segment| segment.p_filesz(LE) != 0);
    let ends = filled.map(|segment| segment.p_offset(LE).saturating_add(segment.p_filesz(LE)));
    let end = usize::try_from(ends.max()?).ok()?;
    (64..=bytes.len()).contains(&end).then_some(end)
}
