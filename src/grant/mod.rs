//! Layer 5: the grant table. With it a domain lets its peers map and copy its pages, and receives pages.
//!
//! [`GrantTable`] is the table. Its operations use these values. All but [`CopyOp`] own a resource:
//!
//! | | is | ends by |
//! |---|---|---|
//! | [`Grant`] | a page of ours, and its reference for a peer | [`Grant::end_access`], which returns the page unless in use |
//! | [`ForeignMapping`] | pages of a peer, mapped here | [`ForeignMapping::unmap`] |
//! | [`TransferSlot`] | an empty place for a peer's page | [`TransferSlot::complete`] or [`TransferSlot::withdraw`] |
//! | [`CopyOp`] | a copy made by Xen | |
//!
//! Dropping one of the first three ends it, too. If a dropped grant can't end because the peer uses the page, it goes
//! to the quarantine until the peer is done. Until then the page has no owner.
//!
//! [`freelist`] tracks the free references. [`entry`] implements the protocols of Xen's `grant_table.h` on one entry.
//! [`header`] lists, for each line of Xen's header, its counterpart here and its tests.
//!
//! Nothing done by Xen or a peer causes a panic here: the operation returns a [`GrantError`].

#[allow(unsafe_code, reason = "Xen writes pages")]
mod copy;
mod dump;
mod error;
#[allow(unsafe_code, reason = "moves fields out of types with a drop")]
mod granted;
#[doc = include_str!("header.md")]
pub mod header {}
#[allow(unsafe_code, reason = "windows; moves fields out of types with a drop")]
mod map;
#[allow(unsafe_code, reason = "pages come back from entries")]
mod quarantine;
mod reserve;
mod retry;
#[allow(unsafe_code, reason = "entries are Xen's memory")]
mod table;
#[allow(unsafe_code, reason = "windows; moves fields out of types with a drop")]
mod transfer;

pub use self::{
    copy::{CopyOp, Dest, Source},
    dump::Dump,
    granted::{Ended, Grant},
    map::{ForeignMapping, Mapped},
    reserve::Reserve,
    table::{Config, GrantTable, Stats, Version},
    transfer::{ReceivedPage, SlotState, TransferSlot},
};
pub use error::{BatchError, Failed, GrantError};
pub use granite_core::{entry, freelist};

/// A peer's access to a page: [`ReadOnly`] or [`ReadWrite`].
pub trait Access: sealed::Sealed {
    /// Whether the peer may only read.
    const READ_ONLY: bool;
}

/// The peer may only read.
#[derive(Clone, Copy, Debug)]
pub enum ReadOnly {}

/// The peer may read and write.
#[derive(Clone, Copy, Debug)]
pub enum ReadWrite {}

impl Access for ReadOnly {
    const READ_ONLY: bool = true;
}

impl Access for ReadWrite {
    const READ_ONLY: bool = false;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ReadOnly {}
    impl Sealed for super::ReadWrite {}
}

#[cfg(test)]
mod tests {
    use super::freelist::{OwnedRef, RefRange};
    use super::{ForeignMapping, Grant, ReadWrite, ReceivedPage, TransferSlot};
    use crate::hypercall::fake::FakeXen;
    use crate::mm::Page;
    use crate::mm::windows::Window;

    /// Fails to compile if one of the types is `Clone`: then both impls apply, and `is` is ambiguous.
    macro_rules! not_clone {
        ($($type:ty),* $(,)?) => {$(
            const _: fn() = || {
                trait Either<Which> {
                    fn is() {}
                }
                impl<T: ?Sized> Either<()> for T {}
                impl<T: ?Sized + Clone> Either<u8> for T {}
                let _ = <$type as Either<_>>::is;
            };
        )*};
    }

    not_clone!(
        OwnedRef,
        RefRange,
        Page,
        Window,
        Grant<'static, ReadWrite, &'static FakeXen>,
        ForeignMapping<'static, ReadWrite, &'static FakeXen>,
        TransferSlot<'static, &'static FakeXen>,
        ReceivedPage<'static, &'static FakeXen>,
    );
}
