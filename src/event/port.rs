//! The state of a port: its vCPU, the handler of its events, the mark of an event, and the waiting task.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use core::task::{Poll, Waker};

use crate::abi::event::Port;
use crate::sync::IrqMutex;

/// A function called at once for an event, in the upcall.
pub type Handler = fn(Port);

/// The vCPU of a closed port.
pub const NO_VCPU: usize = usize::MAX;

/// One port.
pub struct LocalPort {
    /// The vCPU where its events come.
    pub vcpu: AtomicUsize,
    /// An event has come, and is not yet taken.
    pub marked: AtomicBool,
    /// It belonged to another vCPU before.
    moved: AtomicBool,
    /// The program keeps it masked: dropping an event doesn't unmask it.
    held: AtomicBool,
    /// Number of visits by an interrupt's handler since the port was opened.
    pub visits: AtomicU64,
    state: IrqMutex<State>,
}

#[derive(Default)]
struct State {
    handler: Option<Handler>,
    waker: Option<Waker>,
}

impl LocalPort {
    pub const fn new() -> Self {
        Self {
            vcpu: AtomicUsize::new(NO_VCPU),
            marked: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            held: AtomicBool::new(false),
            visits: AtomicU64::new(0),
            state: IrqMutex::new(State { handler: None, waker: None }),
        }
    }

    /// Gives a masked port to a vCPU, and to a handler if there is one.
    pub fn open(&self, vcpu: usize, handler: Option<Handler>) {
        self.state.with(|state| *state = State { handler, waker: None });
        self.marked.store(false, Ordering::Relaxed);
        self.moved.store(false, Ordering::Relaxed);
        self.held.store(false, Ordering::Relaxed);
        self.visits.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire of the upcall, which then sees the stores above.
        self.vcpu.store(vcpu, Ordering::Release);
    }

    /// Sets whether the program keeps the port masked.
    pub fn hold(&self, held: bool) {
        // SeqCst: `upcall::release` loads it again after unmasking.
        self.held.store(held, Ordering::SeqCst);
    }

    /// Returns whether the program keeps the port masked.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst) // SeqCst: see `hold`
    }

    /// Gives the port to another vCPU, before Xen does. The old vCPU's upcall passes further events on.
    pub fn move_to(&self, vcpu: usize) {
        self.moved.store(true, Ordering::Relaxed);
        // Release: pairs with the Acquire of the upcall.
        self.vcpu.store(vcpu, Ordering::Release);
        // SeqCst: pairs with the fence of `is_of`: either the new vCPU sees the mark of the old one's upcall, or that
        // upcall sees the move of the port.
        fence(Ordering::SeqCst);
    }

    /// Returns whether events may still come to an earlier vCPU of the port.
    pub fn was_moved(&self) -> bool {
        // Relaxed: the caller has read `vcpu` with Acquire, so it sees the store of `moved` in `move_to`.
        self.moved.load(Ordering::Relaxed)
    }

    /// Returns whether the port still belongs to that vCPU. A caller that marks an event must set the mark first.
    /// Returns `true` for a closed port: its mark doesn't matter.
    pub fn is_of(&self, vcpu: usize) -> bool {
        fence(Ordering::SeqCst); // SeqCst: see `move_to`
        [vcpu, NO_VCPU].contains(&self.vcpu.load(Ordering::Relaxed))
    }

    /// Makes it a closed port, without an owner.
    pub fn close(&self) {
        self.vcpu.store(NO_VCPU, Ordering::Relaxed);
        // Drop the waker outside the lock: its drop may run any code.
        let old = self.state.with(core::mem::take);
        drop(old);
    }

    /// Returns the handler, if it has one.
    pub fn handler(&self) -> Option<Handler> {
        self.state.with(|state| state.handler)
    }

    /// Registers a waker for the next event.
    pub fn wake_by(&self, waker: &Waker) {
        let old = self.state.with(|state| match &state.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => state.waker.replace(waker.clone()),
        });
        // If two tasks wait, the older one is woken, checks again, and waits again.
        old.into_iter().for_each(Waker::wake);
    }

    /// Polls for a task: takes an event with `take`, or registers the waker for the next one.
    pub fn poll<T>(&self, waker: &Waker, mut take: impl FnMut() -> Option<T>) -> Poll<T> {
        if let Some(event) = take() {
            return Poll::Ready(event);
        }
        self.wake_by(waker);
        // Check again: an event before the waker was registered woke no one.
        take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Marks an event, and wakes the waiting task.
    pub fn mark(&self) {
        // Release: pairs with the Acquire of `take_mark`.
        self.marked.store(true, Ordering::Release);
        let waker = self.state.with(|state| state.waker.take());
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes the mark. Returns whether it was set.
    pub fn take_mark(&self) -> bool {
        // Load first: callers poll the mark, and a plain load is cheaper than a locked swap. Acquire: pairs with the
        // Release of `mark`.
        self.marked.load(Ordering::Relaxed) && self.marked.swap(false, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::LocalPort;
    use core::sync::atomic::{AtomicU32, Ordering};
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    struct Counter(AtomicU32);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_mark_wakes_once_and_is_taken_once() {
        let slot = LocalPort::new();
        let (first, second) = (Arc::new(Counter(0.into())), Arc::new(Counter(0.into())));
        slot.open(0, None);
        slot.wake_by(&Waker::from(first.clone()));
        slot.wake_by(&Waker::from(second.clone()));
        assert_eq!(first.0.load(Ordering::Relaxed), 1, "the older one looks again");
        slot.mark();
        slot.mark();
        assert_eq!(second.0.load(Ordering::Relaxed), 1);
        assert!(slot.take_mark() && !slot.take_mark());
    }

    #[test]
    fn a_port_that_is_opened_again_has_nothing_of_before() {
        let slot = LocalPort::new();
        slot.open(0, None);
        slot.mark();
        slot.hold(true);
        slot.move_to(1);
        slot.close();
        slot.open(2, None);
        assert!(!slot.take_mark() && !slot.is_held() && !slot.was_moved());
    }

    #[test]
    fn an_event_before_the_waker_is_known_is_not_slept_over() {
        let (slot, counter) = (LocalPort::new(), Arc::new(Counter(0.into())));
        slot.open(0, None);
        let mut looks = 0;
        // The event comes between the two checks.
        let polled = slot.poll(&Waker::from(counter), || {
            looks += 1;
            let taken = slot.take_mark();
            if looks == 1 {
                slot.mark();
            }
            taken.then_some(())
        });
        assert!(polled.is_ready());
    }
}
