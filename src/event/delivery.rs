//! The one way in which events come: Xen interrupts a vCPU on [`VECTOR`], and its handler looks at the bits. It only
//! marks what came, and masks its port.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::bits;
use super::slot::Slot;
use super::slots;
use crate::abi::XenErrno;
use crate::abi::event::Port;
use crate::abi::shared_info::SharedInfo;
use crate::arch::trap::{self, TrapFrame};
use crate::hypercall::{Hypercall, Xen, event, hvm};
use crate::mm::shared_info;
use crate::sync::{Masked, PerVcpu, per_vcpu, this_vcpu};

/// The vector of the interrupt. No exception has it, and nothing else here.
pub const VECTOR: u8 = 0xf3;

/// The port with which each vCPU's last scan ended.
static LAST: PerVcpu<AtomicU32> = per_vcpu!(AtomicU32::new(0));

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
    let ended_with = bits::scan(page, info, Port(last.load(Ordering::Relaxed)), |port| {
        slots::get(port).is_some_and(|slot| visit(page, slot, own, port, |port| have_told(xen, port)))
    });
    last.store(ended_with.0, Ordering::Relaxed);
}

/// One port that is pending. Returns whether it is this vCPU's. `tell` asks Xen to deliver once more what is pending at a
/// port that is masked.
fn visit(page: &SharedInfo, slot: &Slot, own: usize, port: Port, tell: impl Fn(Port)) -> bool {
    // Acquire: pairs with the Release of `Slot::open`.
    if slot.vcpu.load(Ordering::Acquire) != own {
        // Another's, whom Xen tells. If it was ours before, Xen may have told us in its stead.
        if slot.was_moved() && bits::mask(page, port) {
            tell(port);
        }
        return false;
    }
    slot.visits.fetch_add(1, Ordering::Relaxed);
    // One of our own sends what has a handler, or Xen: those are not masked.
    let was_handled = slot.handler().is_some();
    let masked_here = !was_handled && bits::mask(page, port);
    if !bits::take_pending(page, port) {
        // A vCPU that waits took it first; the port is left as it was.
        if masked_here {
            release(page, slot, port, tell);
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
        tell(port);
    }
    true
}

/// Takes what is pending at a port that nothing marked, and masks the port for as long as it is worked on.
pub(super) fn claim(page: &SharedInfo, slot: &Slot, port: Port, tell: impl Fn(Port)) -> bool {
    let masked_here = bits::mask(page, port);
    let taken = bits::take_pending(page, port);
    if masked_here && !taken {
        release(page, slot, port, tell); // its vCPU was first, and marks it
    }
    taken
}

/// Asks Xen to deliver what is pending at a port that is masked, to whichever vCPU it is bound to now.
pub(super) fn have_told(xen: impl Hypercall, port: Port) {
    // A port that isn't open any more has nothing to deliver.
    let _ = event::unmask(&xen, port);
}

/// Unmasks a port, unless the program keeps it masked; what is pending is delivered, now or by an interrupt.
pub(super) fn release(page: &SharedInfo, slot: &Slot, port: Port, tell: impl Fn(Port)) {
    if slot.is_held() {
        return;
    }
    bits::clear_mask(page, port);
    if slot.is_held() {
        bits::mask(page, port); // the program masked it just now, and may have done so before we unmasked it
        return;
    }
    // What came before the mask was cleared has told nobody: Xen is to look again, at a port that is masked. Whoever masked
    // it in between, as an interrupt does that came, has something to do, and unmasks it after that.
    if bits::is_pending(page, port) && bits::mask(page, port) {
        tell(port);
    }
}

/// Moves what comes to a vCPU that ends to the first one. What can't move, as its own timer, stays and is never heard of.
pub fn leave(xen: Xen, vcpu: usize) {
    if let Some(gone) = GONE.get(vcpu) {
        gone.store(true, Ordering::Relaxed);
    }
    let Some(page) = shared_info::page() else { return };
    for (port, slot) in slots::of_vcpu(vcpu) {
        let _ = move_to(xen, page, slot, port, 0);
    }
}

/// vCPUs to which no events come any more.
static GONE: PerVcpu<AtomicBool> = per_vcpu!(AtomicBool::new(false));

/// Has a port's events come to another vCPU.
pub(super) fn move_to(
    xen: impl Hypercall + Copy,
    page: &SharedInfo,
    slot: &Slot,
    port: Port,
    vcpu: usize,
) -> Result<(), XenErrno> {
    if GONE.get(vcpu).is_none_or(|gone| gone.load(Ordering::Relaxed)) {
        return Err(XenErrno::NOENT);
    }
    // An upcall here would pass on what comes meanwhile for as long as Xen doesn't know, which is now.
    let _masked = Masked::mask();
    let was_unmasked = bits::mask(page, port);
    let before = slot.vcpu.load(Ordering::Relaxed);
    // Before Xen knows: an upcall of the new vCPU finds the port to be its own.
    slot.move_to(vcpu);
    let moved = event::bind_vcpu(&xen, port, vcpu as u32);
    if moved.is_err() {
        slot.move_to(before);
    }
    if was_unmasked {
        release(page, slot, port, |port| have_told(xen, port));
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::{Port, SharedInfo, Slot, bits, claim, release, visit};
    use core::cell::Cell;
    use core::sync::atomic::Ordering;
    use std::boxed::Box;

    const PORT: Port = Port(70);

    /// A port that is open on vCPU 0 and unmasked.
    fn open() -> (Box<SharedInfo>, Slot) {
        let (page, slot) = (Box::<SharedInfo>::default(), Slot::new());
        bits::mask_all(&page);
        slot.open(0, None);
        bits::clear_mask(&page, PORT);
        (page, slot)
    }

    fn send(page: &SharedInfo) {
        page.evtchn_pending[1].fetch_or(1 << 6, Ordering::SeqCst);
    }

    fn nobody(port: Port) {
        panic!("Xen was asked about {port:?}");
    }

    #[test]
    fn who_comes_second_leaves_the_port_unmasked() {
        // The event was taken by another vCPU between Xen's interrupt and the look at the port.
        let (page, slot) = open();
        assert!(visit(&page, &slot, 0, PORT, nobody));
        assert!(!bits::is_masked(&page, PORT) && !slot.take_mark());
        assert!(!claim(&page, &slot, PORT, nobody));
        assert!(!bits::is_masked(&page, PORT));
        // One that was masked before stays so.
        bits::mask(&page, PORT);
        assert!(visit(&page, &slot, 0, PORT, nobody) && !claim(&page, &slot, PORT, nobody));
        assert!(bits::is_masked(&page, PORT));
    }

    #[test]
    fn who_comes_first_masks_the_port() {
        let (page, slot) = open();
        send(&page);
        assert!(visit(&page, &slot, 0, PORT, nobody));
        assert!(bits::is_masked(&page, PORT) && slot.take_mark() && !bits::is_pending(&page, PORT));
        let (page, slot) = open();
        send(&page);
        assert!(claim(&page, &slot, PORT, nobody) && bits::is_masked(&page, PORT) && !slot.take_mark());
    }

    #[test]
    fn an_event_of_a_port_that_has_moved_is_passed_on() {
        let (page, slot) = open();
        send(&page);
        slot.move_to(1);
        let told = Cell::new(0);
        assert!(!visit(&page, &slot, 0, PORT, |_| told.set(told.get() + 1)));
        assert!(told.get() == 1 && bits::is_masked(&page, PORT) && bits::is_pending(&page, PORT));
        // The new one takes it.
        bits::clear_mask(&page, PORT);
        assert!(visit(&page, &slot, 1, PORT, nobody) && slot.take_mark());
    }

    #[test]
    fn what_the_program_masks_no_event_unmasks() {
        let (page, slot) = open();
        bits::mask(&page, PORT);
        slot.hold(true);
        release(&page, &slot, PORT, nobody);
        assert!(bits::is_masked(&page, PORT));
        slot.hold(false);
        send(&page);
        let told = Cell::new(0);
        release(&page, &slot, PORT, |_| told.set(told.get() + 1));
        assert_eq!(told.get(), 1, "it is pending");
    }
}
