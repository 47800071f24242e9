//! Floor 5: the grant table. By it a domain lets another map and copy its pages, and receives pages.
//!
//! [`GrantTable`] is the table. What it gives out owns what it stands for:
//!
//! | | is | ends by |
//! |---|---|---|
//! | [`Grant`] | a page of ours, and the reference by which a peer uses it | [`end_access`](Grant::end_access), which gives the page back unless the peer uses it |
//! | [`ForeignMapping`] | pages of a peer's, mapped here | [`unmap`](ForeignMapping::unmap) |
//! | [`TransferSlot`] | an empty place for a page that a peer gives away | [`complete`](TransferSlot::complete) or [`withdraw`](TransferSlot::withdraw) |
//! | [`CopyOp`] | a copy that Xen makes | |
//!
//! All end when they are dropped, too. A grant that can't end, because the peer uses the page, goes to the
//! quarantine until it can: the page is nobody's until then.
//!
//! Below: [`freelist`] says which references are free, [`entry`] has the header's protocols on one entry.
//! [`header`] is a table from each line of Xen's header to what it is here, and to its tests.
//!
//! Nothing here is a panic: what Xen or a peer does comes back as a [`GrantError`].

#[allow(unsafe_code, reason = "owners that are taken apart")]
mod access;
#[allow(unsafe_code, reason = "Xen writes pages")]
mod copy;
mod dump;
mod error;
#[doc = include_str!("header.md")]
pub mod header {}
#[allow(unsafe_code, reason = "windows, and owners that are taken apart")]
mod map;
#[allow(unsafe_code, reason = "pages come back from entries")]
mod quarantine;
mod reserve;
mod retry;
#[allow(unsafe_code, reason = "entries are Xen's memory")]
mod table;
#[allow(unsafe_code, reason = "windows, and owners that are taken apart")]
mod transfer;

pub use self::{
    access::{Ended, Grant},
    copy::{CopyOp, Dest, Source},
    dump::Dump,
    map::{ForeignMapping, Mapped},
    reserve::Reserve,
    table::{Config, GrantTable, Stats, Version},
    transfer::{ReceivedPage, SlotState, TransferSlot},
};
pub use error::{BatchError, Failed, GrantError};
pub use granite_core::{entry, freelist};

/// What a peer may do with a page: [`ReadOnly`] or [`ReadWrite`].
pub trait Access: sealed::Sealed {
    /// It may only read.
    const READ_ONLY: bool;
}

/// Reading alone.
#[derive(Clone, Copy, Debug)]
pub enum ReadOnly {}

/// Reading and writing.
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

    /// Doesn't compile if one of the types is `Clone`: which of the two is meant is ambiguous then.
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
