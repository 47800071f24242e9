//! Stopping every other vCPU at once, whatever it is at: for the report of a crash, and for the last line.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::running;
use crate::arch;
use crate::hypercall::{Xen, sched, vcpu};
use crate::sync::{NO_VCPU, PerVcpu, per_vcpu, this_vcpu};

/// The vCPU that the others are to make way for.
static ALONE: AtomicUsize = AtomicUsize::new(NO_VCPU);
/// Which have stopped.
static FROZEN: PerVcpu<AtomicBool> = per_vcpu!(AtomicBool::new(false));

/// How long to wait for the others' end, in ticks of the processor's own counter, which nothing here can break: about a
/// second.
const PATIENCE: u64 = 2_000_000_000;

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
    for vcpu in others() {
        // One that can't be told is waited for, for a while.
        let _ = vcpu::send_nmi(&xen, vcpu as u32);
    }
    // Acquire: pairs with the Release of `freeze`: what they printed is out.
    let frozen = || others().all(|vcpu| FROZEN.get(vcpu).is_none_or(|frozen| frozen.load(Ordering::Acquire)));
    let start = arch::time_stamp();
    while !frozen() && arch::time_stamp().wrapping_sub(start) < PATIENCE {
        // Where vCPUs share a processor, they have to be let run.
        sched::yield_now(&xen);
    }
}

/// To be called for an interrupt that can't be masked: if another vCPU is to be alone, this one stops.
pub fn freeze_if_told() {
    let alone = ALONE.load(Ordering::Relaxed);
    if alone != NO_VCPU && alone != this_vcpu::number() {
        freeze();
    }
}

fn freeze() -> ! {
    if let Some(frozen) = FROZEN.own() {
        // Release: pairs with the Acquire of `freeze_others`.
        frozen.store(true, Ordering::Release);
    }
    arch::halt()
}
