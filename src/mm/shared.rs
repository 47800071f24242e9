//! Memory that another domain reads and writes at any time. Apart from atomic words, no reference to it ever exists:
//! bytes are copied out and in, and a copy is checked before it is used.

use core::arch::asm;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

/// An access past the end, or to a word that isn't aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfBounds {
    /// The offset of its first byte.
    pub offset: usize,
    /// Its length in bytes.
    pub bytes: usize,
    /// The length of the shared memory in bytes.
    pub len: usize,
}

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, bytes, len } = self;
        write!(f, "{bytes} bytes from {offset} on do not fit into {len} bytes of shared memory")
    }
}

impl core::error::Error for OutOfBounds {}

/// A view of shared memory, to read.
#[derive(Clone, Copy)]
pub struct SharedReader<'m> {
    start: *const u8,
    len: usize,
    _memory: PhantomData<&'m ()>,
}

/// A view of shared memory, to read and write.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// # fn greet(grant: &granite::grant::Grant<'_, ReadWrite, granite::hypercall::Xen>) -> Result<(), Error> {
/// grant.bytes().write(0, b"hello")?;
/// let mut answer = [0; 5];
/// grant.bytes().read(2048, &mut answer)?; // the peer may change it again at any time
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct SharedBytes<'m> {
    reader: SharedReader<'m>,
}

// SAFETY: other domains and vCPUs may change this memory at any time, and every access allows for that.
unsafe impl Send for SharedReader<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedReader<'_> {}
// SAFETY: as above.
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes<'_> {}

impl<'m> SharedReader<'m> {
    /// Creates a view of `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// The bytes must stay mapped, readable, while `'m` lives, and no reference to them may be made meanwhile.
    /// `start` must be a multiple of 8.
    pub unsafe fn new(start: *const u8, len: usize) -> Self {
        Self { start, len, _memory: PhantomData }
    }

    /// Returns the length in bytes.
    pub fn len(self) -> usize {
        self.len
    }

    /// Returns whether the length is 0.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    fn at(self, offset: usize, bytes: usize) -> Result<*const u8, OutOfBounds> {
        let end = offset.checked_add(bytes).filter(|&end| end <= self.len);
        end.ok_or(OutOfBounds { offset, bytes, len: self.len })?;
        Ok(self.start.wrapping_add(offset))
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if they don't fit; no byte is copied.
    pub fn read(self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.at(offset, into.len())?;
        // SAFETY: the bytes are in bounds, and mapped as guaranteed to `new`; `into` is exclusively borrowed.
        unsafe { copy(into.as_mut_ptr(), from, into.len()) };
        Ok(())
    }

    /// Copies one 32-bit word out, in one access.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if the word doesn't fit, or if `offset` isn't a multiple of 4.
    pub fn word(self, offset: usize) -> Result<u32, OutOfBounds> {
        let at = self.at(offset, 4)?;
        if !offset.is_multiple_of(4) {
            return Err(OutOfBounds { offset, bytes: 4, len: self.len });
        }
        // SAFETY: in bounds, aligned (the start is), and mapped as guaranteed to `new`.
        Ok(unsafe { AtomicU32::from_ptr(at.cast_mut().cast()) }.load(Ordering::Relaxed))
    }
}

impl<'m> SharedBytes<'m> {
    /// Creates a view of `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// As for [`SharedReader::new`]; the bytes must also be writable.
    pub unsafe fn new(start: *mut u8, len: usize) -> Self {
        // SAFETY: guaranteed by the caller.
        Self { reader: unsafe { SharedReader::new(start, len) } }
    }

    /// Returns a view of the same memory, to read.
    pub fn reader(self) -> SharedReader<'m> {
        self.reader
    }

    /// Returns the length in bytes.
    pub fn len(self) -> usize {
        self.reader.len
    }

    /// Returns whether the length is 0.
    pub fn is_empty(self) -> bool {
        self.reader.is_empty()
    }

    /// Copies bytes out; see [`SharedReader::read`].
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if they don't fit; no byte is copied.
    pub fn read(self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.reader.read(offset, into)
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if they don't fit; no byte is copied.
    pub fn write(self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let to = self.reader.at(offset, bytes.len())?.cast_mut();
        // SAFETY: the bytes are in bounds, and mapped writable as guaranteed to `new`; the source is borrowed.
        unsafe { copy(to, bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Returns one 32-bit word, for atomic use by both sides.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if the word doesn't fit, or if `offset` isn't a multiple of 4.
    pub fn atomic(self, offset: usize) -> Result<&'m AtomicU32, OutOfBounds> {
        let at = self.reader.at(offset, 4)?.cast_mut();
        if !offset.is_multiple_of(4) {
            return Err(OutOfBounds { offset, bytes: 4, len: self.reader.len });
        }
        // SAFETY: in bounds, aligned, and mapped while `'m` lives; an atomic may change under a reference.
        Ok(unsafe { AtomicU32::from_ptr(at.cast()) })
    }
}

/// Copies bytes from or to shared memory: others, including our own vCPUs, may read and write it at the same time.
/// Each byte is read or written whole, as by a relaxed atomic of its own, in any order. Rust has no such copy, and a
/// plain or volatile one would be a data race between our own vCPUs. So it is assembly.
///
/// # Safety
///
/// Both places must stay mapped during the call, `to` writable, and they must not overlap.
#[inline]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // A string instruction takes some time to begin, so short copies use single words.
    const SHORT: usize = 128;
    // SAFETY: it reads and writes `len` bytes, as guaranteed by the caller; the direction flag is clear, as in all
    // Rust code.
    unsafe {
        if len < SHORT {
            asm!(
                "cmp rcx, 8",
                "jb 3f",
                "2:",
                "mov {word}, [rsi]",
                "mov [rdi], {word}",
                "add rsi, 8",
                "add rdi, 8",
                "sub rcx, 8",
                "cmp rcx, 8",
                "jae 2b",
                "3:",
                "rep movsb",
                word = out(reg) _,
                inout("rcx") len => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack),
            );
        } else {
            asm!(
                "rep movsq",
                "mov ecx, {rest:e}",
                "rep movsb",
                rest = in(reg) len % 8,
                inout("rcx") len / 8 => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags),
            );
        }
    }
}

impl fmt::Debug for SharedReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shared bytes at {:p}", self.len, self.start)
    }
}

impl fmt::Debug for SharedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{OutOfBounds, SharedBytes};
    use core::sync::atomic::Ordering;

    #[test]
    fn copies_of_every_length_and_offset_are_whole() {
        let mut memory = [0u64; 8];
        // SAFETY: while the view lives, the memory is used only through it.
        let shared = unsafe { SharedBytes::new(memory.as_mut_ptr().cast(), 64) };
        let text: [u8; 64] = core::array::from_fn(|i| i as u8 + 1);
        for offset in 0..=64 {
            for len in 0..=64 - offset {
                shared.write(0, &[0; 64]).unwrap();
                shared.write(offset, &text[..len]).unwrap();
                let mut all = [0xff; 64];
                shared.read(0, &mut all).unwrap();
                let expected: [u8; 64] = core::array::from_fn(|i| {
                    if (offset..offset + len).contains(&i) { text[i - offset] } else { 0 }
                });
                assert_eq!(all, expected);
                let mut part = [0xff; 64];
                shared.read(offset, &mut part[..len]).unwrap();
                assert_eq!(part[..len], text[..len]);
            }
        }
    }

    #[test]
    fn long_copies_are_whole_and_go_no_further() {
        let mut memory = [0u64; 600];
        // SAFETY: as above.
        let shared = unsafe { SharedBytes::new(memory.as_mut_ptr().cast(), 4800) };
        let text: [u8; 4800] = core::array::from_fn(|i| (i * 7 + i / 256) as u8 | 1);
        for (offset, len) in [(0, 127), (1, 128), (3, 129), (8, 4096), (5, 4095), (700, 4100)] {
            shared.write(0, &[0; 4800]).unwrap();
            shared.write(offset, &text[..len]).unwrap();
            let mut all = [0xff; 4800];
            shared.read(0, &mut all).unwrap();
            assert_eq!(all[offset..offset + len], text[..len]);
            assert!(all[..offset].iter().chain(&all[offset + len..]).all(|&byte| byte == 0));
            let mut part = [0; 4800];
            shared.read(offset, &mut part[..len]).unwrap();
            assert_eq!(part[..len], text[..len]);
            assert!(part[len..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn nothing_is_read_or_written_past_the_end() {
        let mut memory = [7u64; 2];
        // SAFETY: as above.
        let shared = unsafe { SharedBytes::new(memory.as_mut_ptr().cast(), 16) };
        let past = |offset, bytes| OutOfBounds { offset, bytes, len: 16 };
        assert_eq!(shared.read(15, &mut [0; 2]), Err(past(15, 2)));
        assert_eq!(shared.write(usize::MAX, &[0; 2]), Err(past(usize::MAX, 2)));
        assert_eq!(shared.reader().word(13).unwrap_err(), past(13, 4));
        assert_eq!(shared.reader().word(2).unwrap_err(), past(2, 4));
        assert!(shared.atomic(6).is_err());
        shared.atomic(4).unwrap().store(9, Ordering::Relaxed);
        assert_eq!(shared.reader().word(4), Ok(9));
    }
}
