//! Copies made by Xen, between pages of ours and grants of any domain.

use core::fmt;
use core::marker::PhantomData;

use super::table::GrantTable;
use super::{Access, Grant, GrantError, retry};
use crate::abi::grant::op::{CopyEnd, CopyFlags, GrantCopy, Op};
use crate::abi::grant::{GrantRef, Status};
use crate::abi::{DomId, Gfn, PAGE_SIZE, XenErrno};
use crate::hypercall::{Hypercall, grant as op};
use crate::mm::shared::OutOfBounds;
use crate::mm::{self, Page};

/// The start of a copy's source: a byte of a page of ours, or of a page granted to us.
#[derive(Clone, Copy, Debug)]
pub struct Source<'m>(End, PhantomData<&'m ()>);

/// The start of a copy's destination.
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
    /// Names byte `offset` of a page of ours.
    pub fn page(page: &'m Page, offset: usize) -> Self {
        Self(End::frame(page.gfn(), offset), PhantomData)
    }

    /// Names byte `offset` of a page of ours that is granted.
    pub fn ours<A: Access, X: Hypercall>(grant: &'m Grant<'_, A, X>, offset: usize) -> Self {
        Self(End::frame(grant.gfn(), offset), PhantomData)
    }

    /// Names byte `offset` of a page granted to us by `domain`.
    pub fn granted(domain: DomId, gref: GrantRef, offset: usize) -> Self {
        Self(End::granted(domain, gref, offset), PhantomData)
    }
}

impl<'m> Dest<'m> {
    /// Names byte `offset` of a page of ours.
    pub fn page(page: &'m mut Page, offset: usize) -> Self {
        Self(End::frame(page.gfn(), offset), PhantomData)
    }

    /// Names byte `offset` of a page of ours that is granted.
    pub fn ours<A: Access, X: Hypercall>(grant: &'m Grant<'_, A, X>, offset: usize) -> Self {
        Self(End::frame(grant.gfn(), offset), PhantomData)
    }

    /// Names byte `offset` of a page granted to us by `domain`, for writing.
    pub fn granted(domain: DomId, gref: GrantRef, offset: usize) -> Self {
        Self(End::granted(domain, gref, offset), PhantomData)
    }
}

/// One copy of a batch, and its result.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// # use granite::grant::{CopyOp, Dest, Source};
/// # fn fetch(grants: &granite::rt::Grants, peer: DomId, grefs: [GrantRef; 2]) -> Result<(), Error> {
/// let (mut one, mut two) = (Page::zeroed().ok_or("no memory")?, Page::zeroed().ok_or("no memory")?);
/// let copies = &mut [
///     CopyOp::new(Source::granted(peer, grefs[0], 0), Dest::page(&mut one, 0), 4096)?,
///     CopyOp::new(Source::granted(peer, grefs[1], 0), Dest::page(&mut two, 0), 512)?,
/// ];
/// grants.copy(copies)?; // one hypercall
/// # Ok(())
/// # }
/// ```
pub struct CopyOp<'m> {
    operation: GrantCopy,
    result: Result<(), GrantError>,
    _pages: PhantomData<&'m mut ()>,
}

impl<'m> CopyOp<'m> {
    /// Prepares a copy of `len` bytes. Neither source nor destination may cross the end of its page.
    ///
    /// # Errors
    ///
    /// [`GrantError::OutOfBounds`] if one does.
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
        Ok(Self { operation, result: Err(GrantError::NotMade), _pages: PhantomData })
    }

    /// Returns the result of the copy.
    ///
    /// # Errors
    ///
    /// [`GrantError::Op`] with Xen's status; [`GrantError::NotMade`] before the copy was made.
    pub fn result(&self) -> Result<(), GrantError> {
        self.result
    }
}

impl fmt::Debug for CopyOp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOp").field("operation", &self.operation).field("result", &self.result).finish()
    }
}

/// The maximum number of copies per hypercall.
const BATCH: usize = 32;

impl<X: Hypercall> GrantTable<X> {
    /// Makes copies, with one hypercall for up to 32. Each has its own [result](CopyOp::result); a failed copy doesn't
    /// keep Xen from making the others. If Xen must first page in a page, this repeats that copy after the others. The
    /// repetitions of each 32 copies take at most a second.
    ///
    /// # Errors
    ///
    /// The result of the first failed copy, if there is one: [`GrantError::Op`] with Xen's status.
    #[doc(alias = "GNTTABOP_copy")]
    pub fn copy(&self, copies: &mut [CopyOp<'_>]) -> Result<(), GrantError> {
        for chunk in copies.chunks_mut(BATCH) {
            let (mut operations, mut called) = (operations(chunk), None);
            retry::retry(|| self.try_copy(&mut operations, &mut called));
            tell(chunk, &operations, called);
        }
        copies.iter().find_map(|copy| copy.result.err()).map_or(Ok(()), Err)
    }

    /// As [`copy`](Self::copy), but lets other tasks run while Xen pages in a page.
    ///
    /// # Errors
    ///
    /// As [`copy`](Self::copy).
    pub async fn copy_async(&self, copies: &mut [CopyOp<'_>]) -> Result<(), GrantError> {
        for chunk in copies.chunks_mut(BATCH) {
            let (mut operations, mut called) = (operations(chunk), None);
            retry::retry_async(|| self.try_copy(&mut operations, &mut called)).await;
            tell(chunk, &operations, called);
        }
        copies.iter().find_map(|copy| copy.result.err()).map_or(Ok(()), Err)
    }

    fn try_copy(&self, operations: &mut [GrantCopy], called: &mut Option<Result<(), XenErrno>>) -> bool {
        // SAFETY: the copies borrow our frames; destinations are borrowed exclusively, or are shared memory.
        let call = |some: &mut [GrantCopy]| unsafe { op::copy(&self.xen, some) };
        retry::call(operations, called, |each| each.status, call)
    }

    /// Makes one copy.
    ///
    /// # Errors
    ///
    /// As [`CopyOp::new`] and [`copy`](Self::copy).
    pub fn copy_one(&self, source: Source<'_>, dest: Dest<'_>, len: usize) -> Result<(), GrantError> {
        self.copy(&mut [CopyOp::new(source, dest, len)?])
    }

    /// Copies from byte `offset` of a page granted to us by `peer` into any memory of ours.
    ///
    /// # Errors
    ///
    /// [`GrantError::OutOfBounds`] if the bytes don't lie within the page, [`GrantError::Memory`] if `into` isn't
    /// mapped, and as [`copy`](Self::copy).
    pub fn copy_from(
        &self,
        peer: DomId,
        gref: GrantRef,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), GrantError> {
        let (address, len) = (into.as_mut_ptr() as u64, into.len());
        // The caller borrows the memory, for writing, until all copies are made.
        self.copy_parts(address, len, |at, own| {
            CopyOp::new(Source::granted(peer, gref, offset + at), Dest(own, PhantomData), part(own, len - at))
        })
    }

    /// Copies any memory of ours to byte `offset` of a page granted to us by `peer`.
    ///
    /// # Errors
    ///
    /// As [`copy_from`](Self::copy_from).
    pub fn copy_to(&self, peer: DomId, gref: GrantRef, offset: usize, from: &[u8]) -> Result<(), GrantError> {
        let (address, len) = (from.as_ptr() as u64, from.len());
        self.copy_parts(address, len, |at, own| {
            CopyOp::new(Source(own, PhantomData), Dest::granted(peer, gref, offset + at), part(own, len - at))
        })
    }

    /// Copies between a granted page and memory of ours. The memory crosses at most one page boundary, because a
    /// granted page holds no more than a page of bytes.
    fn copy_parts<'m>(
        &self,
        address: u64,
        len: usize,
        copy: impl Fn(usize, End) -> Result<CopyOp<'m>, GrantError>,
    ) -> Result<(), GrantError> {
        let whole = PAGE_SIZE as usize;
        let mut copies: heapless::Vec<CopyOp<'_>, 2> = heapless::Vec::new();
        let mut at = 0;
        while at < len {
            let frame = mm::frame_at(address + at as u64).ok_or(GrantError::Memory(XenErrno::FAULT))?;
            let own = End::frame(frame, ((address + at as u64) % PAGE_SIZE) as usize);
            let too_long = GrantError::OutOfBounds(OutOfBounds { offset: at, bytes: len, len: whole });
            copies.push(copy(at, own)?).map_err(|_| too_long)?;
            at += part(own, len - at);
        }
        self.copy(&mut copies)
    }
}

/// Returns the number of bytes up to the end of the page, but at most `left`.
fn part(own: End, left: usize) -> usize {
    left.min(PAGE_SIZE as usize - own.offset)
}

fn operations(copies: &[CopyOp<'_>]) -> heapless::Vec<GrantCopy, BATCH> {
    copies.iter().map(|copy| copy.operation).collect()
}

fn tell(copies: &mut [CopyOp<'_>], operations: &[GrantCopy], called: Option<Result<(), XenErrno>>) {
    for (copy, done) in copies.iter_mut().zip(operations) {
        copy.result = GrantError::check(Op::COPY, called.unwrap_or(Ok(())), done.status);
    }
}
