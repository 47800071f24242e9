//! An allocated reference, as a value: it can't be copied or forged.

use core::fmt;

use crate::abi::grant::GrantRef;

/// An allocated reference, and the right to use its entry. Dropping it loses the reference.
#[must_use = "a reference that is dropped is lost; free it"]
pub struct OwnedRef {
    list: u32,
    number: u32,
}

impl OwnedRef {
    #[inline]
    pub(super) fn new(list: u32, number: u32) -> Self {
        Self { list, number }
    }

    #[inline]
    pub(super) fn list(&self) -> u32 {
        self.list
    }

    #[inline]
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Returns its number.
    #[inline]
    pub fn get(&self) -> GrantRef {
        GrantRef(self.number)
    }
}

impl fmt::Debug for OwnedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedRef({})", self.number)
    }
}
