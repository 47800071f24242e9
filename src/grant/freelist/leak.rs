//! References as plain numbers, for code that keeps numbers: given out, and taken back once.

use super::{Freelist, OwnedRef};
use crate::abi::grant::GrantRef;
use crate::sync::Vcpu;
use crate::sync::primitive::Ordering;

/// Why a number is no reference that can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AdoptError {
    /// The toolstack owns it.
    Reserved(GrantRef),
    /// The list has no such reference.
    OutOfRange(GrantRef),
    /// It wasn't leaked, or was taken back before: it is free, or it has an owner.
    NotLeaked(GrantRef),
}

/// The word of a leaked reference: no link has this value.
const LEAKED: u64 = u64::MAX;

impl<V: Vcpu> Freelist<V> {
    /// Makes a plain number of a reference, for code that keeps numbers.
    ///
    /// # Errors
    ///
    /// The reference itself, if it is of another list.
    pub fn leak(&self, reference: OwnedRef) -> Result<GrantRef, OwnedRef> {
        if reference.list() != self.id {
            return Err(reference);
        }
        // Release: pairs with the Acquire of `adopt`, as a free does with the next allocation.
        self.links.word(reference.number()).store(LEAKED, Ordering::Release);
        Ok(reference.get())
    }

    /// Takes a leaked reference back.
    ///
    /// # Errors
    ///
    /// [`AdoptError`] for every number that isn't one of this list's leaked references, also for one that was
    /// taken back before.
    pub fn adopt(&self, number: GrantRef) -> Result<OwnedRef, AdoptError> {
        match number.0 {
            reserved if reserved < self.first => return Err(AdoptError::Reserved(number)),
            beyond if beyond >= self.limit.0.load(Ordering::Relaxed) => {
                return Err(AdoptError::OutOfRange(number));
            }
            _ => {}
        }
        // Acquire: pairs with the Release of `leak`. Of two that adopt one number, one gets it.
        let word = self.links.word(number.0);
        match word.compare_exchange(LEAKED, 0, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(self.own(number.0)),
            Err(_) => Err(AdoptError::NotLeaked(number)),
        }
    }
}
