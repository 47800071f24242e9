//! The traits of `embedded-storage` for a front end, so that file systems written for them run on it.

use embedded_storage::{ReadStorage, Storage};

use super::{BlockError, Front, SECTOR};
use crate::mm::Guest;
use crate::ring::RingMemory;

/// Bytes at any offset: a partial sector is read, changed and written. The trait's offsets have 32 bits.
impl<X: Guest, M: RingMemory> ReadStorage for Front<'_, X, M> {
    type Error = BlockError;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), BlockError> {
        for_sectors(offset, bytes.len(), |sector, at, range| {
            if at == 0 && range.len() % SECTOR == 0 {
                return self.read(sector, &mut bytes[range]);
            }
            let mut whole = [0; SECTOR];
            self.read(sector, &mut whole)?;
            let len = range.len();
            bytes[range].copy_from_slice(&whole[at..at + len]);
            Ok(())
        })
    }

    fn capacity(&self) -> usize {
        usize::try_from(self.geometry().sectors).map_or(usize::MAX, |sectors| sectors.saturating_mul(SECTOR))
    }
}

impl<X: Guest, M: RingMemory> Storage for Front<'_, X, M> {
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), BlockError> {
        for_sectors(offset, bytes.len(), |sector, at, range| {
            if at == 0 && range.len() % SECTOR == 0 {
                return self.write(sector, &bytes[range]);
            }
            let mut whole = [0; SECTOR];
            self.read(sector, &mut whole)?;
            whole[at..at + range.len()].copy_from_slice(&bytes[range]);
            self.write(sector, &whole)
        })
    }
}

/// Splits a range of bytes at sector boundaries: part of a sector, whole sectors, and part of a sector again. `each`
/// gets the sector of a piece, its offset in the sector, and its range of the bytes.
fn for_sectors(
    offset: u32,
    len: usize,
    mut each: impl FnMut(u64, usize, core::ops::Range<usize>) -> Result<(), BlockError>,
) -> Result<(), BlockError> {
    let mut done = 0;
    while done < len {
        let place = offset as usize + done;
        let (sector, at) = ((place / SECTOR) as u64, place % SECTOR);
        let left = len - done;
        let part = if at == 0 && left >= SECTOR { left - left % SECTOR } else { left.min(SECTOR - at) };
        each(sector, at, done..done + part)?;
        done += part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::for_sectors;
    use std::vec::Vec;

    fn parts(offset: u32, len: usize) -> Vec<(u64, usize, core::ops::Range<usize>)> {
        let mut parts = Vec::new();
        let _ = for_sectors(offset, len, |sector, at, range| {
            parts.push((sector, at, range));
            Ok(())
        });
        parts
    }

    #[test]
    fn bytes_are_split_at_sectors() {
        assert_eq!(parts(0, 0), []);
        assert_eq!(parts(512, 1024), [(1, 0, 0..1024)]);
        assert_eq!(parts(10, 20), [(0, 10, 0..20)]);
        assert_eq!(parts(500, 1100), [(0, 500, 0..12), (1, 0, 12..1036), (3, 0, 1036..1100)]);
    }
}
