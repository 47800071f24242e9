//! Grants: the same cases on the fake, between two of its domains, and on real Xen, where a domain grants to
//! itself. Each runs on a table of version 1 and on one of version 2.

mod bad_input;
pub mod bed;
mod defects;
mod exhaustion;
mod life;
mod operations;
#[cfg(granite_guest)]
mod serve;
mod statuses;
#[cfg(granite_guest)]
mod them;
#[cfg(granite_guest)]
mod two;
#[cfg(granite_guest)]
mod wire;

use crate::harness::{Case, Rig};

/// The cases, of both versions.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    let groups = [
        operations::CASES,
        life::CASES,
        exhaustion::CASES,
        statuses::CASES,
        bad_input::CASES,
        defects::CASES,
    ];
    let cases = groups.into_iter().flatten();
    #[cfg(granite_guest)]
    let cases = cases.chain(two::CASES);
    cases
}

/// Cases for both versions of the table, each a function that is given a [`bed::Bed`].
#[macro_export]
macro_rules! grant_cases {
    ($($(#[$attribute:meta])* $name:ident on $rigs:expr;)*) => {
        /// The cases.
        pub const CASES: &[$crate::harness::Case] = &[$(
            $(#[$attribute])*
            $crate::harness::Case::with_peer(
                concat!("grant::v1::", stringify!($name)),
                $rigs,
                |context| {
                    let bed = $crate::grant::bed::Bed::new(context, granite::grant::Version::V1)?;
                    $name(&bed)
                },
                $crate::grant::serve,
            ),
            $(#[$attribute])*
            $crate::harness::Case::with_peer(
                concat!("grant::v2::", stringify!($name)),
                $rigs,
                |context| {
                    let bed = $crate::grant::bed::Bed::new(context, granite::grant::Version::V2)?;
                    $name(&bed)
                },
                $crate::grant::serve,
            ),
        )*];
    };
}

/// Rigs with a hypervisor.
pub const WITH_XEN: &[Rig] = &[Rig::Host, Rig::Solo, Rig::Pair, Rig::Lab];
/// Those where both domains are at hand, as what they own: on `pair` one is told what to do.
pub const BOTH_AT_HAND: &[Rig] = &[Rig::Host, Rig::Solo, Rig::Lab];
/// Where what happens can be told to happen, and domains are of any kind.
#[cfg(not(granite_guest))]
pub const FAKE: &[Rig] = &[Rig::Host];

/// What the other domain of `pair` does in these cases: what it is told.
#[cfg(granite_guest)]
pub use serve::serve;

/// There is no other domain.
#[cfg(not(granite_guest))]
pub fn serve(_: &crate::harness::Context) -> Result<(), crate::harness::NotPassed> {
    Ok(())
}
