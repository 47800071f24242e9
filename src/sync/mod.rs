//! Layer 0: locks shared with interrupt handlers, and per-vCPU data. Atomics and lock-free sets are those of
//! [`granite_core::sync`].

#[cfg(all(granite_guest, feature = "critical-section"))]
#[allow(unsafe_code, reason = "a promise of one at a time")]
mod critical;
mod irq_mutex;
mod per_vcpu;
#[allow(unsafe_code, reason = "what a vCPU's register points at")]
pub mod this_vcpu;

#[cfg(not(granite_guest))]
pub use granite_core::sync::HostThread;
pub(crate) use granite_core::sync::atomic;
pub use granite_core::sync::{NO_VCPU, OutOfMemory, Vcpu};
pub use irq_mutex::{InterruptGuard, IrqMutex};
#[doc(hidden)]
pub use per_vcpu::CachePadded;
pub use per_vcpu::PerVcpu;
pub(crate) use per_vcpu::per_vcpu;
pub use this_vcpu::MAX_VCPUS;
