//! Event bits have two levels. The first is a selector word for each vCPU. Each of its bits stands for a word of
//! pending bits, the second level.

use core::sync::atomic::Ordering;

use crate::abi::event::Port;
use crate::abi::shared_info::{EVENT_WORDS, MAX_PORTS, SharedInfo, VcpuInfo};

/// Bits in a word.
const BITS: u32 = u64::BITS;

/// Returns the word of a port's bit, and the bit. Returns `None` if the port is out of range.
fn place(port: Port) -> Option<(usize, u64)> {
    (port.0 < MAX_PORTS).then_some(((port.0 / BITS) as usize, 1 << (port.0 % BITS)))
}

/// Masks a port. Returns whether it was unmasked.
pub fn mask(page: &SharedInfo, port: Port) -> bool {
    // AcqRel: pairs with Xen's test of this bit. For an event sent after this, Xen only sets the pending bit.
    place(port).is_some_and(|(word, bit)| page.evtchn_mask[word].fetch_or(bit, Ordering::AcqRel) & bit == 0)
}

/// Clears a port's mask bit. This doesn't deliver a pending event; the caller must do so.
pub fn clear_mask(page: &SharedInfo, port: Port) {
    if let Some((word, bit)) = place(port) {
        // SeqCst: the following load of the pending bit must not come before this.
        page.evtchn_mask[word].fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Returns whether a port is masked. Returns `true` if the port is out of range.
pub fn is_masked(page: &SharedInfo, port: Port) -> bool {
    place(port).is_none_or(|(word, bit)| page.evtchn_mask[word].load(Ordering::Relaxed) & bit != 0)
}

/// Returns whether an event is pending.
pub fn is_pending(page: &SharedInfo, port: Port) -> bool {
    // SeqCst: see `clear_mask`.
    place(port).is_some_and(|(word, bit)| page.evtchn_pending[word].load(Ordering::SeqCst) & bit != 0)
}

/// Takes a pending event. Returns whether there was one.
pub fn take_pending(page: &SharedInfo, port: Port) -> bool {
    // AcqRel: pairs with Xen's setting of the bit: the taker of the event sees the sender's earlier writes.
    place(port)
        .is_some_and(|(word, bit)| page.evtchn_pending[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0)
}

/// Puts a taken event back, for Xen to deliver again.
pub fn set_pending(page: &SharedInfo, port: Port) {
    if let Some((word, bit)) = place(port) {
        // SeqCst: see `clear_mask`; code unmasking the port loads this bit.
        page.evtchn_pending[word].fetch_or(bit, Ordering::SeqCst);
    }
}

/// Masks all ports, as at the start of a domain.
pub fn mask_all(page: &SharedInfo) {
    page.evtchn_mask.iter().for_each(|word| word.store(!0, Ordering::Relaxed));
}

/// Calls `visit` once for each pending, unmasked port in the words selected for this vCPU. The scan begins after
/// `last`, where the previous scan ended, and wraps around, so every pending port is visited within one round.
/// Returns the last port visited.
///
/// If `visit` returns `false` (for a port of another vCPU), the port isn't taken as the last one visited.
pub fn scan(page: &SharedInfo, info: &VcpuInfo, last: Port, mut visit: impl FnMut(Port) -> bool) -> Port {
    // The order matters: an event after the first swap raises another interrupt. Acquire: pairs with Xen, which sets
    // the pending bit, then the selector, then `upcall_pending`.
    info.upcall_pending.swap(0, Ordering::AcqRel);
    let selector = info.pending_sel.swap(0, Ordering::AcqRel);
    let first = Port((last.0 + 1) % MAX_PORTS);
    let mut visited = last;
    // The first word is scanned twice: from the first bit on, and at the end up to that bit.
    let (start, bit) = ((first.0 / BITS) as usize, first.0 % BITS);
    for step in 0..=EVENT_WORDS {
        let word = (start + step) % EVENT_WORDS;
        if selector & 1 << word == 0 {
            continue;
        }
        let range = match step {
            0 => !0 << bit,
            EVENT_WORDS => !(!0 << bit),
            _ => !0,
        };
        let pending = page.evtchn_pending[word].load(Ordering::Acquire); // as above
        let mut ready = pending & !page.evtchn_mask[word].load(Ordering::Relaxed) & range;
        while ready != 0 {
            let port = Port(word as u32 * BITS + ready.trailing_zeros());
            ready &= ready - 1;
            if visit(port) {
                visited = port;
            }
        }
    }
    visited
}

#[cfg(test)]
mod tests {
    use super::{
        MAX_PORTS, Ordering, Port, SharedInfo, clear_mask, is_masked, is_pending, mask, mask_all, scan,
        take_pending,
    };
    use std::boxed::Box;
    use std::vec::Vec;

    fn page() -> Box<SharedInfo> {
        let page = Box::<SharedInfo>::default();
        mask_all(&page);
        page
    }

    /// Sends an event as Xen does.
    fn send(page: &SharedInfo, port: u32) {
        let (word, bit) = ((port / 64) as usize, 1 << (port % 64));
        let before = page.evtchn_pending[word].fetch_or(bit, Ordering::AcqRel);
        if before & bit == 0 && page.evtchn_mask[word].load(Ordering::Acquire) & bit == 0 {
            page.vcpu_info[0].pending_sel.fetch_or(1 << word, Ordering::AcqRel);
            page.vcpu_info[0].upcall_pending.store(1, Ordering::Release);
        }
    }

    fn visited(page: &SharedInfo, last: u32) -> Vec<u32> {
        let mut seen = Vec::new();
        scan(page, &page.vcpu_info[0], Port(last), |port| {
            take_pending(page, port);
            seen.push(port.0);
            true
        });
        seen
    }

    #[test]
    fn every_port_is_visited_once_from_behind_the_last_on() {
        let page = page();
        let ports = [0, 1, 63, 64, 65, 130, 4000, MAX_PORTS - 1];
        ports.iter().for_each(|&port| clear_mask(&page, Port(port)));
        for last in 0..MAX_PORTS {
            ports.iter().for_each(|&port| send(&page, port));
            let (before, behind): (Vec<u32>, Vec<u32>) = ports.iter().partition(|&&port| port <= last);
            assert_eq!(visited(&page, last), [behind, before].concat(), "behind {last}");
            assert_eq!(visited(&page, last), [], "all are taken");
        }
    }

    #[test]
    fn what_is_masked_stays_pending() {
        let page = page();
        clear_mask(&page, Port(70));
        assert!(mask(&page, Port(70)) && !mask(&page, Port(70)));
        send(&page, 70);
        assert_eq!(visited(&page, 0), []);
        assert!(
            is_pending(&page, Port(70)) && take_pending(&page, Port(70)) && !take_pending(&page, Port(70))
        );
    }

    #[test]
    fn a_port_that_is_anothers_stays_and_does_not_count() {
        let page = page();
        [5, 6].iter().for_each(|&port| clear_mask(&page, Port(port)));
        [5, 6].iter().for_each(|&port| send(&page, port));
        let last = scan(&page, &page.vcpu_info[0], Port(0), |port| port == Port(5));
        assert_eq!(last, Port(5));
        assert!(is_pending(&page, Port(6)));
    }

    #[test]
    fn ports_that_there_cannot_be_are_nothing() {
        let page = page();
        for port in [Port(MAX_PORTS), Port(u32::MAX)] {
            clear_mask(&page, port);
            assert!(!mask(&page, port) && is_masked(&page, port) && !is_pending(&page, port));
            assert!(!take_pending(&page, port));
        }
    }
}
