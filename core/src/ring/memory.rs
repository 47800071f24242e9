//! The memory that a ring lies in.

use alloc::rc::Rc;

use crate::abi::grant::GrantRef;
use crate::sync::primitive::Ordering;

/// Memory that both ends write at any time. A ring stays inside of it: what is outside is neither read nor written.
pub trait RingMemory {
    /// Its bytes.
    fn len(&self) -> usize;

    /// Whether there are none.
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

    /// The reference by which the peer has it, if it is ours and granted: for as long as that is used, the peer may find in
    /// it what it was told.
    fn gref(&self) -> Option<GrantRef> {
        None
    }
}

/// Memory that somebody else has as well.
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
