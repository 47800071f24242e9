//! Ring memory: our own pages, and a peer's.

use alloc::vec::Vec;

use crate::abi::PAGE_SIZE;
use crate::abi::grant::GrantRef;
use crate::grant::{ForeignMapping, Grant, ReadWrite};
use crate::hypercall::Hypercall;
use crate::mm::SharedBytes;
use crate::sync::atomic::Ordering;
use granite_core::ring::RingMemory;

impl RingMemory for SharedBytes<'_> {
    fn len(&self) -> usize {
        (*self).len()
    }

    fn load(&self, at: usize, order: Ordering) -> u32 {
        self.atomic(at).map_or(0, |word| word.load(order))
    }

    fn store(&self, at: usize, value: u32, order: Ordering) {
        if let Ok(word) = self.atomic(at) {
            word.store(value, order);
        }
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        let read = (*self).read(at, into);
        debug_assert!(read.is_ok(), "{read:?}");
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        let written = (*self).write(at, bytes);
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

/// Implements [`RingMemory`] for an owner of a single view of bytes.
macro_rules! by_bytes {
    ($($memory:ident: $gref:expr),*) => {$(
        impl<X: Hypercall> RingMemory for $memory<'_, ReadWrite, X> {
            fn len(&self) -> usize {
                self.bytes().len()
            }

            fn load(&self, at: usize, order: Ordering) -> u32 {
                self.bytes().load(at, order)
            }

            fn store(&self, at: usize, value: u32, order: Ordering) {
                self.bytes().store(at, value, order);
            }

            fn read(&self, at: usize, into: &mut [u8]) {
                RingMemory::read(&self.bytes(), at, into);
            }

            fn write(&self, at: usize, bytes: &[u8]) {
                RingMemory::write(&self.bytes(), at, bytes);
            }

            fn gref(&self) -> Option<GrantRef> {
                let gref: fn(&Self) -> Option<GrantRef> = $gref;
                gref(self)
            }
        }
    )*};
}

by_bytes!(Grant: |grant| Some(grant.gref()), ForeignMapping: |_| None);

const PAGE: usize = PAGE_SIZE as usize;

/// Granted pages, consecutive in the ring, wherever they lie in memory. A slot may cross two of them.
#[derive(Debug)]
pub struct GrantedPages<'t, X: Hypercall>(pub Vec<Grant<'t, ReadWrite, X>>);

impl<X: Hypercall> RingMemory for GrantedPages<'_, X> {
    fn len(&self) -> usize {
        self.0.len() * PAGE
    }

    fn load(&self, at: usize, order: Ordering) -> u32 {
        self.0.get(at / PAGE).map_or(0, |page| page.load(at % PAGE, order))
    }

    fn store(&self, at: usize, value: u32, order: Ordering) {
        if let Some(page) = self.0.get(at / PAGE) {
            page.store(at % PAGE, value, order);
        }
    }

    fn read(&self, mut at: usize, mut into: &mut [u8]) {
        while let (Some(page), false) = (self.0.get(at / PAGE), into.is_empty()) {
            let (part, rest) = into.split_at_mut(into.len().min(PAGE - at % PAGE));
            page.read(at % PAGE, part);
            (at, into) = (at + part.len(), rest);
        }
    }

    fn write(&self, mut at: usize, mut bytes: &[u8]) {
        while let (Some(page), false) = (self.0.get(at / PAGE), bytes.is_empty()) {
            let (part, rest) = bytes.split_at(bytes.len().min(PAGE - at % PAGE));
            page.write(at % PAGE, part);
            (at, bytes) = (at + part.len(), rest);
        }
    }

    /// Returns the first page's reference, for all: this assumes that a peer maps and unmaps all pages together.
    fn gref(&self) -> Option<GrantRef> {
        self.0.first().map(Grant::gref)
    }
}
