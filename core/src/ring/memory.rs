//! The memory of a ring.

use alloc::rc::Rc;

use crate::abi::grant::GrantRef;
use crate::sync::atomic::Ordering;

/// Memory written by both ends at any time. A ring stays within it: it neither reads nor writes outside.
pub trait RingMemory {
    /// Returns its size in bytes.
    fn len(&self) -> usize;

    /// Returns whether its size is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a 32-bit word, at a multiple of 4.
    fn load(&self, at: usize, order: Ordering) -> u32;

    /// Writes a 32-bit word, at a multiple of 4.
    fn store(&self, at: usize, value: u32, order: Ordering);

    /// Copies bytes out.
    fn read(&self, at: usize, into: &mut [u8]);

    /// Copies bytes in.
    fn write(&self, at: usize, bytes: &[u8]);

    /// Returns the grant reference of this memory, if it is ours and granted to the peer. While the peer uses
    /// that grant, it can still read old requests there, and the references in them.
    fn gref(&self) -> Option<GrantRef> {
        None
    }
}

/// Implements [`RingMemory`] for a reference or an `Rc` to such memory.
macro_rules! by_reference {
    ($($memory:ty),*) => {$(
        impl<M: RingMemory + ?Sized> RingMemory for $memory {
            fn len(&self) -> usize {
                (**self).len()
            }

            fn load(&self, at: usize, order: Ordering) -> u32 {
                (**self).load(at, order)
            }

            fn store(&self, at: usize, value: u32, order: Ordering) {
                (**self).store(at, value, order);
            }

            fn read(&self, at: usize, into: &mut [u8]) {
                (**self).read(at, into);
            }

            fn write(&self, at: usize, bytes: &[u8]) {
                (**self).write(at, bytes);
            }

            fn gref(&self) -> Option<GrantRef> {
                (**self).gref()
            }
        }
    )*};
}

by_reference!(&M, Rc<M>);
