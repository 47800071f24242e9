//! What is known of a port: whose vCPU it is, what is done about its events, whether one is marked, and who waits for it.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use core::task::{Poll, Waker};

use crate::abi::event::Port;
use crate::sync::IrqMutex;

/// What is done about an event at once, in the interrupt's handler.
pub type Handler = fn(Port);

/// Nobody's port.
pub const NO_VCPU: usize = usize::MAX;

/// One port.
pub struct Slot {
    /// The vCPU that its events come to.
    pub vcpu: AtomicUsize,
    /// An event came, and waits to be taken.
    pub marked: AtomicBool,
    /// It was another vCPU's before.
    moved: AtomicBool,
    /// The program masked it: no event's end unmasks it.
    held: AtomicBool,
    /// How often it was visited by an interrupt's handler, since it was opened.
    pub visits: AtomicU64,
    state: IrqMutex<State>,
}

#[derive(Default)]
struct State {
    handler: Option<Handler>,
    waker: Option<Waker>,
}

impl Slot {
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

    /// Gives the port, which is masked, to a vCPU, and to a handler if there is one.
    pub fn open(&self, vcpu: usize, handler: Option<Handler>) {
        self.state.with(|state| *state = State { handler, waker: None });
        self.marked.store(false, Ordering::Relaxed);
        self.moved.store(false, Ordering::Relaxed);
        self.held.store(false, Ordering::Relaxed);
        self.visits.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire of the upcall: it finds the handler.
        self.vcpu.store(vcpu, Ordering::Release);
    }

    /// Says whether the program keeps the port masked.
    pub fn hold(&self, held: bool) {
        // SeqCst: whoever unmasks looks at it again after that; see `delivery::release`.
        self.held.store(held, Ordering::SeqCst);
    }

    /// Whether the program keeps the port masked.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst) // SeqCst: see `hold`
    }

    /// Gives the port to another vCPU, before Xen does: an upcall that still comes to the old one passes it on.
    pub fn move_to(&self, vcpu: usize) {
        self.moved.store(true, Ordering::Relaxed);
        // Release: pairs with the Acquire of the upcall.
        self.vcpu.store(vcpu, Ordering::Release);
        // SeqCst: pairs with the fence of `is_of`: either the new vCPU sees the mark of the old one's upcall, or that
        // one sees that the port was moved.
        fence(Ordering::SeqCst);
    }

    /// Whether events may come to a vCPU that the port isn't of any more.
    pub fn was_moved(&self) -> bool {
        // Relaxed: whoever read the vCPU with Acquire sees what was stored before.
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether it is that vCPU's still, behind a mark; that of a port that is closed is nobody's concern.
    pub fn is_of(&self, vcpu: usize) -> bool {
        fence(Ordering::SeqCst); // SeqCst: see `move_to`
        [vcpu, NO_VCPU].contains(&self.vcpu.load(Ordering::Relaxed))
    }

    /// Makes it nobody's.
    pub fn close(&self) {
        self.vcpu.store(NO_VCPU, Ordering::Relaxed);
        // A waker is dropped outside the lock: it may do anything.
        let old = self.state.with(core::mem::take);
        drop(old);
    }

    /// The handler, if it has one.
    pub fn handler(&self) -> Option<Handler> {
        self.state.with(|state| state.handler)
    }

    /// Has a waker woken by the next event.
    pub fn wake_by(&self, waker: &Waker) {
        let old = self.state.with(|state| match &state.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => state.waker.replace(waker.clone()),
        });
        // Of two that wait, the older looks again, and waits again.
        old.into_iter().for_each(Waker::wake);
    }

    /// What a task gets: an event, by `take`, or a wake-up by the next one.
    pub fn poll<T>(&self, waker: &Waker, mut take: impl FnMut() -> Option<T>) -> Poll<T> {
        if let Some(event) = take() {
            return Poll::Ready(event);
        }
        self.wake_by(waker);
        // Again, for an event before the waker was registered woke no one.
        take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Marks an event, and wakes whoever waits for it.
    pub fn mark(&self) {
        // Release: pairs with the Acquire of `take_mark`.
        self.marked.store(true, Ordering::Release);
        let waker = self.state.with(|state| state.waker.take());
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes the mark.
    pub fn take_mark(&self) -> bool {
        // Looked at first, since it is asked for over and over. Acquire: pairs with the Release of `mark`.
        self.marked.load(Ordering::Relaxed) && self.marked.swap(false, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::Slot;
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
        let slot = Slot::new();
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
        let slot = Slot::new();
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
        let (slot, counter) = (Slot::new(), Arc::new(Counter(0.into())));
        slot.open(0, None);
        let mut looks = 0;
        // The event comes between the first look and the second.
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
