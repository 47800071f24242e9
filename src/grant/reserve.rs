//! References reserved for one driver: granting a page by one of them can't fail later for lack of a reference.

use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use super::error::Failed;
use super::freelist::OwnedRef;
use super::table::GrantTable;
use super::{Access, Ended, Grant, GrantError};
use crate::abi::DomId;
use crate::hypercall::Hypercall;
use crate::mm::Page;

/// References taken in advance. Dropping it gives back the unused ones.
///
/// Their number is also a quota: the reserve never holds more. Linux offers the same with
/// `gnttab_alloc_grant_references`.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// # fn driver(grants: &'static granite::rt::Grants, peer: DomId) -> Result<(), Error> {
/// let mut reserve = grants.reserve(32)?; // from here on, 32 pages can be granted
/// let page = Page::zeroed().ok_or("no memory for a page")?;
/// let grant = reserve.grant::<ReadWrite>(page, peer)?;
/// reserve.end_access(grant)?; // its reference stays in the reserve
/// # Ok(())
/// # }
/// ```
#[doc(alias = "gnttab_alloc_grant_references")]
#[must_use = "dropping it gives the references back"]
pub struct Reserve<'t, X: Hypercall> {
    table: &'t GrantTable<X>,
    quota: usize,
    references: Vec<OwnedRef>,
}

impl<X: Hypercall> GrantTable<X> {
    /// Takes `count` references in advance, or none.
    ///
    /// # Errors
    ///
    /// [`GrantError::Exhausted`] if fewer are free, [`GrantError::OutOfMemory`] if memory is short, and
    /// [`GrantError::Memory`] if Xen refuses to let the table grow.
    pub fn reserve(&self, count: usize) -> Result<Reserve<'_, X>, GrantError> {
        let mut references = Vec::new();
        self.take_many(count, &mut references)?;
        Ok(Reserve { table: self, quota: count, references })
    }

    /// As [`reserve`](Self::reserve), but waits until `count` references are free at once.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve), but [`GrantError::Exhausted`] only if the table can never have `count`
    /// references.
    pub async fn reserve_when_free(&self, count: usize) -> Result<Reserve<'_, X>, GrantError> {
        if count > self.max_references() as usize {
            return Err(self.exhausted());
        }
        self.when_free(|| self.reserve(count)).await
    }

    /// Retries `attempt` each time references are freed, for as long as it returns [`GrantError::Exhausted`].
    pub(super) async fn when_free<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, GrantError>,
    ) -> Result<T, GrantError> {
        poll_fn(|context| {
            let mut result = attempt();
            if let Err(GrantError::Exhausted { .. }) = result {
                self.list.wait(context.waker());
                // Check again: if a reference was freed before the waker was registered, that woke no one.
                result = attempt();
            }
            match result {
                Err(GrantError::Exhausted { .. }) => Poll::Pending,
                result => Poll::Ready(result),
            }
        })
        .await
    }
}

impl<'t, X: Hypercall> Reserve<'t, X> {
    /// Returns the number of references not in use by a grant.
    pub fn free(&self) -> usize {
        self.references.len()
    }

    /// As [`GrantTable::grant`], by a reference of the reserve.
    ///
    /// # Errors
    ///
    /// The page, with [`GrantError::Exhausted`] if all references of the reserve are in use, or with an error of
    /// [`GrantTable::grant`] about the page or the peer.
    pub fn grant<A: Access>(&mut self, page: Page, peer: DomId) -> Result<Grant<'t, A, X>, Failed<Page>> {
        if let Err(error) = self.table.check_quota(peer) {
            return Err(Failed { error, value: page });
        }
        match self.references.pop() {
            Some(reference) => self.table.grant_by_reference(reference, page, peer),
            None => {
                let error = GrantError::Exhausted { references: self.quota as u32 };
                Err(Failed { error, value: page })
            }
        }
    }

    /// As [`Grant::end_access`], but keeps the reference, up to the quota. A grant ended in any other way gives its
    /// reference back to the table.
    ///
    /// # Errors
    ///
    /// As [`Grant::end_access`].
    pub fn end_access<A: Access>(&mut self, grant: Grant<'t, A, X>) -> Ended<'t, A, X> {
        let (page, reference) = grant.end()?;
        if self.references.len() < self.quota {
            // `reserve` made room for the quota.
            self.references.push(reference);
        } else {
            self.table.give_back(reference);
        }
        Ok(page)
    }

    /// Refills the reserve from the table. `out` is the number of its references in use. Together with the free ones,
    /// they then make up the quota.
    ///
    /// # Errors
    ///
    /// As [`GrantTable::reserve`]; the reserve is unchanged.
    pub fn refill(&mut self, out: usize) -> Result<(), GrantError> {
        let missing = self.quota.saturating_sub(out).saturating_sub(self.references.len());
        self.table.take_many(missing, &mut self.references)
    }
}

impl<X: Hypercall> Drop for Reserve<'_, X> {
    fn drop(&mut self) {
        self.table.list.free_many(&mut self.references);
    }
}

impl<X: Hypercall> fmt::Debug for Reserve<'_, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserve({} of {})", self.references.len(), self.quota)
    }
}
