//! Several files joined in one module. Xen gives its control domain only one, so `cargo xtask run` joins its files.
//!
//! The files follow one another, each from a multiple of 512 on. After them come their lengths, 8 bytes each, their
//! number, and a mark: all little endian.

use alloc::vec::Vec;

/// The mark: the last bytes of such a module.
const MARK: &[u8; 16] = b"granite: joined.";
const ALIGN: usize = 512;
/// The maximum number of files in a module.
const MOST: usize = 16;

/// Splits a module into its files. A plain or malformed module is a single file.
pub fn split(module: &[u8]) -> Vec<&[u8]> {
    parts(module).unwrap_or_else(|| Vec::from([module]))
}

fn parts(module: &[u8]) -> Option<Vec<&[u8]>> {
    let (rest, count) = module.strip_suffix(MARK)?.split_last_chunk::<8>()?;
    let lengths_at = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(8)?;
    if lengths_at > 8 * MOST {
        return None;
    }
    let (mut files, lengths) = rest.split_at_checked(rest.len().checked_sub(lengths_at)?)?;
    let mut parts = Vec::new();
    for length in lengths.as_chunks::<8>().0 {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (file, others) = files.split_at_checked(length.checked_next_multiple_of(ALIGN)?)?;
        parts.push(&file[..length]);
        files = others;
    }
    files.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::{ALIGN, MARK, split};
    use std::vec;
    use std::vec::Vec;

    /// Joins files as xtask does.
    fn join(files: &[&[u8]]) -> Vec<u8> {
        let mut joined = Vec::new();
        for file in files {
            joined.extend_from_slice(file);
            joined.resize(joined.len().next_multiple_of(ALIGN), 0);
        }
        for file in files {
            joined.extend_from_slice(&(file.len() as u64).to_le_bytes());
        }
        joined.extend_from_slice(&(files.len() as u64).to_le_bytes());
        joined.extend_from_slice(MARK);
        joined
    }

    #[test]
    fn files_come_apart_as_they_were() {
        for files in [&[][..], &[&b"one"[..]], &[b"", &[7; 512], &[8; 513]]] {
            assert_eq!(split(&join(files)), files);
        }
        assert_eq!(split(b"no mark"), [b"no mark"]);
    }

    #[test]
    fn what_makes_no_sense_is_one_file() {
        let good = join(&[b"one", b"two"]);
        // Corrupts each byte of the lengths, except the low ones, which don't move a file, and each byte of their
        // number.
        for at in (1..8).chain(9..24) {
            let mut bad = good.clone();
            let at = bad.len() - 40 + at;
            bad[at] ^= 0xff;
            assert!(split(&bad) == [&bad[..]], "{at}");
        }
        let mut alone = vec![0xff; 8];
        alone.extend_from_slice(MARK);
        assert_eq!(split(&alone), [&alone[..]]);
        assert_eq!(split(MARK), [MARK]);
    }
}
