//! Floor 0: locks, atomics, sets that need no lock, and whose vCPU it is.

pub(crate) mod bits;
mod irq_mutex;
mod per_vcpu;
#[allow(unsafe_code, reason = "atomics in memory that is Xen's as well")]
pub mod primitive;
#[allow(unsafe_code, reason = "what a vCPU's register points at")]
pub mod this_vcpu;
#[allow(unsafe_code, reason = "a promise that only whoever numbers the vCPUs can make")]
mod vcpu;

pub use bits::OutOfMemory;
pub use irq_mutex::{IrqMutex, Masked};
#[doc(hidden)]
pub use per_vcpu::Line;
pub use per_vcpu::PerVcpu;
pub(crate) use per_vcpu::per_vcpu;
pub use this_vcpu::MAX_VCPUS;
#[cfg(not(granite_guest))]
pub use vcpu::HostThread;
pub use vcpu::{NO_VCPU, Vcpu};
