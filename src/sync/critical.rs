//! The critical section of the crate `critical-section`, for crates sharing data between interrupts and vCPUs: one
//! lock for the whole domain, with interrupts masked on the holder's vCPU. It is reentrant.

use core::sync::atomic::{AtomicUsize, Ordering};

use critical_section::{Impl, RawRestoreState};
use x86_64::instructions::interrupts;

use super::{NO_VCPU, this_vcpu};

/// The vCPU inside the critical section.
static HOLDER: AtomicUsize = AtomicUsize::new(NO_VCPU);

/// The state restored by `release`: interrupts were masked before; the vCPU was inside already, so it took no lock.
const WAS_MASKED: RawRestoreState = 1;
const WAS_INSIDE: RawRestoreState = 2;

struct Domain;
critical_section::set_impl!(Domain);

// SAFETY: only one vCPU at a time is inside: only it replaces NO_VCPU, by a compare-and-exchange, and puts it back.
// No handler on this vCPU interrupts it, because interrupts stay masked from before taking the lock until after its
// release.
unsafe impl Impl for Domain {
    unsafe fn acquire() -> RawRestoreState {
        let was_masked = !interrupts::are_enabled();
        loop {
            interrupts::disable();
            let own = this_vcpu::number();
            // Relaxed: this vCPU sees its own stores, and other vCPUs never store its number.
            if HOLDER.load(Ordering::Relaxed) == own {
                return WAS_INSIDE | WAS_MASKED;
            }
            // Acquire: pairs with the Release of `release`.
            if HOLDER.compare_exchange(NO_VCPU, own, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return if was_masked { WAS_MASKED } else { 0 };
            }
            // While it waits, interrupts keep their previous state.
            if !was_masked {
                interrupts::enable();
            }
            core::hint::spin_loop();
        }
    }

    unsafe fn release(before: RawRestoreState) {
        if before & WAS_INSIDE != 0 {
            return;
        }
        // Release: pairs with the Acquire of `acquire`.
        HOLDER.store(NO_VCPU, Ordering::Release);
        if before & WAS_MASKED == 0 {
            interrupts::enable();
        }
    }
}
