//! The header's protocols on one entry, against a model of Xen working on it (`xen/common/grant_table.c`, following
//! `_set_status` and `gnttab_clear_flags`).

use granite_core::abi::grant::EntryFlags;
use granite_core::abi::{DomId, Gfn};
use granite_core::entry::{Entry, Payload};
use granite_core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const PEER: DomId = DomId(7);
const FRAME: Gfn = Gfn(42);

/// An entry, and the page it grants.
struct Granted {
    version: u32,
    word: AtomicU32,
    small: AtomicU32,
    large: AtomicU64,
    status: AtomicU16,
    page: UnsafeCell<u32>,
}

// SAFETY: loom checks that the page has one user at a time.
unsafe impl Sync for Granted {}
// SAFETY: as above.
unsafe impl Send for Granted {}

impl Granted {
    fn new(version: u32) -> Arc<Self> {
        Arc::new(Self {
            version,
            word: AtomicU32::new(0),
            small: AtomicU32::new(0),
            large: AtomicU64::new(0),
            status: AtomicU16::new(0),
            page: UnsafeCell::new(0),
        })
    }

    fn entry(&self) -> Entry<'_> {
        match self.version {
            1 => Entry::V1 { word: &self.word, frame: &self.small },
            _ => Entry::V2 { word: &self.word, part: &self.small, frame: &self.large, status: &self.status },
        }
    }

    fn grant(&self) {
        self.touch();
        self.entry().publish(EntryFlags::PERMIT_ACCESS, PEER, Payload::Frame(FRAME)).unwrap();
    }

    fn touch(&self) {
        // SAFETY: the owner of the page is its only user, or loom reports a race.
        self.page.with_mut(|page| unsafe { *page += 1 });
    }

    /// Does the work of Xen when a peer maps, uses and unmaps the page. Returns whether Xen granted access.
    fn map_and_unmap(&self, writing: bool) -> bool {
        let wanted = if writing { EntryFlags::READING | EntryFlags::WRITING } else { EntryFlags::READING };
        let wanted = u32::from(wanted.bits());
        let refused = |word: u32| {
            let flags = EntryFlags::from_bits_retain(word as u16);
            flags.entry_type() != EntryFlags::PERMIT_ACCESS
                || word >> 16 != u32::from(PEER.0)
                || (writing && flags.contains(EntryFlags::READONLY))
        };
        if self.version == 1 {
            let mut word = self.word.load(Ordering::Acquire);
            loop {
                if refused(word) {
                    return false;
                }
                match self.word.compare_exchange(word, word | wanted, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break,
                    Err(now) => word = now,
                }
            }
        } else {
            if refused(self.word.load(Ordering::Acquire)) {
                return false;
            }
            self.status.fetch_or(wanted as u16, Ordering::AcqRel);
            fence(Ordering::SeqCst);
            if refused(self.word.load(Ordering::Acquire)) {
                self.status.fetch_and(!wanted as u16, Ordering::AcqRel);
                return false;
            }
        }
        assert_eq!(self.entry().frame(), FRAME);
        if writing {
            self.touch();
        }
        if self.version == 1 {
            self.word.fetch_and(!wanted, Ordering::AcqRel);
        } else {
            self.status.fetch_and(!wanted as u16, Ordering::AcqRel);
        }
        true
    }
}

fn explore(version: u32, model: impl Fn(&Arc<Granted>) + Sync + Send + 'static) {
    loom::model(move || model(&Granted::new(version)));
}

fn publish_against_xen(version: u32) {
    explore(version, |granted| {
        let xen = granted.clone();
        let xen = thread::spawn(move || xen.map_and_unmap(true));
        granted.grant();
        xen.join().unwrap();
    });
}

fn end_access_against_xen(version: u32) {
    explore(version, move |granted| {
        granted.grant();
        let xen = granted.clone();
        let xen = thread::spawn(move || xen.map_and_unmap(true));
        let ended = granted.entry().end_access();
        if ended.is_ok() {
            // The page is ours again: the peer must not use it any more.
            granted.touch();
        }
        let mapped = xen.join().unwrap();
        assert!(ended.is_ok() || mapped || version == 2, "busy, and the peer has not mapped it");
        if ended.is_err() {
            assert_eq!(granted.entry().end_access(), Ok(()), "unmapped by now");
        }
    });
}

fn make_readonly_against_xen(version: u32) {
    explore(version, |granted| {
        granted.grant();
        let xen = granted.clone();
        let xen = thread::spawn(move || xen.map_and_unmap(true));
        let made = granted.entry().make_readonly();
        if made.is_ok() {
            // The peer can't write any more: the contents read now are stable.
            granted.touch();
        }
        xen.join().unwrap();
        let flags = granted.entry().flags();
        assert_eq!(flags.contains(EntryFlags::READONLY), made.is_ok());
        assert!(!flags.in_use());
        granted.entry().make_writable();
        assert!(granted.map_and_unmap(true));
    });
}

#[test]
fn publish_against_xen_v1() {
    publish_against_xen(1);
}

#[test]
fn publish_against_xen_v2() {
    publish_against_xen(2);
}

#[test]
fn end_access_against_xen_pinning_v1() {
    end_access_against_xen(1);
}

#[test]
fn end_access_against_xen_pinning_v2() {
    end_access_against_xen(2);
}

#[test]
fn make_readonly_against_xen_pinning_for_write_v1() {
    make_readonly_against_xen(1);
}

#[test]
fn make_readonly_against_xen_pinning_for_write_v2() {
    make_readonly_against_xen(2);
}

/// A peer writing to a page made writable sees everything written to it before.
fn make_writable_against_xen(version: u32) {
    explore(version, |granted| {
        granted.grant();
        granted.entry().make_readonly().unwrap();
        let xen = granted.clone();
        let xen = thread::spawn(move || xen.map_and_unmap(true));
        // The peer may not write yet.
        granted.touch();
        granted.entry().make_writable();
        xen.join().unwrap();
    });
}

#[test]
fn make_writable_against_xen_mapping_for_write_v1() {
    make_writable_against_xen(1);
}

#[test]
fn make_writable_against_xen_mapping_for_write_v2() {
    make_writable_against_xen(2);
}

/// A grant whose end failed still grants as before.
fn restored_after_a_peer_was_faster(version: u32) {
    explore(version, |granted| {
        granted.grant();
        let xen = granted.clone();
        let xen = thread::spawn(move || xen.map_and_unmap(false));
        let ended = granted.entry().end_access();
        xen.join().unwrap();
        assert_eq!(granted.map_and_unmap(false), ended.is_err());
    });
}

#[test]
fn a_grant_that_could_not_be_ended_grants_again_v1() {
    restored_after_a_peer_was_faster(1);
}

#[test]
fn a_grant_that_could_not_be_ended_grants_again_v2() {
    restored_after_a_peer_was_faster(2);
}

/// A slot is withdrawn after Xen has refused a transfer to it: Xen sees the owner's accesses before the offer, and
/// the owner sees Xen's accesses before the withdrawal.
#[test]
fn withdraw_against_a_transfer_that_is_refused() {
    explore(1, |slot| {
        let offered = EntryFlags::ACCEPT_TRANSFER;
        slot.touch();
        slot.entry().publish(offered, PEER, Payload::Frame(Gfn(0))).unwrap();
        let xen = slot.clone();
        let xen = thread::spawn(move || {
            let word = u32::from(PEER.0) << 16 | u32::from(offered.bits());
            let committed = word | u32::from(EntryFlags::TRANSFER_COMMITTED.bits());
            if xen.word.compare_exchange(word, committed, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                xen.touch();
                // The transfer fails, and Xen releases the slot.
                xen.word.fetch_and(!u32::from(EntryFlags::TRANSFER_COMMITTED.bits()), Ordering::Release);
            }
        });
        while slot.entry().withdraw().is_err() {
            thread::yield_now();
        }
        slot.touch();
        xen.join().unwrap();
    });
}

/// A slot is either withdrawn or receives a page, never both.
#[test]
fn withdraw_against_transfer() {
    explore(1, |slot| {
        let offered = EntryFlags::ACCEPT_TRANSFER;
        slot.entry().publish(offered, PEER, Payload::Frame(Gfn(0))).unwrap();
        let xen = slot.clone();
        let xen = thread::spawn(move || {
            let word = u32::from(PEER.0) << 16 | u32::from(offered.bits());
            let committed = word | u32::from(EntryFlags::TRANSFER_COMMITTED.bits());
            if xen.word.compare_exchange(word, committed, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                return false;
            }
            xen.touch();
            xen.small.store(FRAME.0 as u32, Ordering::Relaxed);
            xen.word.fetch_or(EntryFlags::TRANSFER_COMPLETED.bits().into(), Ordering::Release);
            true
        });
        let withdrawn = slot.entry().withdraw();
        if withdrawn.is_err() {
            while !slot.entry().flags().contains(EntryFlags::TRANSFER_COMPLETED) {
                thread::yield_now();
            }
            assert_eq!(slot.entry().frame(), FRAME);
        }
        slot.touch();
        assert_eq!(xen.join().unwrap(), withdrawn.is_err());
    });
}
