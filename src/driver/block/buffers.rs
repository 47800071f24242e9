//! The front's pages: lent to the back for a request, and used again.

use alloc::collections::VecDeque;

use super::BlockError;
use crate::abi::DomId;
use crate::abi::grant::GrantRef;
use crate::grant::{Grant, GrantError, GrantTable, ReadOnly, ReadWrite};
use crate::mm::{Guest, Page};

/// A page that nobody uses just now.
#[derive(Debug)]
enum Idle<'t, X: Guest> {
    Bare(Page),
    /// The back keeps it mapped.
    Granted(Grant<'t, ReadWrite, X>),
}

/// A page that the back may use.
#[derive(Debug)]
pub(super) enum Lent<'t, X: Guest> {
    /// To read.
    Data(Grant<'t, ReadOnly, X>),
    /// To write.
    Room(Grant<'t, ReadWrite, X>),
}

impl<X: Guest> Lent<'_, X> {
    pub(super) fn gref(&self) -> GrantRef {
        match self {
            Self::Data(grant) => grant.gref(),
            Self::Room(grant) => grant.gref(),
        }
    }

    /// Takes it back from a back end that may get to its request yet.
    pub(super) fn retire(self, told_by: GrantRef) {
        match self {
            Self::Data(grant) => grant.retire(told_by),
            Self::Room(grant) => grant.retire(told_by),
        }
    }
}

/// The pages of one front end.
pub(super) struct Buffers<'t, X: Guest> {
    grants: &'t GrantTable<X>,
    peer: DomId,
    /// The back keeps mappings.
    persistent: bool,
    /// Those that the back keeps are in front: last used, first used again.
    idle: VecDeque<Idle<'t, X>>,
    /// Pages that there are, lent and idle.
    pages: usize,
    /// Pages that there may be.
    most: usize,
    lent: usize,
    /// Most references out at once.
    pub(super) peak: usize,
}

impl<'t, X: Guest> Buffers<'t, X> {
    pub(super) fn new(grants: &'t GrantTable<X>, peer: DomId, persistent: bool, most: usize) -> Self {
        let (idle, pages, lent, peak) = (VecDeque::new(), 0, 0, 0);
        Self { grants, peer, persistent, idle, pages, most, lent, peak }
    }

    /// Lends a page, with data in it or as room for some. Nothing, if all are out that there may be.
    pub(super) fn lend(&mut self, data: Option<&[u8]>) -> Result<Option<Lent<'t, X>>, BlockError> {
        let page = match self.idle.pop_front() {
            Some(Idle::Granted(grant)) => {
                if let Some(data) = data {
                    grant.bytes().write(0, data).map_err(GrantError::OutOfBounds)?;
                }
                self.count(1);
                return Ok(Some(Lent::Room(grant)));
            }
            Some(Idle::Bare(page)) => page,
            None if self.pages >= self.most => return Ok(None),
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
            self.grants.grant::<ReadOnly>(page, self.peer).map(Lent::Data)
        } else {
            self.grants.grant::<ReadWrite>(page, self.peer).map(Lent::Room)
        };
        match granted {
            Ok(lent) => {
                self.count(1);
                Ok(Some(lent))
            }
            Err(failed) => {
                self.idle.push_back(Idle::Bare(failed.value));
                // With others out, their references come back.
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

    /// Takes a page back that the back end is done with, and copies what it wrote.
    pub(super) fn take_back(&mut self, lent: Lent<'t, X>, into: Option<&mut [u8]>) -> Result<(), BlockError> {
        self.lent -= 1;
        let ended = match lent {
            Lent::Room(grant) if self.persistent && !grant.in_use().is_empty() => {
                if let Some(into) = into {
                    grant.bytes().read(0, into).map_err(GrantError::OutOfBounds)?;
                }
                self.idle.push_front(Idle::Granted(grant));
                return Ok(());
            }
            Lent::Room(grant) => grant.end_access().map_err(drop),
            Lent::Data(grant) => grant.end_access().map_err(drop),
        };
        // One that is used still waits in the quarantine, without us.
        let Ok(page) = ended else {
            self.pages -= 1;
            return Err(BlockError::StillInUse);
        };
        // It is ours alone now: what is copied is what there was.
        if let Some(into) = into {
            into.copy_from_slice(&page.bytes()[..into.len()]);
        }
        self.idle.push_back(Idle::Bare(page));
        Ok(())
    }

    /// Takes a page back that was never told of.
    pub(super) fn put_back(&mut self, lent: Lent<'t, X>) {
        let _ = self.take_back(lent, None); // what is used is in the quarantine
    }
}

impl<X: Guest> core::fmt::Debug for Buffers<'_, X> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Buffers")
            .field("pages", &self.pages)
            .field("lent", &self.lent)
            .finish_non_exhaustive()
    }
}
