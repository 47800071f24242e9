//! The atomics of everything that is lock-free: `core`'s, or `loom`'s where its models are run
//! (`cfg(granite_loom)`, which `cargo xtask test` sets for tests/models.rs alone).

pub use core::sync::atomic::Ordering;
#[cfg(not(granite_loom))]
pub use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, compiler_fence, fence};
#[cfg(granite_loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, fence};

/// Orders accesses against an interrupt on the same vCPU; models have none.
#[cfg(granite_loom)]
pub fn compiler_fence(_: Ordering) {}
