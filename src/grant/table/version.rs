//! The two layouts of entries.

use super::GrantError;
use crate::abi::PAGE_SIZE;

/// The layout of the entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Version {
    /// 8 bytes, with frame numbers of 32 bits. Every Xen supports this version.
    #[default]
    V1,
    /// 16 bytes, with frame numbers of 64 bits, parts of pages, and separate status words.
    V2,
}

impl Version {
    /// Returns the version with this number.
    ///
    /// # Errors
    ///
    /// [`GrantError::NoVersion`] unless the number is 1 or 2.
    pub fn from_number(number: u32) -> Result<Self, GrantError> {
        match number {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            other => Err(GrantError::NoVersion(other)),
        }
    }

    /// Returns the number: 1 or 2.
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Returns the number of entries in a frame.
    pub const fn entries_per_frame(self) -> u32 {
        match self {
            Self::V1 => PAGE_SIZE as u32 / 8,
            Self::V2 => PAGE_SIZE as u32 / 16,
        }
    }
}

/// Status words in a frame.
pub(super) const STATUS_PER_FRAME: u32 = PAGE_SIZE as u32 / 2;
