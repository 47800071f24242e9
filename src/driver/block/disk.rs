//! Disks for a back end to serve.

use core::fmt;

use alloc::vec::Vec;

use super::SECTOR;

/// A disk failed to read or write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskError;

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the disk failed")
    }
}

impl core::error::Error for DiskError {}

/// A disk of whole sectors. The back end has validated every range passed to it.
pub trait Disk {
    /// Returns the number of sectors.
    fn sectors(&self) -> u64;

    /// Returns whether the disk is read-only.
    fn is_read_only(&self) -> bool;

    /// Reads whole sectors.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if the disk fails.
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DiskError>;

    /// Writes whole sectors.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if the disk fails.
    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DiskError>;

    /// Flushes completed writes to stable storage.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if the disk fails.
    fn flush(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    /// Discards sectors: they read as zeros afterwards.
    ///
    /// # Errors
    ///
    /// [`DiskError`] if the disk fails.
    fn discard(&mut self, sector: u64, sectors: u64) -> Result<(), DiskError>;
}

/// Returns the byte range of some sectors in a disk of `len` bytes.
fn range(sector: u64, bytes: usize, len: usize) -> Result<core::ops::Range<usize>, DiskError> {
    let start =
        usize::try_from(sector).ok().and_then(|sector| sector.checked_mul(SECTOR)).ok_or(DiskError)?;
    let end = start.checked_add(bytes).filter(|&end| end <= len).ok_or(DiskError)?;
    Ok(start..end)
}

/// A disk in memory.
///
/// ```no_run
/// use granite::driver::block::{Disk, RamDisk};
///
/// let mut disk = RamDisk::new(8).expect("no memory for a disk");
/// disk.write(3, &[7; 512])?;
/// # Ok::<_, granite::driver::block::DiskError>(())
/// ```
pub struct RamDisk(Vec<u8>);

impl RamDisk {
    /// Makes a disk of zeros. Returns `None` if there isn't enough memory.
    pub fn new(sectors: usize) -> Option<Self> {
        let bytes = sectors.checked_mul(SECTOR)?;
        let mut contents = Vec::new();
        contents.try_reserve_exact(bytes).ok()?;
        contents.resize(bytes, 0);
        Some(Self(contents))
    }

    /// Returns the bytes of the disk.
    pub fn contents(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RamDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RamDisk({} sectors)", self.sectors())
    }
}

impl Disk for RamDisk {
    fn sectors(&self) -> u64 {
        (self.0.len() / SECTOR) as u64
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DiskError> {
        into.copy_from_slice(&self.0[range(sector, into.len(), self.0.len())?]);
        Ok(())
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DiskError> {
        let range = range(sector, from.len(), self.0.len())?;
        self.0[range].copy_from_slice(from);
        Ok(())
    }

    fn discard(&mut self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        let bytes = usize::try_from(sectors).ok().and_then(|n| n.checked_mul(SECTOR)).ok_or(DiskError)?;
        let range = range(sector, bytes, self.0.len())?;
        self.0[range].fill(0);
        Ok(())
    }
}

/// A file as a read-only disk: a module loaded with the kernel. A partial last sector is left out.
#[derive(Clone, Copy)]
pub struct ImageDisk<'a>(pub &'a [u8]);

impl fmt::Debug for ImageDisk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageDisk({} sectors)", self.sectors())
    }
}

impl Disk for ImageDisk<'_> {
    fn sectors(&self) -> u64 {
        (self.0.len() / SECTOR) as u64
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DiskError> {
        into.copy_from_slice(&self.0[range(sector, into.len(), self.0.len())?]);
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), DiskError> {
        Err(DiskError)
    }

    fn discard(&mut self, _: u64, _: u64) -> Result<(), DiskError> {
        Err(DiskError)
    }
}

impl<D: Disk + ?Sized> Disk for &mut D {
    fn sectors(&self) -> u64 {
        (**self).sectors()
    }

    fn is_read_only(&self) -> bool {
        (**self).is_read_only()
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DiskError> {
        (**self).read(sector, into)
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DiskError> {
        (**self).write(sector, from)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        (**self).flush()
    }

    fn discard(&mut self, sector: u64, sectors: u64) -> Result<(), DiskError> {
        (**self).discard(sector, sectors)
    }
}
