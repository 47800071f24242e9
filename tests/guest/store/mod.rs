//! The block device: both ends against the fake on the host, and between two domains; ends that ask or answer what can't be,
//! that are silent, and that die.

#[cfg(not(granite_guest))]
mod host;
#[cfg(granite_guest)]
mod hostile;
#[cfg(granite_guest)]
mod life;
#[cfg(granite_guest)]
mod meet;
mod requests;

use crate::harness::Case;

/// The cases.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    #[cfg(not(granite_guest))]
    return host::cases();
    #[cfg(granite_guest)]
    life::CASES.iter().chain(hostile::CASES)
}
