//! Pages of ours, granted to a peer.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

use alloc::vec::Vec;

use super::entry::Payload;
use super::error::Failed;
use super::freelist::OwnedRef;
use super::table::GrantTable;
use super::{Access, GrantError, ReadOnly, ReadWrite};
use crate::abi::grant::{EntryFlags, GrantRef};
use crate::abi::{DomId, Gfn, PAGE_SIZE};
use crate::hypercall::Hypercall;
use crate::mm::shared::OutOfBounds;
use crate::mm::{Page, SharedBytes};

/// A page of ours that a peer may map and copy, and the grant reference used by the peer for it.
///
/// Dropping it ends the access and frees page and reference. If the peer uses the page at that time, both go to the
/// table's quarantine until the peer is done. There is no second owner:
///
/// ```compile_fail
/// fn twice<X: granite::hypercall::Hypercall>(grant: granite::grant::Grant<'_, granite::grant::ReadWrite, X>) {
///     let copy = grant.clone();
/// }
/// ```
#[must_use = "dropping a grant ends it"]
pub struct Grant<'t, A: Access, X: Hypercall> {
    table: &'t GrantTable<X>,
    reference: ManuallyDrop<OwnedRef>,
    page: ManuallyDrop<Page>,
    _access: PhantomData<A>,
}

/// The result of ending a grant: the page, or the grant if the peer uses the page.
pub type Ended<'t, A, X> = Result<Page, Failed<Grant<'t, A, X>>>;

impl<X: Hypercall> GrantTable<X> {
    /// Grants `peer` access to `page`. The peer gets the whole page with its previous contents, so keep other data
    /// off it.
    ///
    /// # Errors
    ///
    /// Returns the page with the error: [`GrantError::Exhausted`] if no reference is free,
    /// [`GrantError::PeerKeepsPages`] if the peer has reached its quota of pages in quarantine, [`GrantError::Memory`]
    /// or [`GrantError::OutOfMemory`] if the table can't grow, or [`GrantError::Unfit`] for a frame number too large
    /// for version 1.
    #[inline]
    pub fn grant<A: Access>(&self, page: Page, peer: DomId) -> Result<Grant<'_, A, X>, Failed<Page>> {
        match self.take(peer) {
            Ok(reference) => self.grant_by_reference(reference, page, peer),
            Err(error) => Err(Failed { error, value: page }),
        }
    }

    /// As [`grant`](Self::grant), but waits for a reference if all are in use. The future may be dropped at any time;
    /// this drops the page, too.
    ///
    /// A waiter doesn't get a free reference from another vCPU's cache until that vCPU frees a reference or halts. No
    /// event announces the end of a peer's use of a grant in quarantine; [`idle`](Self::idle) polls for it. Put a
    /// deadline on the wait.
    ///
    /// # Errors
    ///
    /// As [`grant`](Self::grant), except [`GrantError::Exhausted`].
    pub async fn grant_when_free<A: Access>(
        &self,
        page: Page,
        peer: DomId,
    ) -> Result<Grant<'_, A, X>, Failed<Page>> {
        match self.when_free(|| self.take(peer)).await {
            Ok(reference) => self.grant_by_reference(reference, page, peer),
            Err(error) => Err(Failed { error, value: page }),
        }
    }

    /// Grants `peer` the right to copy from and to a part of `page`, but not to map it. `offset` and `length` are in
    /// bytes. This needs a table of version 2.
    ///
    /// # Errors
    ///
    /// The page, with an error as from [`grant`](Self::grant), [`GrantError::Unfit`] in version 1, or
    /// [`GrantError::OutOfBounds`] if the part crosses the end of the page.
    pub fn grant_part<A: Access>(
        &self,
        page: Page,
        offset: u16,
        length: u16,
        peer: DomId,
    ) -> Result<Grant<'_, A, X>, Failed<Page>> {
        let (from, bytes, len) = (usize::from(offset), usize::from(length), PAGE_SIZE as usize);
        if from + bytes > len {
            let error = GrantError::OutOfBounds(OutOfBounds { offset: from, bytes, len });
            return Err(Failed { error, value: page });
        }
        match self.take(peer) {
            Ok(reference) => {
                self.grant_by(reference, page, peer, EntryFlags::SUB_PAGE, Some((offset, length)))
            }
            Err(error) => Err(Failed { error, value: page }),
        }
    }

    /// Grants `peer` access to `pages` by consecutive references, in order.
    ///
    /// # Errors
    ///
    /// Returns the pages with the error: one of [`grant`](Self::grant), or [`GrantError::NoRun`] if too few consecutive
    /// references are free. If granting fails halfway, the pages granted so far are taken back. The peer doesn't know
    /// their references, but may guess one and use the page. That page goes to the quarantine and isn't returned.
    pub fn grant_run<A: Access>(
        &self,
        pages: Vec<Page>,
        peer: DomId,
    ) -> Result<Vec<Grant<'_, A, X>>, Failed<Vec<Page>>> {
        if pages.is_empty() {
            return Ok(Vec::new());
        }
        let count = u32::try_from(pages.len()).map_err(|_| GrantError::OutOfMemory);
        match count.and_then(|count| self.check_quota(peer).and_then(|()| self.take_run(count))) {
            Ok(run) => self.grant_all(run, pages, peer),
            Err(error) => Err(Failed { error, value: pages }),
        }
    }

    /// Grants `peer` access to `pages`, all or none, by references in no particular order.
    ///
    /// # Errors
    ///
    /// Returns the pages with an error of [`grant`](Self::grant). If granting fails halfway, the pages granted so far
    /// are taken back. The peer doesn't know their references, but may guess one and use the page. That page goes to
    /// the quarantine and isn't returned.
    pub fn grant_many<A: Access>(
        &self,
        pages: Vec<Page>,
        peer: DomId,
    ) -> Result<Vec<Grant<'_, A, X>>, Failed<Vec<Page>>> {
        let mut references = Vec::new();
        match self.check_quota(peer).and_then(|()| self.take_many(pages.len(), &mut references)) {
            Ok(()) => self.grant_all(references.into_iter(), pages, peer),
            Err(error) => Err(Failed { error, value: pages }),
        }
    }

    fn grant_all<A: Access>(
        &self,
        references: impl Iterator<Item = OwnedRef>,
        pages: Vec<Page>,
        peer: DomId,
    ) -> Result<Vec<Grant<'_, A, X>>, Failed<Vec<Page>>> {
        let mut grants: Vec<Grant<'_, A, X>> = Vec::new();
        if grants.try_reserve_exact(pages.len()).is_err() {
            references.for_each(|reference| self.give_back(reference));
            return Err(Failed { error: GrantError::OutOfMemory, value: pages });
        }
        let mut failed: Option<Failed<Vec<Page>>> = None;
        for (page, reference) in pages.into_iter().zip(references) {
            match &mut failed {
                Some(failed) => {
                    failed.value.push(page);
                    self.give_back(reference);
                }
                None => match self.grant_by_reference(reference, page, peer) {
                    Ok(grant) => grants.push(grant),
                    Err(this) => {
                        // The peer hasn't been told of any reference, but it may guess: a busy grant goes to the
                        // quarantine.
                        let ended = grants.drain(..).filter_map(|grant| grant.end_access().ok());
                        let mut pages: Vec<Page> = ended.collect();
                        pages.push(this.value);
                        failed = Some(Failed { error: this.error, value: pages });
                    }
                },
            }
        }
        failed.map_or(Ok(grants), Err)
    }

    /// Ends all of these grants that no peer uses, and calls `give` with each page, in their order. Grants in use
    /// stay in `grants`, and so do grants of another table.
    pub fn end_many<'t, A: Access>(&'t self, grants: &mut Vec<Grant<'t, A, X>>, mut give: impl FnMut(Page)) {
        let ends = |grant: &mut Grant<'t, A, X>| {
            core::ptr::eq(grant.table, self) && self.entry(&grant.reference).end_access().is_ok()
        };
        let ended = grants.extract_if(.., ends).map(|grant| {
            let (reference, page) = grant.into_parts();
            give(page);
            reference
        });
        // A grant's reference belongs to its table's list, so none is refused.
        self.list.free_all(ended, drop);
    }

    /// Grants a page while `scope` runs. Returns the page, or the grant if the peer still uses the page.
    ///
    /// # Errors
    ///
    /// As [`grant`](Self::grant).
    pub fn with_grant<A: Access, R>(
        &self,
        page: Page,
        peer: DomId,
        scope: impl FnOnce(&Grant<'_, A, X>) -> R,
    ) -> Result<(R, Ended<'_, A, X>), Failed<Page>> {
        let grant = self.grant::<A>(page, peer)?;
        let result = scope(&grant);
        Ok((result, grant.end_access()))
    }

    /// Grants a whole page.
    #[inline]
    pub(super) fn grant_by_reference<A: Access>(
        &self,
        reference: OwnedRef,
        page: Page,
        peer: DomId,
    ) -> Result<Grant<'_, A, X>, Failed<Page>> {
        self.grant_by(reference, page, peer, EntryFlags::empty(), None)
    }

    #[inline]
    fn grant_by<A: Access>(
        &self,
        reference: OwnedRef,
        page: Page,
        peer: DomId,
        extra: EntryFlags,
        part: Option<(u16, u16)>,
    ) -> Result<Grant<'_, A, X>, Failed<Page>> {
        let readonly = if A::READ_ONLY { EntryFlags::READONLY } else { EntryFlags::empty() };
        let flags = EntryFlags::PERMIT_ACCESS.union(readonly).union(extra);
        let payload = match part {
            None => Payload::Frame(page.gfn()),
            Some((offset, length)) => Payload::Part { frame: page.gfn(), offset, length },
        };
        if let Err(unfit) = self.entry(&reference).publish(flags, peer, payload) {
            self.give_back(reference);
            return Err(Failed { error: unfit.into(), value: page });
        }
        Ok(Grant {
            table: self,
            reference: ManuallyDrop::new(reference),
            page: ManuallyDrop::new(page),
            _access: PhantomData,
        })
    }
}

impl<'t, A: Access, X: Hypercall> Grant<'t, A, X> {
    /// Returns the reference. The peer needs it to use the page.
    pub fn gref(&self) -> GrantRef {
        self.reference.get()
    }

    /// Returns the peer, as written in the entry.
    pub fn peer(&self) -> DomId {
        self.table.entry(&self.reference).domain()
    }

    /// Returns the frame of the page.
    pub(super) fn gfn(&self) -> Gfn {
        self.page.gfn()
    }

    /// Returns the page's bytes. The peer may read them at any time and, unless the grant is read-only, write them.
    pub fn bytes(&self) -> SharedBytes<'_> {
        // SAFETY: while the page is granted, no reference to its bytes is made.
        unsafe { self.page.shared() }
    }

    /// Returns the peer's present use of the page: [`EntryFlags::READING`] and [`EntryFlags::WRITING`]. It may begin or
    /// end the next moment.
    pub fn in_use(&self) -> EntryFlags {
        self.table.entry(&self.reference).use_of()
    }

    /// Ends the access and returns the page.
    ///
    /// # Errors
    ///
    /// [`GrantError::Busy`] while the peer uses the page, with the grant unchanged.
    #[inline]
    pub fn end_access(self) -> Ended<'t, A, X> {
        match self.table.entry(&self.reference).end_access() {
            Ok(()) => {
                let table = self.table;
                let (reference, page) = self.into_parts();
                table.give_back(reference);
                Ok(page)
            }
            Err(flags) => Err(Failed { error: GrantError::Busy(flags), value: self }),
        }
    }

    /// Ends the access and returns the reference as well as the page.
    pub(super) fn end(self) -> Result<(Page, OwnedRef), Failed<Self>> {
        match self.table.entry(&self.reference).end_access() {
            Ok(()) => {
                let (reference, page) = self.into_parts();
                Ok((page, reference))
            }
            Err(flags) => Err(Failed { error: GrantError::Busy(flags), value: self }),
        }
    }

    /// Ends the access and frees the page. A request in a ring may still name this reference, and the peer may read
    /// that request later. So the reference isn't reused until the peer stops using the ring's page, granted by the
    /// reference `ring`. If the peer still uses this grant's own page, page and reference go to the quarantine, as in a
    /// drop.
    pub fn end_access_after(self, ring: GrantRef) {
        let entry = self.table.entry(&self.reference);
        if entry.end_access().is_err() {
            return; // the drop leaves it to the quarantine
        }
        let table = self.table;
        let (reference, page) = self.into_parts();
        drop(page);
        if table.is_used(ring) {
            table.entry(&reference).wait_for(ring);
            table.quarantine(reference);
        } else {
            table.give_back(reference);
        }
    }

    /// Exchanges the references of two grants: each page is then granted by the other's reference.
    ///
    /// # Errors
    ///
    /// [`GrantError::Op`] if Xen refuses, as it does while either is in use; both grants are unchanged.
    pub fn swap_references(&mut self, other: &mut Self) -> Result<(), GrantError> {
        self.table.swap(&self.reference, &other.reference)?;
        // The entries were exchanged, so each reference now belongs to the other page.
        core::mem::swap(&mut self.page, &mut other.page);
        Ok(())
    }

    #[inline]
    fn into_parts(self) -> (OwnedRef, Page) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` isn't dropped and isn't used again, so both are taken once.
        unsafe { (ManuallyDrop::take(&mut this.reference), ManuallyDrop::take(&mut this.page)) }
    }

    fn with_access<B: Access>(self) -> Grant<'t, B, X> {
        let table = self.table;
        let (reference, page) = self.into_parts();
        Grant {
            table,
            reference: ManuallyDrop::new(reference),
            page: ManuallyDrop::new(page),
            _access: PhantomData,
        }
    }
}

impl<'t, X: Hypercall> Grant<'t, ReadWrite, X> {
    /// Removes the right to write, in place.
    ///
    /// # Errors
    ///
    /// [`GrantError::Busy`] while the peer uses the page for writing, with the grant unchanged.
    pub fn make_readonly(self) -> Result<Grant<'t, ReadOnly, X>, Failed<Self>> {
        match self.table.entry(&self.reference).make_readonly() {
            Ok(()) => Ok(self.with_access()),
            Err(flags) => Err(Failed { error: GrantError::Busy(flags), value: self }),
        }
    }
}

impl<'t, X: Hypercall> Grant<'t, ReadOnly, X> {
    /// Adds the right to write, in place. An existing mapping of the peer stays read-only.
    pub fn make_writable(self) -> Grant<'t, ReadWrite, X> {
        self.table.entry(&self.reference).make_writable();
        self.with_access()
    }
}

impl<A: Access, X: Hypercall> Drop for Grant<'_, A, X> {
    fn drop(&mut self) {
        let ended = self.table.entry(&self.reference).end_access();
        // SAFETY: `self` is being dropped, so both are taken once.
        let (reference, page) =
            unsafe { (ManuallyDrop::take(&mut self.reference), ManuallyDrop::take(&mut self.page)) };
        if ended.is_ok() {
            self.table.give_back(reference);
            return;
        }
        // In use: page and reference wait in the quarantine, and the entry records the page.
        let _ = page.into_gfn();
        self.table.quarantine(reference);
    }
}

impl<A: Access, X: Hypercall> fmt::Debug for Grant<'_, A, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({}: {:?})", self.gref().0, self.table.entry(&self.reference))
    }
}
