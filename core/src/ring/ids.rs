//! The numbers of the requests in flight.

use alloc::vec;
use alloc::vec::Vec;

/// The number of a request in flight, below the number of slots. It is reused once the request has been answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(u16);

impl RequestId {
    /// Returns the number as written by the protocol.
    pub fn number(self) -> u64 {
        self.0.into()
    }

    /// Returns the number as an index into a table with one entry per slot.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// The request numbers, free and in flight.
#[derive(Debug)]
pub(super) struct Ids {
    /// A stack: the number returned last is reused first, while its data is still in the cache.
    free: Vec<u16>,
    flying: Vec<bool>,
}

impl Ids {
    pub(super) fn new(slots: u32) -> Self {
        let max = slots.min(1 << 16);
        Self { free: (0..max).rev().map(|id| id as u16).collect(), flying: vec![false; max as usize] }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flying.len() - self.free.len()
    }

    pub(super) fn take(&mut self) -> Option<RequestId> {
        let id = self.free.pop()?;
        self.flying[usize::from(id)] = true;
        Some(RequestId(id))
    }

    /// Takes a number back. Returns `None` if it isn't in flight.
    pub(super) fn complete(&mut self, claimed: u64) -> Option<RequestId> {
        let id = u16::try_from(claimed).ok()?;
        let flying = self.flying.get_mut(usize::from(id)).filter(|flying| **flying)?;
        *flying = false;
        self.free.push(id);
        Some(RequestId(id))
    }
}
