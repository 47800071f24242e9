//! Verifies that a disk keeps its data.

use alloc::vec;
use alloc::vec::Vec;

use super::DemoError;
use granite::driver::block::{Front, SECTOR, checksum};
use granite::mm::Guest;
use granite::ring::RingMemory;

/// Sectors per read or write.
const AT_ONCE: usize = 256;

/// Fills a sector with bytes unique to this sector and this round.
fn pattern(round: u8, sector: u64, into: &mut [u8]) {
    let mut state = (sector << 8 | u64::from(round)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for word in into.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
}

fn filled(round: u8, first: u64, sectors: usize) -> Vec<u8> {
    let mut data = vec![0; sectors * SECTOR];
    for (index, sector) in data.chunks_exact_mut(SECTOR).enumerate() {
        pattern(round, first + index as u64, sector);
    }
    data
}

/// Writes the whole disk, reads it back, compares the checksums of the other side, and discards the last sectors. A
/// read-only disk is only read and checksummed.
pub fn check<X: Guest, M: RingMemory>(front: &mut Front<'_, X, M>, round: u8) -> Result<(), DemoError> {
    let sectors = front.geometry().sectors;
    let parts =
        || (0..sectors).step_by(AT_ONCE).map(|first| (first, AT_ONCE.min((sectors - first) as usize)));
    let read_only = front.geometry().read_only;
    for (first, count) in parts().filter(|_| !read_only) {
        front.write(first, &filled(round, first, count))?;
    }
    front.flush()?;
    for (first, count) in parts() {
        let mut data = vec![0; count * SECTOR];
        front.read(first, &mut data)?;
        let expected = if read_only { data.clone() } else { filled(round, first, count) };
        let mut sums = vec![0; count];
        front.checksums(first, &mut sums)?;
        let both = data.chunks_exact(SECTOR).zip(expected.chunks_exact(SECTOR)).zip(&sums);
        for (index, ((read, written), &sum)) in both.enumerate() {
            let wrong = |what| DemoError::Wrong { sector: first + index as u64, what };
            if read != written {
                return Err(wrong("the data read differs from the data written"));
            }
            if sum != checksum(written) {
                return Err(wrong("the other side has another checksum"));
            }
        }
    }
    if read_only {
        return Ok(());
    }
    let last = sectors.saturating_sub(8);
    front.discard(last, 8)?;
    let mut data = vec![1; 8 * SECTOR];
    front.read(last, &mut data)?;
    if data.iter().any(|&byte| byte != 0) {
        return Err(DemoError::Wrong { sector: last, what: "discarded, but not zeros" });
    }
    Ok(())
}
