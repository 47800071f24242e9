//! Xen's interface as plain data: no hypercall and no unsafe code. Every structure is checked at compile time against
//! the sizes and offsets of Xen's public headers.
//!
//! Sets of values that Xen may extend are newtypes over their integer, never Rust enums: a value unknown to this code
//! is data, not undefined behaviour.

pub mod blkif;
pub mod console;
pub mod cpuid;
pub mod domctl;
pub mod errno;
pub mod event;
pub mod features;
pub mod grant;
pub mod hvm;
pub mod hvm_context;
pub mod ids;
pub mod memory;
mod number;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod vcpu;
pub mod version;
pub mod xenbus;

pub use errno::XenErrno;
pub use features::Features;
pub use ids::{DomId, Gfn, PAGE_SHIFT, PAGE_SIZE};
pub use number::Number;

/// Checks a structure's size, its alignment and the offset of each field at compile time.
#[doc(hidden)]
#[macro_export]
macro_rules! assert_layout {
    ($type:ty, size = $size:expr, align = $align:expr, { $($field:ident: $offset:expr),* $(,)? }) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size, concat!("size of ", stringify!($type)));
            assert!(core::mem::align_of::<$type>() == $align, concat!("alignment of ", stringify!($type)));
            $(assert!(
                core::mem::offset_of!($type, $field) == $offset,
                concat!("offset of ", stringify!($type), "::", stringify!($field))
            );)*
        };
    };
}
pub use assert_layout;
