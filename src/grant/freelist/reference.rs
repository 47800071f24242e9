//! A reference that is out, as a value: it can't be copied or made up.

use core::fmt;
use core::num::NonZeroU64;

use crate::abi::grant::GrantRef;

/// A reference that is out, and the right to use its entry. To drop it is to lose the reference.
#[must_use = "a reference that is dropped is lost; free it"]
pub struct OwnedRef(
    // The list in the high half, and the number, which isn't 0. One word, since it is written and read back as
    // one.
    pub(super) NonZeroU64,
);

impl OwnedRef {
    #[inline]
    pub(super) fn new(list: u32, number: u32) -> Self {
        // No list hands out reference 0; to lose a number that can't be is better than a panic.
        Self(NonZeroU64::new(u64::from(list) << 32 | u64::from(number)).unwrap_or(NonZeroU64::MAX))
    }

    #[inline]
    pub(super) fn list(&self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    #[inline]
    pub(super) fn number(&self) -> u32 {
        self.0.get() as u32
    }

    /// Its number.
    #[inline]
    pub fn get(&self) -> GrantRef {
        GrantRef(self.number())
    }
}

impl fmt::Debug for OwnedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedRef({})", self.number())
    }
}
