//! Stopping every other vCPU at once, whatever it is at: for the report of a crash.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::running;
use crate::arch;
use crate::hypercall::{Xen, vcpu};
use crate::sync::{NO_VCPU, this_vcpu};

/// The vCPU that the others are to make way for.
static ALONE: AtomicUsize = AtomicUsize::new(NO_VCPU);
/// How many have stopped.
static FROZEN: AtomicUsize = AtomicUsize::new(0);

/// How often to look for the others' end: without a clock, which may be what is broken.
const PATIENCE: u32 = 200_000;

/// Stops all vCPUs but this one, for good, by an interrupt that can't be masked. If another one is at it already, this
/// one stops. Returns when they have stopped, or after a while. A second call returns at once.
pub fn freeze_others() {
    let own = this_vcpu::number();
    // Relaxed: nothing else is published by it.
    match ALONE.compare_exchange(NO_VCPU, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        Err(alone) if alone == own => return,
        Err(_) => freeze(),
    }
    let Some(xen) = Xen::enabled() else { return };
    let others = || (0..running()).filter(|&vcpu| vcpu != own);
    let told = others().filter(|&vcpu| vcpu::send_nmi(&xen, vcpu as u32).is_ok()).count();
    // Acquire: pairs with the Release of `freeze`: what they printed is out.
    let frozen = || FROZEN.load(Ordering::Acquire) >= told;
    let _ = (0..PATIENCE).any(|_| {
        core::hint::spin_loop();
        frozen()
    });
}

/// To be called for an interrupt that can't be masked: if another vCPU is to be alone, this one stops.
pub fn freeze_if_told() {
    let alone = ALONE.load(Ordering::Relaxed);
    if alone != NO_VCPU && alone != this_vcpu::number() {
        freeze();
    }
}

fn freeze() -> ! {
    // Release: pairs with the Acquire of `freeze_others`.
    FROZEN.fetch_add(1, Ordering::Release);
    arch::halt()
}
