//! Pages that change their domain: slots for receiving a page, and giving a page away.
//!
//! ```text
//! offered ──(peer transfers)──> committed ──(Xen places the page)───> completed
//!    └── withdraw()                 nothing to do but wait                └── complete()
//! ```

use core::fmt;
use core::mem::ManuallyDrop;

use super::GrantError;
use super::entry::{Entry, Payload};
use super::error::Failed;
use super::freelist::OwnedRef;
use super::table::GrantTable;
use crate::abi::grant::op::{Op, Transfer};
use crate::abi::grant::{EntryFlags, GrantRef, Status};
use crate::abi::{DomId, PAGE_SIZE};
use crate::hypercall::grant::OpError;
use crate::hypercall::{Hypercall, grant as op, memory};
use crate::mm::page::Bytes;
use crate::mm::windows::Window;
use crate::mm::{Page, SharedBytes};
use crate::time::{Deadline, pause};

/// The state of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotState {
    /// No transfer has begun.
    Offered,
    /// A page is on its way. The entry must be left alone.
    Committed,
    /// The page is there.
    Completed,
}

/// An empty place into which a peer may transfer a page.
///
/// Dropping it withdraws the offer. A committed slot goes to the quarantine until its page has come.
#[must_use = "dropping a slot withdraws it"]
pub struct TransferSlot<'t, X: Hypercall> {
    table: &'t GrantTable<X>,
    reference: ManuallyDrop<OwnedRef>,
    window: ManuallyDrop<Window>,
}

/// A page received by transfer. It is RAM of ours, at an address of a window. Dropping it gives it back to Xen.
pub struct ReceivedPage<'t, X: Hypercall> {
    table: &'t GrantTable<X>,
    window: ManuallyDrop<Window>,
}

impl<X: Hypercall> GrantTable<X> {
    /// Offers an empty place to `peer`.
    ///
    /// # Errors
    ///
    /// [`GrantError::NoWindow`] if no addresses are free, or an error of [`grant`](Self::grant); there is no page to
    /// return.
    pub fn accept_transfer(&self, peer: DomId) -> Result<TransferSlot<'_, X>, GrantError> {
        let window = self.windows.take(1)?;
        let offer = || {
            let reference = self.take(peer)?;
            let payload = Payload::Frame(window.first());
            match self.entry(&reference).publish(EntryFlags::ACCEPT_TRANSFER, peer, payload) {
                Ok(()) => Ok(reference),
                Err(unfit) => {
                    self.give_back(reference);
                    Err(unfit.into())
                }
            }
        };
        match offer() {
            Ok(reference) => Ok(TransferSlot {
                table: self,
                reference: ManuallyDrop::new(reference),
                window: ManuallyDrop::new(window),
            }),
            Err(error) => {
                // SAFETY: the window was just taken, and no page has come there.
                unsafe { self.windows.give_back(window) };
                Err(error)
            }
        }
    }

    /// Gives a page away, into a slot offered by `peer`. Only PV domains may do this; in a PVH guest the error says
    /// so.
    ///
    /// # Errors
    ///
    /// [`GrantError::Op`], with the page if it is still ours. According to Xen's header, any failure loses the page,
    /// except [`Status::BAD_PAGE`] and a call refused as a whole.
    #[doc(alias = "GNTTABOP_transfer")]
    pub fn transfer(&self, page: Page, peer: DomId, slot: GrantRef) -> Result<(), Failed<Option<Page>>> {
        let mut transfer =
            [Transfer { mfn: page.gfn().0, domid: peer, gref: slot, status: Status::UNANSWERED }];
        // SAFETY: the page is ours, and is forgotten below unless it stays ours.
        let called = unsafe { op::transfer(&self.xen, &mut transfer) };
        let [Transfer { status, .. }] = transfer;
        match OpError::check(Op::TRANSFER, called, status) {
            Ok(()) => {
                let _ = page.into_gfn();
                Ok(())
            }
            Err(error) => {
                let stays = status == Status::BAD_PAGE || matches!(error, OpError::Call(..));
                let value = if stays {
                    Some(page)
                } else {
                    let _ = page.into_gfn();
                    None
                };
                Err(Failed { error: error.into(), value })
            }
        }
    }
}

/// Returns the state described by these flags.
fn state(flags: EntryFlags) -> SlotState {
    if flags.contains(EntryFlags::TRANSFER_COMPLETED) {
        SlotState::Completed
    } else if flags.contains(EntryFlags::TRANSFER_COMMITTED) {
        SlotState::Committed
    } else {
        SlotState::Offered
    }
}

impl<'t, X: Hypercall> TransferSlot<'t, X> {
    /// Returns the reference. The peer needs it to transfer a page.
    pub fn gref(&self) -> GrantRef {
        self.reference.get()
    }

    /// Returns the current state.
    pub fn state(&self) -> SlotState {
        state(self.table.entry(&self.reference).flags())
    }

    /// Takes the page that has come.
    ///
    /// # Errors
    ///
    /// The slot, with [`GrantError::NotTransferred`] if no transfer has begun, or [`GrantError::Committed`] if the
    /// page is on its way.
    pub fn complete(self) -> Result<ReceivedPage<'t, X>, Failed<Self>> {
        let entry = self.table.entry(&self.reference);
        let error = match state(entry.flags()) {
            SlotState::Offered => GrantError::NotTransferred,
            SlotState::Committed => GrantError::Committed,
            SlotState::Completed => {
                // Xen is done with the entry, so a plain write is right.
                entry.clear();
                let table = self.table;
                let (reference, window) = self.into_parts();
                table.give_back(reference);
                return Ok(ReceivedPage { table, window: ManuallyDrop::new(window) });
            }
        };
        Err(Failed { error, value: self })
    }

    /// If a transfer is committed, waits for its page until the deadline and takes it. If none has begun, returns at
    /// once. Xen sends no event for this, so it polls.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn wait(self, deadline: Deadline) -> Result<ReceivedPage<'t, X>, Failed<Self>> {
        while self.state() == SlotState::Committed && !deadline.has_passed() {
            pause();
        }
        self.complete()
    }

    /// Takes the offer back.
    ///
    /// # Errors
    ///
    /// The slot, with [`GrantError::Committed`] once the peer has begun.
    pub fn withdraw(self) -> Result<(), Failed<Self>> {
        match self.table.entry(&self.reference).withdraw() {
            Ok(()) => {
                let table = self.table;
                let (reference, window) = self.into_parts();
                table.give_back(reference);
                // SAFETY: no transfer was committed, so no page has come there.
                unsafe { table.windows.give_back(window) };
                Ok(())
            }
            Err(_) => Err(Failed { error: GrantError::Committed, value: self }),
        }
    }

    fn into_parts(self) -> (OwnedRef, Window) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` isn't dropped and isn't used again, so both are taken once.
        unsafe { (ManuallyDrop::take(&mut this.reference), ManuallyDrop::take(&mut this.window)) }
    }
}

impl<X: Hypercall> Drop for TransferSlot<'_, X> {
    fn drop(&mut self) {
        // SAFETY: `self` is being dropped, so both are taken once.
        let (reference, window) =
            unsafe { (ManuallyDrop::take(&mut self.reference), ManuallyDrop::take(&mut self.window)) };
        if self.table.entry(&reference).withdraw().is_ok() {
            self.table.give_back(reference);
            // SAFETY: no transfer was committed, so no page has come there.
            unsafe { self.table.windows.give_back(window) };
        } else {
            // The entry records the window.
            self.table.quarantine(reference);
        }
    }
}

/// Releases a slot in quarantine: takes the offer back, or gives a received page back to Xen. Returns `false` while a
/// page is on its way.
pub(super) fn release<X: Hypercall>(table: &GrantTable<X>, entry: Entry<'_>) -> bool {
    let gfn = entry.frame();
    if entry.withdraw().is_ok() {
        // SAFETY: the window of the slot, left to the quarantine by its owner; no page has come there.
        unsafe { table.windows.give_back(Window::from_gfn(gfn)) };
        return true;
    }
    if state(entry.flags()) != SlotState::Completed {
        return false;
    }
    entry.clear();
    // SAFETY: the same window, with the page that came, which has no user.
    let window = unsafe { Window::from_gfn(gfn) };
    drop(ReceivedPage { table, window: ManuallyDrop::new(window) });
    true
}

impl<X: Hypercall> ReceivedPage<'_, X> {
    /// Returns the page's bytes.
    pub fn bytes(&self) -> &Bytes {
        // SAFETY: it is RAM of ours alone, mapped at the window's address, and borrowed.
        unsafe { &*(self.window.first().address() as *const Bytes) }
    }

    /// Returns the page's bytes, for changing.
    pub fn bytes_mut(&mut self) -> &mut Bytes {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { &mut *(self.window.first().address() as *mut Bytes) }
    }

    /// Returns the page as memory that other domains may use as well.
    pub fn shared(&mut self) -> SharedBytes<'_> {
        // SAFETY: as above; no reference to the bytes exists during this borrow.
        unsafe { SharedBytes::new(self.window.first().address() as *mut u8, PAGE_SIZE as usize) }
    }
}

impl<X: Hypercall> Drop for ReceivedPage<'_, X> {
    fn drop(&mut self) {
        // SAFETY: `self` is being dropped, so the window is taken once.
        let window = unsafe { ManuallyDrop::take(&mut self.window) };
        // SAFETY: the page is ours, and no one uses it any more.
        if unsafe { memory::release_page(&self.table.xen, window.first()) }.is_ok() {
            // SAFETY: Xen has taken the page, so the window is empty.
            unsafe { self.table.windows.give_back(window) };
        } else {
            self.table.lose(window);
        }
    }
}

impl<X: Hypercall> fmt::Debug for TransferSlot<'_, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransferSlot({}: {:?})", self.gref().0, self.state())
    }
}

impl<X: Hypercall> fmt::Debug for ReceivedPage<'_, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivedPage({})", self.window.first())
    }
}
