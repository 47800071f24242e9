//! Joins several files into one module, since Xen gives its control domain only one. The guest splits the module;
//! src/loader/bundle.rs has the format.

/// The last bytes of a joined module.
const MARK: &[u8; 16] = b"granite: joined.";
const ALIGN: usize = 512;

/// Joins files into a module.
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
        assert_eq!(granite::loader::bundle::split(&super::join(&files)), files);
    }
}
