//! The one way in which events come: Xen interrupts a vCPU on [`VECTOR`], and its handler looks at the bits. It only
//! marks what came, and masks its port.

use core::sync::atomic::{AtomicU32, Ordering};

use super::{bits, slots};
use crate::abi::XenErrno;
use crate::abi::event::Port;
use crate::abi::shared_info::SharedInfo;
use crate::arch::trap::{self, TrapFrame};
use crate::hypercall::{Xen, event, hvm};
use crate::mm::shared_info;
use crate::sync::{MAX_VCPUS, this_vcpu};

/// The vector of the interrupt. No exception has it, and nothing else here.
pub const VECTOR: u8 = 0xf3;

/// The port with which each vCPU's last scan ended.
static LAST: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];

/// Has events delivered. The first vCPU calls it once, with the page in place and interrupts masked.
///
/// # Errors
///
/// What Xen says.
pub fn start(xen: Xen, page: &SharedInfo) -> Result<(), XenErrno> {
    bits::mask_all(page);
    // SAFETY: the handler leaves interrupts masked. Whoever took the vector before has it still: then no event would
    // be heard of.
    unsafe { trap::handle(VECTOR, upcall) }.map_err(|_| XenErrno::BUSY)?;
    hvm::deliver_events_by(&xen, VECTOR)
}

/// The handler.
fn upcall(_: &TrapFrame) {
    let own = this_vcpu::number();
    let (Some(xen), Some(page), Some(info), Some(last)) =
        (Xen::enabled(), shared_info::page(), shared_info::of_vcpu(own), LAST.get(own))
    else {
        return;
    };
    let ended_with =
        bits::scan(page, info, Port(last.load(Ordering::Relaxed)), |port| visit(xen, page, own, port));
    last.store(ended_with.0, Ordering::Relaxed);
}

/// One port that is pending. Tells whether it is this vCPU's.
fn visit(xen: Xen, page: &SharedInfo, own: usize, port: Port) -> bool {
    let Some(slot) = slots::get(port) else { return false };
    // Acquire: pairs with the Release of `Slot::open`.
    if slot.vcpu.load(Ordering::Acquire) != own {
        // Another's, whom Xen tells. Where it was ours before, Xen may have told us in its stead.
        if slot.was_moved() && bits::mask(page, port) {
            have_told(xen, port);
        }
        return false;
    }
    slot.visits.fetch_add(1, Ordering::Relaxed);
    // One of our own sends what has a handler, or Xen: those are not masked.
    let was_handled = slot.handler().is_some();
    let masked_here = !was_handled && bits::mask(page, port);
    if !bits::take_pending(page, port) {
        // Whoever waits on another vCPU took it first; the port is left as it was.
        if masked_here {
            unmask(xen, page, port);
        }
        return true;
    }
    // Asked again: the port may have been closed and opened since, or moved, and then the event is the new one's.
    let has_come = match slot.handler() {
        Some(handler) if was_handled && slot.is_of(own) => {
            handler(port);
            true
        }
        Some(_) => false,
        // In this order: a vCPU that it moves to sees the mark, or is told.
        None => {
            slot.mark();
            slot.is_of(own)
        }
    };
    if !has_come {
        bits::set_pending(page, port);
        bits::mask(page, port);
        have_told(xen, port);
    }
    true
}

/// Has Xen tell the vCPU of a port that is masked, whoever that is by now, if something is pending.
fn have_told(xen: Xen, port: Port) {
    // A port that isn't open any more has nothing to deliver.
    let _ = event::unmask(&xen, port);
}

/// Unmasks a port; what is pending is delivered, now or by an interrupt.
pub(super) fn unmask(xen: Xen, page: &SharedInfo, port: Port) {
    bits::clear_mask(page, port);
    // What came before the mask was cleared has told nobody: Xen is to look again, at a port that is masked. Whoever masked
    // it in between, as an interrupt does that came, has something to do, and unmasks it after that.
    if bits::is_pending(page, port) && bits::mask(page, port) {
        have_told(xen, port);
    }
}
