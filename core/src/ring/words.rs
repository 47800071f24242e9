//! Memory for rings between the threads of a process.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::RingMemory;
use crate::sync::atomic::{AtomicU32, Ordering};

/// Words shared by any number of threads. Clones share the same memory.
#[derive(Clone, Debug)]
pub struct Words(Arc<Vec<AtomicU32>>);

impl Words {
    /// Creates memory of zeros. `bytes` is rounded down to a multiple of 4.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new((0..bytes / 4).map(|_| AtomicU32::new(0)).collect()))
    }
}

impl RingMemory for Words {
    fn len(&self) -> usize {
        4 * self.0.len()
    }

    fn load(&self, at: usize, order: Ordering) -> u32 {
        self.0.get(at / 4).map_or(0, |word| word.load(order))
    }

    fn store(&self, at: usize, value: u32, order: Ordering) {
        if let Some(word) = self.0.get(at / 4) {
            word.store(value, order);
        }
    }

    // Accesses to slots can be relaxed: the accesses to the indices already put them in order.

    fn read(&self, at: usize, into: &mut [u8]) {
        for (offset, byte) in into.iter_mut().enumerate() {
            let at = at + offset;
            *byte = self.load(at & !3, Ordering::Relaxed).to_ne_bytes()[at % 4];
        }
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        for (offset, &byte) in bytes.iter().enumerate() {
            let at = at + offset;
            let mut word = self.load(at & !3, Ordering::Relaxed).to_ne_bytes();
            word[at % 4] = byte;
            self.store(at & !3, u32::from_ne_bytes(word), Ordering::Relaxed);
        }
    }
}
