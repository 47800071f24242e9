//! The critical section of the crate `critical-section`, for crates that share data between interrupts and vCPUs by it: one
//! lock for the whole domain, with interrupts masked on the vCPU that has it. It may be taken again inside of itself.

use core::sync::atomic::{AtomicUsize, Ordering};

use critical_section::{Impl, RawRestoreState};
use x86_64::instructions::interrupts;

use super::{NO_VCPU, this_vcpu};

/// The vCPU that is inside.
static HOLDER: AtomicUsize = AtomicUsize::new(NO_VCPU);

/// What is to be put back at the end: interrupts were masked before, and nothing was taken.
const WAS_MASKED: RawRestoreState = 1;
const WAS_INSIDE: RawRestoreState = 2;

struct Domain;
critical_section::set_impl!(Domain);

// SAFETY: one vCPU at a time is inside: it alone replaces NO_VCPU, by a compare-and-exchange, and puts it back; and no handler
// of its own interrupts it, for interrupts are masked from before to after.
unsafe impl Impl for Domain {
    unsafe fn acquire() -> RawRestoreState {
        let was_masked = !interrupts::are_enabled();
        loop {
            interrupts::disable();
            let own = this_vcpu::number();
            // Relaxed: what this vCPU stored it sees; what others store is never its own number.
            if HOLDER.load(Ordering::Relaxed) == own {
                return WAS_INSIDE | WAS_MASKED;
            }
            // Acquire: pairs with the Release of `release`.
            if HOLDER.compare_exchange(NO_VCPU, own, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return if was_masked { WAS_MASKED } else { 0 };
            }
            // While it waits, interrupts are as they were.
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
