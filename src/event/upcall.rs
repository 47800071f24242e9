//! Event delivery, by one path only: Xen interrupts a vCPU on [`VECTOR`], and the upcall scans the bits. It masks the
//! port of each event and marks the event, or calls the port's handler.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::port::LocalPort;
use super::ports;
use super::two_level;
use crate::abi::XenErrno;
use crate::abi::event::Port;
use crate::abi::shared_info::SharedInfo;
use crate::arch::trap::{self, TrapFrame};
use crate::hypercall::{Hypercall, Xen, event, hvm};
use crate::mm::shared_info;
use crate::sync::{InterruptGuard, PerVcpu, per_vcpu, this_vcpu};

/// The vector of the interrupt. It isn't an exception, and has no other use here.
pub const VECTOR: u8 = 0xf3;

/// The port where each vCPU's last scan ended.
static LAST: PerVcpu<AtomicU32> = per_vcpu!(AtomicU32::new(0));

/// Starts event delivery. The first vCPU calls this once, with the page in place and interrupts masked.
///
/// # Errors
///
/// `EBUSY` if the vector already has a handler; otherwise Xen's errno.
pub fn start(xen: Xen, page: &SharedInfo) -> Result<(), XenErrno> {
    two_level::mask_all(page);
    // SAFETY: the handler leaves interrupts masked. If the vector already has a handler, that one stays, and no event
    // would be delivered: so this fails.
    unsafe { trap::handle(VECTOR, upcall) }.map_err(|_| XenErrno::BUSY)?;
    hvm::deliver_events_by(&xen, VECTOR)
}

/// The handler of the interrupt.
fn upcall(_: &TrapFrame) {
    let own = this_vcpu::number();
    let (Some(xen), Some(page), Some(info), Some(last)) =
        (Xen::enabled(), shared_info::page(), shared_info::of_vcpu(own), LAST.get(own))
    else {
        return;
    };
    let ended_with = two_level::scan(page, info, Port(last.load(Ordering::Relaxed)), |port| {
        ports::get(port).is_some_and(|slot| visit(page, slot, own, port, |port| have_told(xen, port)))
    });
    last.store(ended_with.0, Ordering::Relaxed);
}

/// Handles one pending port. Returns whether it belongs to this vCPU. `tell` asks Xen to re-deliver a pending event
/// of a masked port.
fn visit(page: &SharedInfo, slot: &LocalPort, own: usize, port: Port, tell: impl Fn(Port)) -> bool {
    // Acquire: pairs with the Release of `LocalPort::open`.
    if slot.vcpu.load(Ordering::Acquire) != own {
        // Another vCPU's port: Xen interrupts that vCPU. But if the port was moved from here, Xen may have
        // interrupted this one.
        if slot.was_moved() && two_level::mask(page, port) {
            tell(port);
        }
        return false;
    }
    slot.visits.fetch_add(1, Ordering::Relaxed);
    // Ports with a handler aren't masked: their events come from our own domain or from Xen.
    let was_handled = slot.handler().is_some();
    let masked_here = !was_handled && two_level::mask(page, port);
    if !two_level::take_pending(page, port) {
        // A waiting vCPU took the event first; leave the port as it was.
        if masked_here {
            release(page, slot, port, tell);
        }
        return true;
    }
    // Check again: the port may have been closed and reopened, or moved. The event then belongs to the new owner.
    let has_come = match slot.handler() {
        Some(handler) if was_handled && slot.is_of(own) => {
            handler(port);
            true
        }
        Some(_) => false,
        // Mark first, then check the owner. If the port moves, the new vCPU sees the mark, or the event is passed on.
        None => {
            slot.mark();
            slot.is_of(own)
        }
    };
    if !has_come {
        two_level::set_pending(page, port);
        two_level::mask(page, port);
        tell(port);
    }
    true
}

/// Takes a pending event that the upcall hasn't marked yet, and masks the port until the event is dropped. Returns
/// whether there was one.
pub(super) fn claim(page: &SharedInfo, slot: &LocalPort, port: Port, tell: impl Fn(Port)) -> bool {
    let masked_here = two_level::mask(page, port);
    let taken = two_level::take_pending(page, port);
    if masked_here && !taken {
        release(page, slot, port, tell); // the upcall of the port's vCPU took the event first, and marks it
    }
    taken
}

/// Asks Xen to re-deliver a pending event of a masked port to whichever vCPU the port is bound to now.
pub(super) fn have_told(xen: impl Hypercall, port: Port) {
    // Ignore a failure: the port has been closed, so there is no event to deliver.
    let _ = event::unmask(&xen, port);
}

/// Unmasks a port, unless the program keeps it masked. If an event is pending then, Xen is asked to
/// deliver it.
pub(super) fn release(page: &SharedInfo, slot: &LocalPort, port: Port, tell: impl Fn(Port)) {
    if slot.is_held() {
        return;
    }
    two_level::clear_mask(page, port);
    if slot.is_held() {
        two_level::mask(page, port); // the program has just called `mask`, and `clear_mask` may have undone it
        return;
    }
    // An event that came while the port was masked raised no interrupt. Only Xen's unmask call can raise it now, and it
    // does nothing for a port whose mask bit is clear. So set the mask bit again first. If it is masked already, other
    // code, such as the upcall of a new event, has masked it in between, and will release the port itself.
    if two_level::is_pending(page, port) && two_level::mask(page, port) {
        tell(port);
    }
}

/// Moves the ports of an ending vCPU to the first one. Ports bound for good, such as its timer's, stay, and their
/// events are lost.
pub fn leave(xen: Xen, vcpu: usize) {
    if let Some(gone) = GONE.get(vcpu) {
        gone.store(true, Ordering::Relaxed);
    }
    let Some(page) = shared_info::page() else { return };
    for (port, slot) in ports::of_vcpu(vcpu) {
        let _ = move_to(xen, page, slot, port, 0);
    }
}

/// Set for vCPUs that receive no more events.
static GONE: PerVcpu<AtomicBool> = per_vcpu!(AtomicBool::new(false));

/// Moves a port's events to another vCPU.
pub(super) fn move_to(
    xen: impl Hypercall + Copy,
    page: &SharedInfo,
    slot: &LocalPort,
    port: Port,
    vcpu: usize,
) -> Result<(), XenErrno> {
    if GONE.get(vcpu).is_none_or(|gone| gone.load(Ordering::Relaxed)) {
        return Err(XenErrno::NOENT);
    }
    // Mask interrupts: below, the slot moves before Xen knows. Until then, an upcall on this vCPU would find that the
    // port is no longer its own, and ask Xen to deliver the event again. Xen would deliver it to this vCPU again,
    // without end.
    let _masked = InterruptGuard::mask();
    let was_unmasked = two_level::mask(page, port);
    let before = slot.vcpu.load(Ordering::Relaxed);
    // Before Xen knows: an upcall on the new vCPU must find the port to be its own.
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
    use super::{LocalPort, Port, SharedInfo, claim, release, two_level, visit};
    use core::cell::Cell;
    use core::sync::atomic::Ordering;
    use std::boxed::Box;

    const PORT: Port = Port(70);

    /// Returns a port that is open on vCPU 0 and unmasked.
    fn open() -> (Box<SharedInfo>, LocalPort) {
        let (page, slot) = (Box::<SharedInfo>::default(), LocalPort::new());
        two_level::mask_all(&page);
        slot.open(0, None);
        two_level::clear_mask(&page, PORT);
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
        // Another vCPU took the event between Xen's interrupt and the check of the port.
        let (page, slot) = open();
        assert!(visit(&page, &slot, 0, PORT, nobody));
        assert!(!two_level::is_masked(&page, PORT) && !slot.take_mark());
        assert!(!claim(&page, &slot, PORT, nobody));
        assert!(!two_level::is_masked(&page, PORT));
        // A port that was masked before stays masked.
        two_level::mask(&page, PORT);
        assert!(visit(&page, &slot, 0, PORT, nobody) && !claim(&page, &slot, PORT, nobody));
        assert!(two_level::is_masked(&page, PORT));
    }

    #[test]
    fn who_comes_first_masks_the_port() {
        let (page, slot) = open();
        send(&page);
        assert!(visit(&page, &slot, 0, PORT, nobody));
        assert!(two_level::is_masked(&page, PORT) && slot.take_mark() && !two_level::is_pending(&page, PORT));
        let (page, slot) = open();
        send(&page);
        assert!(claim(&page, &slot, PORT, nobody) && two_level::is_masked(&page, PORT) && !slot.take_mark());
    }

    #[test]
    fn an_event_of_a_port_that_has_moved_is_passed_on() {
        let (page, slot) = open();
        send(&page);
        slot.move_to(1);
        let told = Cell::new(0);
        assert!(!visit(&page, &slot, 0, PORT, |_| told.set(told.get() + 1)));
        assert!(told.get() == 1 && two_level::is_masked(&page, PORT) && two_level::is_pending(&page, PORT));
        // The new vCPU takes it.
        two_level::clear_mask(&page, PORT);
        assert!(visit(&page, &slot, 1, PORT, nobody) && slot.take_mark());
    }

    #[test]
    fn what_the_program_masks_no_event_unmasks() {
        let (page, slot) = open();
        two_level::mask(&page, PORT);
        slot.hold(true);
        release(&page, &slot, PORT, nobody);
        assert!(two_level::is_masked(&page, PORT));
        slot.hold(false);
        send(&page);
        let told = Cell::new(0);
        release(&page, &slot, PORT, |_| told.set(told.get() + 1));
        assert_eq!(told.get(), 1, "it is pending");
    }
}
