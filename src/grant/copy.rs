//! Copies that Xen makes, between pages of ours and grants of anybody's.

use core::fmt;
use core::marker::PhantomData;

use super::table::GrantTable;
use super::{Access, Grant, GrantError};
use crate::abi::grant::op::{CopyEnd, CopyFlags, GrantCopy, Op};
use crate::abi::grant::{GrantRef, Status};
use crate::abi::{DomId, Gfn, PAGE_SIZE};
use crate::hypercall::{Hypercall, grant as op};
use crate::mm::Page;
use crate::mm::shared::OutOfBounds;

/// Where a copy begins: a byte of a page of ours, or of one that is granted to us.
#[derive(Clone, Copy, Debug)]
pub struct Source<'m>(End, PhantomData<&'m ()>);

/// Where a copy goes.
#[derive(Debug)]
pub struct Dest<'m>(End, PhantomData<&'m mut ()>);

#[derive(Clone, Copy, Debug)]
struct End {
    domain: DomId,
    page: u64,
    is_gref: bool,
    offset: usize,
}

impl End {
    const fn frame(gfn: Gfn, offset: usize) -> Self {
        Self { domain: DomId::SELF, page: gfn.0, is_gref: false, offset }
    }

    const fn granted(domain: DomId, gref: GrantRef, offset: usize) -> Self {
        Self { domain, page: gref.0 as u64, is_gref: true, offset }
    }

    fn check(self, len: usize) -> Result<CopyEnd, GrantError> {
        let whole = PAGE_SIZE as usize;
        if self.offset.checked_add(len).is_none_or(|end| end > whole) {
            return Err(GrantError::OutOfBounds(OutOfBounds { offset: self.offset, bytes: len, len: whole }));
        }
        // Offset and length are at most 4096 here.
        Ok(CopyEnd { page: self.page, domid: self.domain, offset: self.offset as u16 })
    }
}

impl<'m> Source<'m> {
    /// A page of ours.
    pub fn page(page: &'m Page, offset: usize) -> Self {
        Self(End::frame(page.gfn(), offset), PhantomData)
    }

    /// A page of ours that is granted.
    pub fn ours<A: Access, X: Hypercall>(grant: &'m Grant<'_, A, X>, offset: usize) -> Self {
        Self(End::frame(grant.gfn(), offset), PhantomData)
    }

    /// A page that `domain` grants us.
    pub fn granted(domain: DomId, gref: GrantRef, offset: usize) -> Self {
        Self(End::granted(domain, gref, offset), PhantomData)
    }
}

impl<'m> Dest<'m> {
    /// A page of ours.
    pub fn page(page: &'m mut Page, offset: usize) -> Self {
        Self(End::frame(page.gfn(), offset), PhantomData)
    }

    /// A page of ours that is granted.
    pub fn ours<A: Access, X: Hypercall>(grant: &'m Grant<'_, A, X>, offset: usize) -> Self {
        Self(End::frame(grant.gfn(), offset), PhantomData)
    }

    /// A page that `domain` grants us, to write.
    pub fn granted(domain: DomId, gref: GrantRef, offset: usize) -> Self {
        Self(End::granted(domain, gref, offset), PhantomData)
    }
}

/// One copy of a batch, and what became of it.
pub struct CopyOp<'m> {
    operation: GrantCopy,
    result: Result<(), GrantError>,
    _pages: PhantomData<&'m mut ()>,
}

impl<'m> CopyOp<'m> {
    /// A copy of `len` bytes; neither end may cross the end of its page.
    ///
    /// # Errors
    ///
    /// [`GrantError::OutOfBounds`].
    pub fn new(source: Source<'m>, dest: Dest<'m>, len: usize) -> Result<Self, GrantError> {
        let mut flags = CopyFlags::empty();
        flags.set(CopyFlags::SOURCE_GREF, source.0.is_gref);
        flags.set(CopyFlags::DEST_GREF, dest.0.is_gref);
        let operation = GrantCopy {
            source: source.0.check(len)?,
            dest: dest.0.check(len)?,
            len: len as u16,
            flags,
            status: Status::UNANSWERED,
        };
        Ok(Self { operation, result: Err(GrantError::NotTransferred), _pages: PhantomData })
    }

    /// What became of it.
    ///
    /// # Errors
    ///
    /// [`GrantError::Op`] with Xen's status; [`GrantError::NotTransferred`] before it was made.
    pub fn result(&self) -> Result<(), GrantError> {
        self.result
    }
}

impl fmt::Debug for CopyOp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOp").field("operation", &self.operation).field("result", &self.result).finish()
    }
}

impl<X: Hypercall> GrantTable<X> {
    /// Makes copies, in order, with one hypercall for up to 32. Each has its own [result](CopyOp::result), and
    /// one that fails keeps no other from being made.
    ///
    /// # Errors
    ///
    /// The first.
    #[doc(alias = "GNTTABOP_copy")]
    pub fn copy(&self, copies: &mut [CopyOp<'_>]) -> Result<(), GrantError> {
        let mut first = Ok(());
        for chunk in copies.chunks_mut(32) {
            let mut operations: heapless::Vec<GrantCopy, 32> =
                chunk.iter().map(|copy| copy.operation).collect();
            // SAFETY: frames of ours are borrowed by the copies, destinations alone or as shared memory.
            let called = unsafe { op::copy(&self.xen, &mut operations) };
            for (copy, done) in chunk.iter_mut().zip(&operations) {
                copy.result = GrantError::check(Op::COPY, called, done.status);
                first = first.and(copy.result);
            }
        }
        first
    }

    /// Makes one copy.
    ///
    /// # Errors
    ///
    /// As [`CopyOp::new`] and [`copy`](Self::copy).
    pub fn copy_one(&self, source: Source<'_>, dest: Dest<'_>, len: usize) -> Result<(), GrantError> {
        self.copy(&mut [CopyOp::new(source, dest, len)?])
    }
}
