//! Mapping and unmapping.

use super::super::machine::{Machine, Slot, State};
use super::Mapping;
use super::pins::Pinned;
use crate::abi::grant::op::{MapFlags, MapGrantRef, UnmapGrantRef};
use crate::abi::grant::{GrantHandle, Status};
use crate::abi::{DomId, Gfn};

impl Machine {
    /// Ends a domain, and all its mappings of granted pages.
    pub(in crate::hypercall::fake) fn destroy(&self, own: DomId) {
        self.with(|state| {
            let Some(domain) = state.domains.get_mut(&own.0) else { return };
            domain.dead = Some("it was destroyed");
            let mappings = std::mem::take(&mut domain.table.mappings);
            for mapping in mappings.into_values() {
                if let Some(domain) = state.domains.get_mut(&own.0) {
                    self.place(domain, mapping.at, None);
                }
                self.release(state, mapping.dom, mapping.gref, mapping.writing);
            }
        });
    }

    pub(super) fn map(&self, state: &mut State, own: u16, op: &mut MapGrantRef) -> Status {
        let no_host_map = !op.flags.intersects(MapFlags::HOST_MAP | MapFlags::DEVICE_MAP);
        let pv_only = MapFlags::DEVICE_MAP | MapFlags::APPLICATION_MAP | MapFlags::CONTAINS_PTE;
        if no_host_map {
            return Status::BAD_GNTREF;
        }
        if op.flags.intersects(pv_only) {
            return Status::GENERAL_ERROR;
        }
        if !state.domains.contains_key(&op.dom.0) {
            return Status::BAD_DOMAIN;
        }
        let gfn = Gfn::containing(op.host_addr);
        let table = &state.domains[&own].table;
        if table.mappings.len() >= table.max_mappings {
            return Status::NO_SPACE;
        }
        if !Self::has(&state.domains[&own], gfn) {
            return Status::GENERAL_ERROR;
        }
        let writing = !op.flags.contains(MapFlags::READONLY);
        let Pinned { mfn, home, .. } = match self.acquire(state, op.dom.0, op.gref.0, own, writing, true) {
            Ok(page) => page,
            Err(status) => return status,
        };
        let Some(domain) = state.domains.get_mut(&own) else { return Status::BAD_DOMAIN };
        let handle = domain.table.next_handle;
        domain.table.next_handle += 1;
        // A domain's own page has one place only: its old frame is now empty.
        let alias = (op.dom.0 == own && home != gfn).then_some(home);
        if let Some(home) = alias {
            self.place(domain, home, None);
        }
        match self.place(domain, gfn, Some(Slot::Grant(mfn, handle))) {
            Some(Slot::Ram(old)) if old != mfn => domain.leaked += 1,
            Some(Slot::Grant(..)) => domain.dead = Some("a page was mapped over a mapping"),
            Some(Slot::Xen(_)) => domain.dead = Some("a page was mapped over a page of Xen's"),
            _ => {}
        }
        let mapping = Mapping { dom: op.dom.0, gref: op.gref.0, writing, at: gfn, alias };
        domain.table.mappings.insert(handle, mapping);
        op.handle = GrantHandle(handle);
        Status::OKAY
    }

    pub(super) fn unmap(&self, state: &mut State, own: u16, op: UnmapGrantRef) -> Status {
        let Some(domain) = state.domains.get_mut(&own) else { return Status::BAD_DOMAIN };
        let Some(mapping) = domain.table.mappings.get(&op.handle.0).copied() else {
            return Status::BAD_HANDLE;
        };
        let gfn = Gfn::containing(op.host_addr);
        if op.host_addr == 0 {
            return Status::OKAY; // a field that is zero is ignored: nothing is unmapped
        }
        if gfn != mapping.at {
            let Some(Slot::Grant(..)) = domain.p2m.get(&gfn.0) else { return Status::GENERAL_ERROR };
            domain.dead = Some("a mapping was unmapped by the handle of another");
            return Status::OKAY;
        }
        domain.table.mappings.remove(&op.handle.0);
        self.place(domain, mapping.at, None);
        if mapping.alias.is_some() {
            domain.leaked += 1;
        }
        self.release(state, mapping.dom, mapping.gref, mapping.writing);
        Status::OKAY
    }
}
