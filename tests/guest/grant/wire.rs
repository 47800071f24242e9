//! What the two domains of `pair` say to each other about grants: words one behind the other.

use alloc::vec::Vec;

use granite::abi::XenErrno;
use granite::abi::grant::Status;
use granite::abi::grant::op::Op;
use granite::grant::GrantError;
use granite::hypercall::grant::OpError;
use granite::mm::windows::NoWindow;

/// Map pages one behind the other: whether to read only, domain, references.
pub const MAP_ALL: u32 = 1;
/// Map pages each by itself: whether to read only, pairs of domain and reference.
pub const MAP_EACH: u32 = 2;
/// Unmap, with one call: numbers of mappings.
pub const UNMAP: u32 = 3;
/// Read: number of a mapping, offset, length.
pub const READ: u32 = 4;
/// Write: number of a mapping, offset, then the bytes.
pub const WRITE: u32 = 5;
/// How many windows are free.
pub const WINDOWS: u32 = 6;

/// It worked; what follows is the answer.
pub const DONE: u32 = 0;
/// Xen gave a status.
const STATUS: u32 = 1;
/// Xen refused the call.
const CALL: u32 = 2;
/// There was no window.
const NO_WINDOW: u32 = 3;
/// Something else.
const OTHER: u32 = 4;

/// Words as bytes.
pub fn words(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// The words of a message.
pub struct Words<'m>(pub &'m [u8]);

impl Words<'_> {
    /// The next; 0 behind the last.
    pub fn next(&mut self) -> u32 {
        match self.0.split_first_chunk() {
            Some((word, rest)) => {
                self.0 = rest;
                u32::from_le_bytes(*word)
            }
            None => 0,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An error in three words.
pub fn error(error: GrantError) -> [u32; 3] {
    match error {
        GrantError::Op(OpError::Status(op, status)) => [STATUS, op.0, i32::from(status.0) as u32],
        GrantError::Op(OpError::Call(op, errno)) => [CALL, op.0, errno.0 as u32],
        GrantError::NoWindow(NoWindow { pages }) => [NO_WINDOW, pages as u32, 0],
        _ => [OTHER, 0, 0],
    }
}

/// The error of three words, of which the first was read already.
pub fn read_error(kind: u32, rest: &mut Words<'_>) -> GrantError {
    let (first, second) = (rest.next(), rest.next());
    match kind {
        STATUS => GrantError::Op(OpError::Status(Op(first), Status(second as i16))),
        CALL => GrantError::Op(OpError::Call(Op(first), XenErrno(second as i32))),
        NO_WINDOW => GrantError::NoWindow(NoWindow { pages: first as usize }),
        _ => GrantError::OutOfMemory,
    }
}
