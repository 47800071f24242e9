//! Stopping all other vCPUs at once, whatever they are doing: for the report of a crash, and for the last line.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::running;
use crate::arch;
use crate::hypercall::{Xen, sched, vcpu};
use crate::sync::{NO_VCPU, PerVcpu, per_vcpu, this_vcpu};

/// The vCPU for which the others must stop.
static ALONE: AtomicUsize = AtomicUsize::new(NO_VCPU);
/// Set for each stopped vCPU.
static FROZEN: PerVcpu<AtomicBool> = per_vcpu!(AtomicBool::new(false));

/// Timeout for the others to stop, in ticks of the processor's own counter, which the kernel can't break: about a
/// second.
const TIMEOUT: u64 = 2_000_000_000;

/// Stops all other vCPUs for good, by a non-maskable interrupt. If another vCPU already does so, this one stops.
/// Returns after the others have stopped, or after the timeout. A second call returns at once.
pub fn freeze_others() {
    let own = this_vcpu::number();
    // Relaxed: it publishes no other data.
    match ALONE.compare_exchange(NO_VCPU, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        Err(alone) if alone == own => return,
        Err(_) => freeze(),
    }
    let Some(xen) = Xen::enabled() else { return };
    let others = || (0..running()).filter(|&vcpu| vcpu != own);
    for vcpu in others() {
        // If a vCPU can't be interrupted, the wait below ends by its timeout.
        let _ = vcpu::send_nmi(&xen, vcpu as u32);
    }
    // Acquire: pairs with the Release of `freeze`: the output of the others is complete.
    let frozen = || others().all(|vcpu| FROZEN.get(vcpu).is_none_or(|frozen| frozen.load(Ordering::Acquire)));
    let start = arch::time_stamp();
    while !frozen() && arch::time_stamp().wrapping_sub(start) < TIMEOUT {
        // vCPUs sharing a processor must get time to run.
        sched::yield_now(&xen);
    }
}

/// Called for a non-maskable interrupt: stops this vCPU if another one has called `freeze_others`.
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
