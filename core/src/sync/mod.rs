//! Atomics, lock-free sets, and the identity of the calling vCPU.

#[allow(unsafe_code, reason = "atomics in memory that is Xen's as well")]
pub mod atomic;
pub(crate) mod bits;
#[allow(unsafe_code, reason = "a promise that only the kernel can make, which numbers the vCPUs")]
mod vcpu;

pub use bits::OutOfMemory;
#[cfg(any(test, feature = "std"))]
pub use vcpu::HostThread;
pub use vcpu::{NO_VCPU, Vcpu};
