//! Grants: the same cases on the fake, between two of its domains, and on real Xen, where a domain grants to
//! itself. Each runs on a table of version 1 and on one of version 2.

mod bad_input;
mod bed;
mod defects;
mod life;
mod operations;
mod statuses;

use crate::harness::Case;

/// The cases, of both versions.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    let groups = [operations::CASES, life::CASES, statuses::CASES, bad_input::CASES, defects::CASES];
    groups.into_iter().flatten()
}

/// Cases for both versions of the table, each a function that is given a [`bed::Bed`].
#[macro_export]
macro_rules! grant_cases {
    ($($(#[$attribute:meta])* $name:ident on $rigs:expr;)*) => {
        /// The cases.
        pub const CASES: &[$crate::harness::Case] = &[$(
            $(#[$attribute])*
            $crate::harness::Case {
                name: concat!("grant::v1::", stringify!($name)),
                rigs: $rigs,
                run: |context| $name(&$crate::grant::bed::Bed::new(context, granite::grant::Version::V1)?),
            },
            $(#[$attribute])*
            $crate::harness::Case {
                name: concat!("grant::v2::", stringify!($name)),
                rigs: $rigs,
                run: |context| $name(&$crate::grant::bed::Bed::new(context, granite::grant::Version::V2)?),
            },
        )*];
    };
}

/// Rigs with a hypervisor.
pub const WITH_XEN: &[crate::harness::Rig] = &[crate::harness::Rig::Host, crate::harness::Rig::Solo];
/// Where what happens can be told to happen, and domains are of any kind.
#[cfg(not(granite_guest))]
pub const FAKE: &[crate::harness::Rig] = &[crate::harness::Rig::Host];
