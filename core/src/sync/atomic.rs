//! The atomics of all lock-free code: those of `core`, or those of `loom` for its models (`cfg(granite_loom)`, set by
//! `cargo xtask test` for tests/models.rs alone).

pub use core::sync::atomic::Ordering;
#[cfg(not(granite_loom))]
pub use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, compiler_fence, fence};
#[cfg(granite_loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, fence};

/// Orders accesses against an interrupt on the same vCPU; models have none.
#[cfg(granite_loom)]
pub fn compiler_fence(_: Ordering) {}

macro_rules! at_pointers {
    ($($name:ident: $word:ty as $atomic:ty;)*) => {$(
        /// Returns the atomic at a pointer into memory that others also access atomically. A model has no such
        /// memory, so it panics there.
        ///
        /// # Safety
        ///
        /// The pointer must be aligned, and valid as long as the reference lives. All access must be atomic.
        #[inline]
        #[cfg_attr(granite_loom, expect(clippy::panic, reason = "a model's own mistake"))]
        pub unsafe fn $name<'a>(pointer: *mut $word) -> &'a $atomic {
            #[cfg(not(granite_loom))]
            // SAFETY: the caller guarantees alignment, validity and atomic access.
            unsafe {
                <$atomic>::from_ptr(pointer)
            }
            #[cfg(granite_loom)]
            panic!("a model has no memory of Xen's at {pointer:p}")
        }
    )*};
}

at_pointers! {
    u16_at: u16 as AtomicU16;
    u32_at: u32 as AtomicU32;
    u64_at: u64 as AtomicU64;
}
