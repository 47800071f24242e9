//! Persistent mappings of the front end's pages, up to a maximum.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::abi::DomId;
use crate::abi::grant::GrantRef;
use crate::grant::{ForeignMapping, GrantError, GrantTable, ReadWrite};
use crate::hypercall::Hypercall;

/// A kept mapping, and the batch of its last use.
type Kept<'t, X> = (ForeignMapping<'t, ReadWrite, X>, u64);

/// The kept mappings.
#[derive(Debug)]
pub(super) struct Persistent<'t, X: Hypercall> {
    max: usize,
    kept: BTreeMap<GrantRef, Kept<'t, X>>,
    /// FrontStats batches, as a clock.
    now: u64,
}

impl<'t, X: Hypercall> Persistent<'t, X> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, kept: BTreeMap::new(), now: 0 }
    }

    /// Returns the number of kept mappings.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn get(&self, gref: GrantRef) -> Option<&ForeignMapping<'t, ReadWrite, X>> {
        self.kept.get(&gref).map(|(mapping, _)| mapping)
    }

    /// Maps the references not yet mapped, with one hypercall. Returns the failed ones, by reference.
    pub(super) fn map(
        &mut self,
        grants: &'t GrantTable<X>,
        peer: DomId,
        wanted: impl Iterator<Item = GrantRef>,
    ) -> Result<BTreeMap<GrantRef, GrantError>, GrantError> {
        self.now += 1;
        let mut missing = Vec::new();
        for gref in wanted {
            match self.kept.get_mut(&gref) {
                Some((_, used)) => *used = self.now,
                None => missing.push((peer, gref)),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        let mut failed = BTreeMap::new();
        if missing.is_empty() {
            return Ok(failed);
        }
        for (mapped, &(_, gref)) in grants.map_batch::<ReadWrite>(&missing)?.into_iter().zip(&missing) {
            match mapped {
                Ok(mapping) => drop(self.kept.insert(gref, (mapping, self.now))),
                Err(error) => drop(failed.insert(gref, error)),
            }
        }
        Ok(failed)
    }

    /// Unmaps the least recently used mappings, until no more than the maximum are kept.
    pub(super) fn trim(&mut self, grants: &'t GrantTable<X>) {
        let surplus = self.kept.len().saturating_sub(self.max);
        if surplus == 0 {
            return;
        }
        let mut by_age: Vec<_> = self.kept.iter().map(|(&gref, &(_, used))| (used, gref)).collect();
        by_age.sort_unstable();
        let oldest = by_age.into_iter().take(surplus).filter_map(|(_, gref)| self.kept.remove(&gref));
        // The table counts failed unmaps.
        let _ = grants.unmap_all(oldest.map(|(mapping, _)| mapping).collect::<Vec<_>>());
    }

    /// Unmaps all.
    pub(super) fn clear(&mut self, grants: &'t GrantTable<X>) {
        let all = core::mem::take(&mut self.kept);
        let _ = grants.unmap_all(all.into_values().map(|(mapping, _)| mapping).collect::<Vec<_>>());
    }
}
