//! Copying between pages and grants.

use super::super::machine::{Machine, Mfn, State};
use super::pins::Pinned;
use crate::abi::grant::Status;
use crate::abi::grant::op::{CopyEnd, CopyFlags, GrantCopy};
use crate::abi::{DomId, PAGE_SIZE};

/// One end of a copy, resolved to a page.
struct End {
    mfn: Mfn,
    part: Option<(u16, u16)>,
    pin: Option<(u16, u32, bool)>,
}

impl Machine {
    pub(super) fn copy(&self, state: &mut State, own: u16, op: GrantCopy) -> Status {
        if op.len == 0 {
            return Status::OKAY;
        }
        let crosses = |end: CopyEnd| u64::from(end.offset) + u64::from(op.len) > PAGE_SIZE;
        if crosses(op.source) || crosses(op.dest) {
            return Status::BAD_COPY_ARG;
        }
        let source =
            match self.copy_end(state, own, op.source, op.flags.contains(CopyFlags::SOURCE_GREF), false) {
                Ok(source) => source,
                Err(status) => return status,
            };
        let dest = match self.copy_end(state, own, op.dest, op.flags.contains(CopyFlags::DEST_GREF), true) {
            Ok(dest) => dest,
            Err(status) => {
                self.copied(state, source);
                return status;
            }
        };
        let outside = |end: &End, at: CopyEnd| {
            end.part.is_some_and(|(offset, length)| {
                at.offset < offset
                    || u32::from(at.offset) + u32::from(op.len) > u32::from(offset) + u32::from(length)
            })
        };
        let status = if outside(&source, op.source) || outside(&dest, op.dest) {
            Status::GENERAL_ERROR
        } else {
            // SAFETY: both pages are the machine's, and neither end crosses its page.
            unsafe {
                self.page(dest.mfn)
                    .add(op.dest.offset.into())
                    .copy_from(self.page(source.mfn).add(op.source.offset.into()), op.len.into());
            }
            Status::OKAY
        };
        self.copied(state, source);
        self.copied(state, dest);
        status
    }

    fn copy_end(
        &self,
        state: &mut State,
        own: u16,
        end: CopyEnd,
        is_gref: bool,
        writing: bool,
    ) -> Result<End, Status> {
        let dom = if end.domid == DomId::SELF { own } else { end.domid.0 };
        if !state.domains.contains_key(&dom) {
            return Err(Status::BAD_DOMAIN);
        }
        if is_gref {
            let Pinned { mfn, part, .. } = self.acquire(state, dom, end.page as u32, own, writing, false)?;
            return Ok(End { mfn, part, pin: Some((dom, end.page as u32, writing)) });
        }
        if end.domid != DomId::SELF {
            return Err(Status::PERMISSION_DENIED);
        }
        let slot = state.domains[&dom].p2m.get(&end.page).ok_or(Status::BAD_PAGE)?;
        Ok(End { mfn: slot.mfn(), part: None, pin: None })
    }

    fn copied(&self, state: &mut State, end: End) {
        if let Some((dom, gref, writing)) = end.pin {
            self.release(state, dom, gref, writing);
        }
    }
}
