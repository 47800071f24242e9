//! Parses a PVH kernel, an untrusted ELF image.

use core::fmt;
use core::ops::Range;

use alloc::vec::Vec;
use object::LittleEndian;
use object::elf::{EM_X86_64, FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

/// The note with the entry point of a PVH kernel. Source: `xen/include/public/elfnote.h`.
#[doc(alias = "XEN_ELFNOTE_PHYS32_ENTRY")]
const PHYS32_ENTRY: u32 = 18;

/// The reason why an image is not a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KernelError {
    /// It isn't a 64-bit ELF image for x86-64, or it is cut short.
    NotElf,
    /// It has no note with a PVH entry point.
    NoEntry,
    /// No segment contains the entry point, a segment is invalid, or two overlap.
    BadSegment,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf => "the kernel is not a complete ELF image for x86-64",
            Self::NoEntry => "the kernel has no PVH entry point (no note PHYS32_ENTRY)",
            Self::BadSegment => "the kernel has no segment to load, or invalid or overlapping ones",
        })
    }
}

impl core::error::Error for KernelError {}

/// A kernel, and where its segments go.
#[derive(Debug)]
pub struct Kernel<'k> {
    /// The entry point: a guest-physical address.
    pub entry: u32,
    /// The segments to load.
    pub segments: Vec<Segment<'k>>,
}

/// A segment of a kernel.
#[derive(Debug)]
pub struct Segment<'k> {
    /// Its guest-physical addresses. It may be longer than its contents: the rest is zeros.
    pub place: Range<u64>,
    /// Its contents.
    pub bytes: &'k [u8],
}

impl<'k> Kernel<'k> {
    /// Parses an image.
    ///
    /// # Errors
    ///
    /// [`KernelError`] if the image is not a valid kernel.
    pub fn read(image: &'k [u8]) -> Result<Self, KernelError> {
        let header = FileHeader64::<LittleEndian>::parse(image).map_err(|_| KernelError::NotElf)?;
        let endian = header.endian().map_err(|_| KernelError::NotElf)?;
        if header.e_machine(endian) != EM_X86_64 {
            return Err(KernelError::NotElf);
        }
        let headers = header.program_headers(endian, image).map_err(|_| KernelError::NotElf)?;
        let of_type = |kind| headers.iter().filter(move |header| header.p_type(endian) == kind);
        let entry =
            of_type(PT_NOTE).find_map(|header| entry(header, endian, image)).ok_or(KernelError::NoEntry)?;
        let mut segments = Vec::new();
        for header in of_type(PT_LOAD).filter(|header| header.p_memsz(endian) != 0) {
            let bytes = header.data(endian, image).map_err(|()| KernelError::NotElf)?;
            let start = header.p_paddr(endian);
            let end = start.checked_add(header.p_memsz(endian)).ok_or(KernelError::BadSegment)?;
            if (bytes.len() as u64) > end - start {
                return Err(KernelError::BadSegment);
            }
            segments.push(Segment { place: start..end, bytes });
        }
        // No overlaps: otherwise an image could have the same memory written any number of times, which is unbounded
        // work.
        let mut places: Vec<_> = segments.iter().map(|segment| segment.place.clone()).collect();
        places.sort_unstable_by_key(|place| place.start);
        if places.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err(KernelError::BadSegment);
        }
        if !segments.iter().any(|segment| segment.place.contains(&entry.into())) {
            return Err(KernelError::BadSegment);
        }
        Ok(Self { entry, segments })
    }

    /// Returns the end of the highest segment, a guest-physical address.
    pub fn end(&self) -> u64 {
        self.segments.iter().map(|segment| segment.place.end).max().unwrap_or(0)
    }
}

/// Returns the entry point named by these notes.
fn entry(header: &ProgramHeader64<LittleEndian>, endian: LittleEndian, image: &[u8]) -> Option<u32> {
    let mut notes = header.notes(endian, image).ok()??;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == b"Xen" && note.n_type(endian) == PHYS32_ENTRY {
            // The header allows 4 or 8 bytes. The address has 32 bits.
            return note.desc().first_chunk().copied().map(u32::from_le_bytes);
        }
    }
    None
}
