//! The real hypervisor: the hypercall page, and the only instruction sequence that enters it.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use super::cpuid::Hypervisor;
use super::{Hypercall, Number};
use crate::abi::DomId;
use crate::sync::{InterruptGuard, PerVcpu, Vcpu, per_vcpu, this_vcpu};

/// The hypervisor. A value of this type exists only once the hypercall page is in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Xen {
    // Not constructible outside: only `enable` knows that the page is in place.
    _enabled: (),
}

// SAFETY: each vCPU has its own number, and its interrupt handlers have none.
unsafe impl Vcpu for Xen {
    #[inline]
    fn index(&self) -> usize {
        this_vcpu::slot()
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        let _masked = InterruptGuard::mask();
        run()
    }
}

impl fmt::Debug for Xen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Xen")
    }
}

/// Whether the hypercall page is in place.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// The domain's number, once Xen is enabled.
static DOMAIN: AtomicU16 = AtomicU16::new(DomId::SELF.0);

/// Number of calls made so far by each vCPU.
static CALLS: PerVcpu<AtomicU64> = per_vcpu!(AtomicU64::new(0));

impl Xen {
    /// Returns the hypervisor, if [`enable`](Self::enable) found it.
    pub fn enabled() -> Option<Self> {
        // Acquire: pairs with the Release in `enable`; the page is filled before it is called.
        ENABLED.load(Ordering::Acquire).then_some(Self { _enabled: () })
    }

    /// Returns the number of hypercalls made so far by all vCPUs of this domain together.
    pub fn calls(self) -> u64 {
        CALLS.iter().map(|calls| calls.load(Ordering::Relaxed)).sum()
    }
}

/// Xen was not found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotXen(
    /// The hypervisor shown by CPUID instead.
    pub Hypervisor,
);

impl fmt::Display for NotXen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no Xen here: {}", self.0)
    }
}

impl core::error::Error for NotXen {}

#[cfg(granite_guest)]
mod page {
    use super::{CALLS, DOMAIN, DomId, ENABLED, Hypercall, Hypervisor, NotXen, Number, Ordering, Xen};
    use crate::abi::XenErrno;
    use crate::hypercall::{cpuid, event};
    use core::arch::{asm, global_asm};

    global_asm!(include_str!("../../boot/hypercall_page.S"));

    /// Stubs of 32 bytes in the page.
    const STUBS: usize = 128;

    unsafe extern "C" {
        /// The page of `boot/hypercall_page.S`.
        static HYPERCALL_PAGE: [[u8; 32]; STUBS];
    }

    impl Xen {
        /// Detects Xen and makes it fill the hypercall page.
        ///
        /// # Errors
        ///
        /// [`NotXen`] under another hypervisor, or under none.
        pub fn enable() -> Result<Self, NotXen> {
            let hypervisor = cpuid::hypervisor(cpuid::processor);
            let Hypervisor::Xen { base } = hypervisor else {
                return Err(NotXen(hypervisor));
            };
            let msr = cpuid::hypercall_msr(base, cpuid::processor);
            let page = &raw const HYPERCALL_PAGE as u64;
            // SAFETY: CPUID names this MSR for the hypercall page's guest-physical address, which equals the virtual
            // one (linker.ld). The page has no other content, so Xen overwrites no memory in use.
            unsafe { x86_64::registers::model_specific::Msr::new(msr).write(page) };
            // Release: pairs with the Acquire in `enabled`.
            ENABLED.store(true, Ordering::Release);
            let xen = Self { _enabled: () };
            let number = cpuid::domain(base, cpuid::processor).or_else(|| xen.number_by_a_port());
            DOMAIN.store(number.unwrap_or(DomId::SELF).0, Ordering::Relaxed);
            Ok(xen)
        }

        /// Finds the domain's number if CPUID doesn't show it, by the status of a port opened to the domain itself.
        fn number_by_a_port(self) -> Option<DomId> {
            let port = event::alloc_unbound(&self, DomId::SELF).ok()?;
            let status = event::status(&self, port);
            let _ = event::close(&self, port);
            status.ok().map(|status| status.peer)
        }
    }

    // SAFETY: the call goes to Xen itself, which defines the interface.
    unsafe impl Hypercall for Xen {
        #[inline]
        fn domain(&self) -> DomId {
            DomId(DOMAIN.load(Ordering::Relaxed))
        }

        unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
            let index = number.0 as usize;
            if index >= STUBS {
                return Err(XenErrno::NOSYS);
            }
            // SAFETY: the index is in bounds; only the stub's address is used.
            let stub = unsafe { &raw const HYPERCALL_PAGE[index] };
            if let Some(calls) = CALLS.own() {
                // A handler on this vCPU may count in between, and one of the two counts is lost. The figure is for
                // people only.
                calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            let result: i64;
            // SAFETY: `self` exists, so the page holds Xen's stubs. A stub takes its arguments in rdi, rsi, rdx, r10
            // and r8 (xen/include/public/arch-x86/xen-x86_64.h) and may change them, rax, rcx and r11. It uses the
            // stack, so `nostack` is not given. The caller vouches for pointers.
            unsafe {
                asm!(
                    "call {stub}",
                    stub = in(reg) stub,
                    lateout("rax") result,
                    inlateout("rdi") arguments[0] => _,
                    inlateout("rsi") arguments[1] => _,
                    inlateout("rdx") arguments[2] => _,
                    inlateout("r10") arguments[3] => _,
                    inlateout("r8") arguments[4] => _,
                    lateout("rcx") _,
                    lateout("r11") _,
                );
            }
            if result < 0 { Err(XenErrno(result.unsigned_abs() as i32)) } else { Ok(result as u64) }
        }
    }
}

#[cfg(not(granite_guest))]
mod absent {
    use super::{DOMAIN, DomId, Hypercall, Hypervisor, NotXen, Number, Ordering, Xen};
    use crate::abi::XenErrno;

    impl Xen {
        /// Always fails: the host has no Xen to enable. A process may not call one, even if the host runs on Xen.
        ///
        /// # Errors
        ///
        /// Always [`NotXen`].
        pub fn enable() -> Result<Self, NotXen> {
            Err(NotXen(Hypervisor::None))
        }
    }

    // SAFETY: it touches no memory.
    unsafe impl Hypercall for Xen {
        fn domain(&self) -> DomId {
            DomId(DOMAIN.load(Ordering::Relaxed))
        }

        unsafe fn call(&self, _: Number, _: [u64; 5]) -> Result<u64, XenErrno> {
            Err(XenErrno::NOSYS)
        }
    }
}
