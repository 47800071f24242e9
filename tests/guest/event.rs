//! Event channels: between a domain and itself, and in `pair` between two.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use granite::abi::event::{Port, PortState, VirtualInterrupt};
use granite::abi::{DomId, XenErrno};
use granite::event::{EventError, Interdomain, Ipi, Unbound, VirtualIrq};
use granite::hypercall::{Xen, event};
use granite::sync::InterruptGuard;
use granite::time::{Deadline, TimedOut};

use crate::harness::{Case, Context, NotPassed, Rig, UNDER_XEN};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("event::a_loop_to_oneself", UNDER_XEN, loop_to_oneself),
    Case::new("event::the_port_is_masked_until_the_work_is_done", UNDER_XEN, late_unmask),
    Case::new("event::what_is_masked_waits", UNDER_XEN, masked),
    Case::new("event::a_wait_ends_at_its_deadline", UNDER_XEN, deadline),
    Case::new("event::polling_with_interrupts_masked", UNDER_XEN, poll),
    Case::new("event::check_then_halt_loses_no_wake_up", UNDER_XEN, check_then_halt),
    Case::new("event::a_storm_costs_one_interrupt", UNDER_XEN, storm),
    Case::new("event::every_port_has_its_turn", UNDER_XEN, fairness),
    Case::new("event::a_dropped_channel_is_closed", UNDER_XEN, closed),
    Case::new("event::ports_run_out_and_come_back", &[Rig::Solo, Rig::Lab], exhaustion),
    Case::new("event::handlers_run_in_the_interrupt", UNDER_XEN, handlers),
    Case::new("event::a_task_is_woken", UNDER_XEN, task),
    Case::new("event::what_xen_refuses_is_an_error", UNDER_XEN, refused),
    Case::with_peer("event::between_two_domains", &[Rig::Pair], between_two, between_two_peer),
    Case::with_peer("event::a_peer_that_sends_without_end", &[Rig::Pair], flooded, flooded_peer),
];

fn fail(error: impl alloc::string::ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn at_once() -> Deadline {
    Deadline::after(Duration::from_millis(2))
}

/// Two ends in this domain, with nothing pending.
fn pair(context: &Context) -> Result<(Interdomain, Interdomain), NotPassed> {
    let (xen, own) = (context.xen()?, context.platform()?.dom_id());
    let listening = Unbound::new(xen, own).map_err(fail)?;
    let connected = Interdomain::connect(xen, own, listening.port()).map_err(fail)?;
    let listening = listening.accept().map_err(|(error, _)| fail(error))?;
    // Xen says hello to whoever connects.
    drop(connected.take());
    drop(listening.take());
    Ok((listening, connected))
}

fn loop_to_oneself(context: &Context) -> Result<(), NotPassed> {
    let (one, other) = pair(context)?;
    for _ in 0..20 {
        one.send().map_err(fail)?;
        check_same!(other.wait(soon()).map_err(fail)?.port(), other.port());
        other.send().map_err(fail)?;
        drop(one.wait(soon()).map_err(fail)?);
    }
    check!(one.take().is_none() && other.take().is_none());
    Ok(())
}

/// What comes while an event is worked on is one more event, afterwards.
fn late_unmask(context: &Context) -> Result<(), NotPassed> {
    let (one, other) = pair(context)?;
    one.send().map_err(fail)?;
    let event = other.wait(soon()).map_err(fail)?;
    check!(other.is_masked());
    let interrupts = other.interrupts();
    for _ in 0..10 {
        one.send().map_err(fail)?;
    }
    check_same!(other.interrupts(), interrupts);
    drop(event);
    // It comes by an interrupt, and once for all ten. (QEMU may deliver one twice, and the second finds nothing.)
    let deadline = soon();
    while other.interrupts() == interrupts {
        check!(!deadline.has_passed(), "what came meanwhile is not delivered");
        granite::time::pause();
    }
    check!(other.is_masked());
    drop(other.take());
    check_same!(other.interrupts(), interrupts + 1);
    check!(other.take().is_none());
    Ok(())
}

fn masked(context: &Context) -> Result<(), NotPassed> {
    let (one, other) = pair(context)?;
    other.mask();
    let interrupts = other.interrupts();
    one.send().map_err(fail)?;
    check_same!(other.interrupts(), interrupts);
    other.unmask();
    drop(other.wait(soon()).map_err(fail)?);
    check!(other.take().is_none() && !other.is_masked());
    Ok(())
}

fn deadline(context: &Context) -> Result<(), NotPassed> {
    let (_one, other) = pair(context)?;
    check!(matches!(other.wait(at_once()), Err(TimedOut)));
    check!(matches!(other.poll(at_once()), Err(TimedOut)));
    check!(!other.is_masked());
    Ok(())
}

fn poll(context: &Context) -> Result<(), NotPassed> {
    let (one, other) = pair(context)?;
    let _masked = InterruptGuard::mask();
    one.send().map_err(fail)?;
    drop(other.poll(soon()).map_err(fail)?);
    one.send().map_err(fail)?;
    drop(other.wait(soon()).map_err(fail)?);
    check!(other.take().is_none());
    Ok(())
}

/// An event that comes between the last look and the halt ends the halt. Here it is sent by that very look.
fn check_then_halt(context: &Context) -> Result<(), NotPassed> {
    let (one, other) = pair(context)?;
    for _ in 0..50 {
        let mut looks = 0;
        // The second look is the one with interrupts masked: what is sent there is pending, and halting would be for
        // ever if the halt didn't unmask as it begins.
        let got = granite::time::wait_until(soon(), || {
            let event = other.take();
            looks += 1;
            if looks == 2 && event.is_none() && !granite::arch::interrupts_are_enabled() {
                let _ = one.send();
            }
            event.map(drop)
        });
        check!(got.is_ok(), "the wake-up was lost after {looks} looks");
        check!(looks >= 3, "{looks} looks");
    }
    Ok(())
}

fn storm(context: &Context) -> Result<(), NotPassed> {
    let (one, other) = pair(context)?;
    let interrupts = other.interrupts();
    for _ in 0..300 {
        one.send().map_err(fail)?;
    }
    check_same!(other.interrupts(), interrupts + 1);
    drop(other.wait(soon()).map_err(fail)?);
    Ok(())
}

/// Sixty ports that are all pending at once are each visited.
fn fairness(context: &Context) -> Result<(), NotPassed> {
    let mut pairs = alloc::vec::Vec::new();
    for _ in 0..60 {
        pairs.push(pair(context)?);
    }
    {
        let _masked = InterruptGuard::mask();
        for (one, _) in &pairs {
            one.send().map_err(fail)?;
        }
    }
    for (_, other) in &pairs {
        drop(other.wait(soon()).map_err(fail)?);
    }
    Ok(())
}

fn closed(context: &Context) -> Result<(), NotPassed> {
    let xen = context.xen()?;
    let (one, other) = pair(context)?;
    let port = other.port();
    drop(other);
    let state = event::status(&xen, port).map_err(fail)?.status;
    check_same!(state, PortState::CLOSED);
    // The other end waits for somebody else then: that is Xen's rule.
    check_same!(event::status(&xen, one.port()).map_err(fail)?.status, PortState::UNBOUND);
    let own = context.platform()?.dom_id();
    let again = Interdomain::connect(xen, own, one.port()).map_err(fail)?;
    drop(one.take());
    again.send().map_err(fail)?;
    drop(one.wait(soon()).map_err(fail)?);
    Ok(())
}

/// As many as Xen lets a domain have; then an error, and nothing is lost.
fn exhaustion(context: &Context) -> Result<(), NotPassed> {
    let (xen, own) = (context.xen()?, context.platform()?.dom_id());
    let mut all = alloc::vec::Vec::new();
    let error = loop {
        match Unbound::new(xen, own) {
            Ok(port) => all.push(port),
            Err(error) => break error,
        }
    };
    check_same!(error, EventError::Xen(XenErrno::NOSPC));
    check!(all.len() > 900, "{}", all.len());
    let last = all.pop().map(|port| port.port());
    let again = Unbound::new(xen, own).map_err(fail)?;
    check_same!(Some(again.port()), last);
    Ok(())
}

fn handlers(context: &Context) -> Result<(), NotPassed> {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    let ipi = Ipi::with_handler(context.xen()?, 0, |_| {
        let inside = granite::sync::this_vcpu::is_handling() && !granite::arch::interrupts_are_enabled();
        SEEN.fetch_add(if inside { 1 } else { 1 << 16 }, Ordering::Relaxed);
    })
    .map_err(fail)?;
    SEEN.store(0, Ordering::Relaxed);
    for count in 1..=100 {
        ipi.send().map_err(fail)?;
        check_same!(SEEN.load(Ordering::Relaxed), count);
    }
    Ok(())
}

fn task(context: &Context) -> Result<(), NotPassed> {
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context as TaskContext, Poll, Waker};

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let (one, other) = pair(context)?;
    let count = Arc::new(Count(AtomicU32::new(0)));
    let waker = Waker::from(count.clone());
    let mut task = TaskContext::from_waker(&waker);
    let mut ready = pin!(other.ready());
    check!(ready.as_mut().poll(&mut task).is_pending());
    one.send().map_err(fail)?;
    check_same!(count.0.load(Ordering::Relaxed), 1);
    let Poll::Ready(event) = ready.as_mut().poll(&mut task) else { return Err(fail("it waits on")) };
    drop(event);
    Ok(())
}

fn refused(context: &Context) -> Result<(), NotPassed> {
    let xen: Xen = context.xen()?;
    let own = context.platform()?.dom_id();
    let nowhere = Interdomain::connect(xen, own, Port(4000)).err();
    check!(matches!(nowhere, Some(EventError::Xen(_))), "{nowhere:?}");
    let nobody = Interdomain::connect(xen, DomId(0x1234), Port(1)).err();
    check!(matches!(nobody, Some(EventError::Xen(_))), "{nobody:?}");
    check_same!(Ipi::new(xen, 99).err(), Some(EventError::Xen(XenErrno::NOENT)));
    // The first vCPU's timer has its port.
    let timer = VirtualIrq::new(xen, VirtualInterrupt::TIMER, 0).err();
    check_same!(timer, Some(EventError::Xen(XenErrno::EXIST)));
    let lonely = Unbound::new(xen, own).map_err(fail)?;
    let Err((error, lonely)) = lonely.accept() else { return Err(fail("nobody was accepted")) };
    check_same!(error, EventError::NotConnected(PortState::UNBOUND));
    check_same!(lonely.bind_to(99), Err(EventError::Xen(XenErrno::NOENT)));
    for port in [Port(0), Port(4095), Port(4096), Port(u32::MAX)] {
        check!(event::send(&xen, port).is_err(), "{port}");
    }
    Ok(())
}

/// The control domain opens a port for the other, which connects; each sends.
fn between_two(context: &Context) -> Result<(), NotPassed> {
    let listening = Unbound::new(context.xen()?, context.side_child()?).map_err(fail)?;
    context.tell(&listening.port().0.to_le_bytes())?;
    check_same!(context.hear()?, b"connected");
    let channel = listening.accept().map_err(|(error, _)| fail(error))?;
    for _ in 0..20 {
        channel.send().map_err(fail)?;
        drop(channel.wait(soon()).map_err(fail)?);
    }
    Ok(())
}

fn between_two_peer(context: &Context) -> Result<(), NotPassed> {
    let port = Port(context.hear()?.first_chunk().copied().map_or(0, u32::from_le_bytes));
    let channel = Interdomain::connect(context.xen()?, DomId::CONTROL, port).map_err(fail)?;
    drop(channel.take());
    // Somebody else's port can't be connected to twice.
    check!(Interdomain::connect(context.xen()?, DomId::CONTROL, port).is_err());
    context.tell(b"connected")?;
    for _ in 0..20 {
        drop(channel.wait(soon()).map_err(fail)?);
        channel.send().map_err(fail)?;
    }
    Ok(())
}

/// While the other side sends and sends, this side's own work goes on: one interrupt for each time that it looks.
fn flooded(context: &Context) -> Result<(), NotPassed> {
    let listening = Unbound::new(context.xen()?, context.side_child()?).map_err(fail)?;
    context.tell(&listening.port().0.to_le_bytes())?;
    check_same!(context.hear()?, b"connected");
    let channel = listening.accept().map_err(|(error, _)| fail(error))?;
    let mut taken = 0u64;
    for _ in 0..20 {
        // Something to do, which must be done before the port is unmasked.
        let event = channel.wait(soon()).map_err(fail)?;
        let interrupts = channel.interrupts();
        granite::time::sleep(Duration::from_micros(200));
        check_same!(channel.interrupts(), interrupts);
        taken += 1;
        drop(event);
    }
    check_same!(taken, 20);
    context.tell(b"enough")?;
    Ok(())
}

fn flooded_peer(context: &Context) -> Result<(), NotPassed> {
    let port = Port(context.hear()?.first_chunk().copied().map_or(0, u32::from_le_bytes));
    let channel = Interdomain::connect(context.xen()?, DomId::CONTROL, port).map_err(fail)?;
    context.tell(b"connected")?;
    let deadline = soon();
    while !deadline.has_passed() {
        for _ in 0..100 {
            channel.send().map_err(fail)?;
        }
        if context.has_message() {
            check_same!(context.hear()?, b"enough");
            return Ok(());
        }
    }
    Err(fail("the control domain never had enough"))
}
