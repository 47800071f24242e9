//! The front end's pages: lent to the back end for a request, and reused.

use alloc::collections::VecDeque;

use super::BlockError;
use crate::abi::DomId;
use crate::abi::grant::GrantRef;
use crate::grant::{Grant, GrantError, GrantTable, ReadOnly, ReadWrite};
use crate::mm::{Guest, Page};

/// A page not lent at present.
#[derive(Debug)]
enum Idle<'t, X: Guest> {
    Bare(Page),
    /// The back end keeps it mapped.
    Granted(Grant<'t, ReadWrite, X>),
}

/// A page lent to the back end.
#[derive(Debug)]
pub(super) enum Loan<'t, X: Guest> {
    /// The back end reads it.
    Data(Grant<'t, ReadOnly, X>),
    /// The back end writes it, or keeps it mapped.
    Room(Grant<'t, ReadWrite, X>),
}

impl<X: Guest> Loan<'_, X> {
    pub(super) fn gref(&self) -> GrantRef {
        match self {
            Self::Data(grant) => grant.gref(),
            Self::Room(grant) => grant.gref(),
        }
    }

    /// Takes the page back although the back end may still find its request: the reference waits until the grant
    /// `ring` is no longer used.
    pub(super) fn end_access_after(self, ring: GrantRef) {
        match self {
            Self::Data(grant) => grant.end_access_after(ring),
            Self::Room(grant) => grant.end_access_after(ring),
        }
    }
}

/// The pages of one front end.
pub(super) struct Bounce<'t, X: Guest> {
    grants: &'t GrantTable<X>,
    peer: DomId,
    /// The back end keeps mappings.
    persistent: bool,
    /// Pages kept mapped by the back end are at the front; the most recently used page is lent first.
    idle: VecDeque<Idle<'t, X>>,
    /// Number of pages, lent and idle.
    pages: usize,
    /// Maximum number of pages.
    max: usize,
    lent: usize,
    /// Peak number of references in use.
    pub(super) peak: usize,
}

impl<'t, X: Guest> Bounce<'t, X> {
    pub(super) fn new(grants: &'t GrantTable<X>, peer: DomId, persistent: bool, max: usize) -> Self {
        let (idle, pages, lent, peak) = (VecDeque::new(), 0, 0, 0);
        Self { grants, peer, persistent, idle, pages, max, lent, peak }
    }

    /// Lends a page, filled with `data` or as room for some. Returns `None` if none can be lent until another comes
    /// back.
    pub(super) fn lend(&mut self, data: Option<&[u8]>) -> Result<Option<Loan<'t, X>>, BlockError> {
        let page = match self.idle.pop_front() {
            Some(Idle::Granted(grant)) => {
                if let Some(data) = data {
                    grant.bytes().write(0, data).map_err(GrantError::OutOfBounds)?;
                }
                self.count(1);
                return Ok(Some(Loan::Room(grant)));
            }
            Some(Idle::Bare(page)) => page,
            None if self.pages >= self.max => return Ok(None),
            None => match self.grants.xen().page() {
                Some(page) => {
                    self.pages += 1;
                    page
                }
                None if self.pages > 0 => return Ok(None),
                None => return Err(BlockError::OutOfMemory),
            },
        };
        let mut page = page;
        if let Some(data) = data {
            page.bytes_mut()[..data.len()].copy_from_slice(data);
        }
        let granted = if data.is_some() && !self.persistent {
            self.grants.grant::<ReadOnly>(page, self.peer).map(Loan::Data)
        } else {
            self.grants.grant::<ReadWrite>(page, self.peer).map(Loan::Room)
        };
        match granted {
            Ok(lent) => {
                self.count(1);
                Ok(Some(lent))
            }
            Err(failed) => {
                self.idle.push_back(Idle::Bare(failed.value));
                // Pages still lent will give their references back.
                let all_out = matches!(failed.error, GrantError::Exhausted { .. }) && self.lent > 0;
                if all_out { Ok(None) } else { Err(failed.error.into()) }
            }
        }
    }

    fn count(&mut self, lent: usize) {
        self.lent += lent;
        let kept = self.idle.iter().filter(|idle| matches!(idle, Idle::Granted(_))).count();
        self.peak = self.peak.max(self.lent + kept);
    }

    /// Takes back a page after the back end has finished with it, and copies its contents to `into`.
    pub(super) fn take_back(&mut self, lent: Loan<'t, X>, into: Option<&mut [u8]>) -> Result<(), BlockError> {
        self.lent -= 1;
        let ended = match lent {
            Loan::Room(grant) if self.persistent && !grant.in_use().is_empty() => {
                if let Some(into) = into {
                    grant.bytes().read(0, into).map_err(GrantError::OutOfBounds)?;
                }
                self.idle.push_front(Idle::Granted(grant));
                return Ok(());
            }
            Loan::Room(grant) => grant.end_access().map_err(drop),
            Loan::Data(grant) => grant.end_access().map_err(drop),
        };
        // A page still in use waits in the quarantine, without this front end.
        let Ok(page) = ended else {
            self.pages -= 1;
            return Err(BlockError::StillInUse);
        };
        // The back end has lost access, so the data can't change while it is copied.
        if let Some(into) = into {
            into.copy_from_slice(&page.bytes()[..into.len()]);
        }
        self.idle.push_back(Idle::Bare(page));
        Ok(())
    }

    /// Takes back a page that was never submitted.
    pub(super) fn put_back(&mut self, lent: Loan<'t, X>) {
        let _ = self.take_back(lent, None); // what is used is in the quarantine
    }
}

impl<X: Guest> core::fmt::Debug for Bounce<'_, X> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bounce").field("pages", &self.pages).field("lent", &self.lent).finish_non_exhaustive()
    }
}
