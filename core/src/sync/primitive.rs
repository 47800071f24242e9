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

macro_rules! at_pointers {
    ($($name:ident: $word:ty as $atomic:ty;)*) => {$(
        /// The atomic at a pointer: memory that somebody else has atomics in as well. A model has none.
        ///
        /// # Safety
        ///
        /// The pointer is aligned, and valid as long as the reference lives; all access is atomic.
        #[inline]
        #[cfg_attr(granite_loom, expect(clippy::panic, reason = "a model's own mistake"))]
        pub unsafe fn $name<'a>(pointer: *mut $word) -> &'a $atomic {
            #[cfg(not(granite_loom))]
            // SAFETY: the caller's word.
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
