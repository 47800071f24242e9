//! References that are out and that nobody holds: they wait, linked by their own words, so that waiting
//! takes no memory.

use super::stack::{Chain, Stack};
use super::{Freelist, OwnedRef};
use crate::sync::Vcpu;

/// A place where references of one list wait.
pub struct Lot(Stack);

impl Default for Lot {
    fn default() -> Self {
        Self(Stack::new())
    }
}

impl<V: Vcpu> Freelist<V> {
    /// Puts a reference of this list into a lot.
    ///
    /// # Errors
    ///
    /// The reference itself, if it is of another list.
    pub fn park(&self, lot: &Lot, reference: OwnedRef) -> Result<(), OwnedRef> {
        if reference.list() != self.id {
            return Err(reference);
        }
        if let Some(chain) = Chain::link(&self.links, core::iter::once(reference.number())) {
            lot.0.push(&self.links, chain);
        }
        Ok(())
    }

    /// Takes a reference out of a lot that only this list uses.
    pub fn unpark(&self, lot: &Lot) -> Option<OwnedRef> {
        lot.0.pop(&self.links).map(|(chain, _)| self.own(chain.first))
    }

    /// Moves all that wait in one lot to another.
    pub fn move_parked(&self, from: &Lot, to: &Lot) {
        from.0.take_all(&self.links).for_each(|chain| to.0.push(&self.links, chain));
    }
}

impl core::fmt::Debug for Lot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lot").finish_non_exhaustive()
    }
}
