//! Several files in one module, which is what Xen gives its control domain. The guest takes them apart:
//! src/start/joined.rs says how they lie.

/// The last bytes of such a module.
const MARK: &[u8; 16] = b"granite: joined.";
const ALIGN: usize = 512;

/// Joins files.
pub fn join(files: &[&[u8]]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_guest_takes_them_apart() {
        let files = [&b"image"[..], &[7; 1000], b""];
        assert_eq!(granite::loader::joined::split(&super::join(&files)), files);
    }
}
