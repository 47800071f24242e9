//! Several vCPUs. With one, what there is to do for one is done.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use granite::arch::stack;
use granite::event::Ipi;
use granite::sync::{InterruptGuard, IrqMutex, MAX_VCPUS, Vcpu};
use granite::time::{Deadline, Instant, sleep};
use granite::vcpu::{self, NotSpawned};

use crate::harness::{Case, Context, NotPassed, UNDER_XEN};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("vcpu::all_that_xen_gives_run", UNDER_XEN, all_run),
    Case::new("vcpu::each_knows_its_number_and_its_stack", UNDER_XEN, own_number),
    Case::new("vcpu::stacks_are_mapped_and_guarded", UNDER_XEN, guards),
    Case::new("vcpu::a_call_reaches_all", UNDER_XEN, call),
    Case::new("vcpu::calls_from_all_to_all", UNDER_XEN, calls_crosswise),
    Case::new("vcpu::jobs_are_done_and_waited_for", UNDER_XEN, jobs),
    Case::new("vcpu::a_job_is_joined_by_any_vcpu", UNDER_XEN, joins),
    Case::new("vcpu::a_mask_of_the_program_stays", UNDER_XEN, masks),
    Case::new("vcpu::locks_are_taken_by_one_at_a_time", UNDER_XEN, locks),
    Case::new("vcpu::interrupts_go_where_they_are_sent", UNDER_XEN, interrupts),
    Case::new("vcpu::a_vcpu_waits_for_a_channel_of_another", UNDER_XEN, waits_elsewhere),
    Case::new("vcpu::a_channel_moves_to_another", UNDER_XEN, moves),
    Case::new("vcpu::a_call_inside_of_a_call_is_refused", UNDER_XEN, call_in_call),
    Case::new("vcpu::time_is_one_on_all", UNDER_XEN, time),
    Case::new("vcpu::each_has_its_timer", UNDER_XEN, timers),
];

fn fail(error: impl alloc::string::ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// Starts them, if they don't run yet.
fn start(context: &Context) -> Result<usize, NotPassed> {
    context.platform()?.start_vcpus().map_err(fail)
}

/// Runs a function on every vCPU at once, this one too.
fn everywhere(context: &Context, work: impl Fn(usize) + Send + Sync + 'static) -> Result<(), NotPassed> {
    let running = start(context)?;
    let work = Arc::new(work);
    let mut jobs = Vec::new();
    for number in 1..running {
        let work = Arc::clone(&work);
        jobs.push(vcpu::spawn(number, move || work(number)).map_err(fail)?);
    }
    work(0);
    jobs.iter().try_for_each(|job| job.wait(soon())).map_err(fail)
}

fn all_run(context: &Context) -> Result<(), NotPassed> {
    let platform = context.platform()?;
    check_same!(start(context)?, platform.vcpus() as usize);
    check_same!(start(context)?, vcpu::running());
    let xen = context.xen()?;
    for number in 0..platform.vcpus() {
        check_same!(granite::hypercall::vcpu::is_up(&xen, number), Ok(true));
    }
    check!(granite::hypercall::vcpu::is_up(&xen, platform.vcpus()).is_err());
    Ok(())
}

fn own_number(context: &Context) -> Result<(), NotPassed> {
    static SEEN: IrqMutex<BTreeSet<(usize, usize, usize)>> = IrqMutex::new(BTreeSet::new());
    let xen = context.xen()?;
    everywhere(context, move |number| {
        let here = 0u8;
        let at = &raw const here as u64;
        let owner = stack::spans().find(|span| span.bytes.contains(&at)).map_or(usize::MAX, |span| span.vcpu);
        SEEN.with(|seen| seen.insert((number, vcpu::current(), owner)));
        if xen.index() != number {
            SEEN.with(|seen| seen.insert((number, xen.index(), MAX_VCPUS)));
        }
    })?;
    let seen: Vec<_> = SEEN.with(|seen| seen.iter().copied().collect());
    let expected: Vec<_> = (0..vcpu::running()).map(|number| (number, number, number)).collect();
    check_same!(seen, expected);
    Ok(())
}

/// By the live tables: every page of a stack can be written and not executed, and the page below isn't there.
fn guards(context: &Context) -> Result<(), NotPassed> {
    let running = start(context)?;
    check_same!(stack::spans().count(), 5 * running);
    let memory = granite::mm::memory().ok_or_else(|| fail("no memory"))?;
    for span in stack::spans() {
        let lookup = |address| memory.with(|memory| memory.tables.lookup(address));
        check_same!(lookup(span.guard.start), None);
        for address in span.bytes.clone().step_by(4096) {
            check!(lookup(address).is_some_and(|page| page.writable && !page.executable), "{span:?}");
        }
    }
    Ok(())
}

fn call(context: &Context) -> Result<(), NotPassed> {
    static CALLED: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
    let running = start(context)?;
    for round in 1..=50 {
        vcpu::call_all(
            &|number| {
                CALLED[number].fetch_add(1, Ordering::Relaxed);
            },
            soon(),
        )
        .map_err(fail)?;
        check!(CALLED[..running].iter().all(|called| called.load(Ordering::Relaxed) == round));
        check!(CALLED[running..].iter().all(|called| called.load(Ordering::Relaxed) == 0));
    }
    // Also with interrupts masked.
    let _masked = InterruptGuard::mask();
    vcpu::call_all(&|_| {}, soon()).map_err(fail)
}

/// All vCPUs call all at the same time: each call is made everywhere, and nobody waits for ever.
fn calls_crosswise(context: &Context) -> Result<(), NotPassed> {
    const ROUNDS: usize = 20;
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static UNANSWERED: AtomicUsize = AtomicUsize::new(0);
    let running = start(context)?;
    MADE.store(0, Ordering::Relaxed);
    everywhere(context, |_| {
        for _ in 0..ROUNDS {
            let called = vcpu::call_all(
                &|_| {
                    MADE.fetch_add(1, Ordering::Relaxed);
                },
                soon(),
            );
            UNANSWERED.fetch_add(usize::from(called.is_err()), Ordering::Relaxed);
        }
    })?;
    check_same!(UNANSWERED.load(Ordering::Relaxed), 0);
    check_same!(MADE.load(Ordering::Relaxed), running * running * ROUNDS);
    Ok(())
}

fn jobs(context: &Context) -> Result<(), NotPassed> {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let running = start(context)?;
    DONE.store(0, Ordering::Relaxed);
    for round in 0..20 {
        everywhere(context, |_| {
            DONE.fetch_add(1, Ordering::Relaxed);
        })?;
        check_same!(DONE.load(Ordering::Relaxed), (round + 1) * running);
    }
    let refused = |vcpu| vcpu::spawn(vcpu, move || vcpu).err();
    let why = |vcpu| refused(vcpu).map(|refused| (refused.error, (refused.work)()));
    check_same!(why(0), Some((NotSpawned::NoSuchVcpu(0), 0)));
    check_same!(why(running), Some((NotSpawned::NoSuchVcpu(running), running)));
    if running > 1 {
        // One at work, one that waits, and no room for a third.
        let go = Arc::new(AtomicU32::new(0));
        let waits = Arc::clone(&go);
        let first = vcpu::spawn(1, move || {
            while waits.load(Ordering::Acquire) == 0 {
                granite::time::pause();
            }
        })
        .map_err(fail)?;
        let deadline = soon();
        let second = loop {
            match vcpu::spawn(1, || {}) {
                Ok(second) => break second,
                Err(error) => check!(!deadline.has_passed(), "{error}"),
            }
            granite::time::pause(); // no interrupt tells that the first was taken
        };
        check_same!(why(1), Some((NotSpawned::Busy(1), 1)));
        check!(!first.is_done() && second.wait(Deadline::after(Duration::from_millis(1))).is_err());
        go.store(1, Ordering::Release);
        first.wait(soon()).map_err(fail)?;
        second.wait(soon()).map_err(fail)?;
    }
    Ok(())
}

/// Any vCPU may wait for a job, and is woken at its end; the result comes back.
fn joins(context: &Context) -> Result<(), NotPassed> {
    let running = start(context)?;
    for number in 1..running {
        let job = vcpu::spawn(number, move || number * 3).map_err(fail)?;
        check_same!(job.join(soon()).ok(), Some(number * 3));
    }
    if running > 2 {
        let job = vcpu::spawn(1, || {
            sleep(Duration::from_millis(20));
            7
        })
        .map_err(fail)?;
        let waits = vcpu::spawn(2, move || {
            let begun = Instant::now();
            (job.join(Deadline::after(Duration::from_secs(20))).ok(), begun.elapsed())
        })
        .map_err(fail)?;
        let waited = waits.join(soon()).map_err(|_| fail("the wait lasts"))?;
        check!(waited.0 == Some(7) && waited.1 < Duration::from_secs(10), "{waited:?}");
    }
    Ok(())
}

/// A mask of the program's is none of an event's.
fn masks(context: &Context) -> Result<(), NotPassed> {
    use granite::event::{Interdomain, Unbound};
    let (xen, own) = (context.xen()?, context.platform()?.dom_id());
    let listens = Unbound::new(xen, own).map_err(fail)?;
    let sends = Interdomain::connect(xen, own, listens.port()).map_err(fail)?;
    drop(listens.take());
    sends.send().map_err(fail)?;
    let event = listens.wait(soon()).map_err(fail)?;
    listens.mask();
    drop(event);
    check!(listens.is_masked(), "the event's end undid the program's mask");
    sends.send().map_err(fail)?;
    check!(listens.take().is_none(), "what is masked waits");
    listens.unmask();
    drop(listens.wait(soon()).map_err(fail)?);
    check!(!listens.is_masked());
    Ok(())
}

/// A counter that is read and written in two steps, and the lock also taken in interrupts' handlers.
fn locks(context: &Context) -> Result<(), NotPassed> {
    const ROUNDS: u64 = 2000;
    static COUNT: IrqMutex<u64> = IrqMutex::new(0);
    let add = || {
        COUNT.with(|count| {
            let read = core::hint::black_box(*count);
            core::hint::spin_loop();
            *count = read + 1;
        });
    };
    let before = COUNT.with(|count| *count);
    let running = start(context)? as u64;
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.store(0, Ordering::Relaxed);
    everywhere(context, move |_| {
        for round in 0..ROUNDS {
            add();
            if round % 500 == 0 {
                let called = vcpu::call_all(&|_| COUNT.with(|count| *count += 1), soon());
                CALLS.fetch_add(u64::from(called.is_ok()), Ordering::Relaxed);
            }
        }
    })?;
    let expected = before + running * ROUNDS + CALLS.load(Ordering::Relaxed) * running;
    check_same!(COUNT.with(|count| *count), expected);
    Ok(())
}

fn interrupts(context: &Context) -> Result<(), NotPassed> {
    static WHERE: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
    let running = start(context)?;
    WHERE.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    for (number, count) in WHERE.iter().enumerate().take(running) {
        let ipi = Ipi::with_handler(context.xen()?, number, |_| {
            WHERE[vcpu::current()].fetch_add(1, Ordering::Relaxed);
        })
        .map_err(fail)?;
        for round in 1..=20 {
            ipi.send().map_err(fail)?;
            // No interrupt tells this vCPU of it.
            let deadline = soon();
            while count.load(Ordering::Relaxed) != round {
                check!(!deadline.has_passed(), "vCPU {number} was not interrupted");
                granite::time::pause();
            }
        }
    }
    check!(WHERE[..running].iter().all(|count| count.load(Ordering::Relaxed) == 20));
    Ok(())
}

/// Its events come to the first vCPU; whoever waits elsewhere hears of them all the same.
fn waits_elsewhere(context: &Context) -> Result<(), NotPassed> {
    use granite::event::{Interdomain, Unbound};
    let (xen, own, running) = (context.xen()?, context.platform()?.dom_id(), start(context)?);
    let listens = Unbound::new(xen, own).map_err(fail)?;
    let sends = Interdomain::connect(xen, own, listens.port()).map_err(fail)?;
    let listens = Arc::new(listens);
    for number in 1..running {
        let waits = Arc::clone(&listens);
        let heard = Arc::new(AtomicU32::new(0));
        let tells = Arc::clone(&heard);
        let job = vcpu::spawn(number, move || {
            for _ in 0..5 {
                let event = waits.wait(Deadline::NEVER);
                tells.fetch_add(1, Ordering::Release);
                drop(event);
            }
        })
        .map_err(fail)?;
        for round in 1..=5 {
            sends.send().map_err(fail)?;
            let deadline = soon();
            while heard.load(Ordering::Acquire) < round {
                check!(!deadline.has_passed(), "vCPU {number} doesn't hear event {round}");
                granite::time::pause();
            }
        }
        job.wait(soon()).map_err(fail)?;
    }
    Ok(())
}

/// A channel's events come to the vCPU that it was moved to: also those of which Xen told the old one, because somebody had
/// begun to send before.
fn moves(context: &Context) -> Result<(), NotPassed> {
    use granite::event::{Interdomain, Unbound};
    let (xen, own, running) = (context.xen()?, context.platform()?.dom_id(), start(context)?);
    let listens = Unbound::new(xen, own).map_err(fail)?;
    let sends = Interdomain::connect(xen, own, listens.port()).map_err(fail)?;
    let listens = Arc::new(listens);
    for number in 1..running {
        listens.bind_to(number).map_err(fail)?;
        let waits = Arc::clone(&listens);
        let heard = Arc::new(AtomicU32::new(0));
        let tells = Arc::clone(&heard);
        let job = vcpu::spawn(number, move || {
            while tells.load(Ordering::Relaxed) < 6 {
                drop(waits.wait(soon()));
                tells.fetch_add(1, Ordering::Release);
            }
        })
        .map_err(fail)?;
        for round in 1..=6 {
            if round % 2 == 0 {
                sends.send().map_err(fail)?;
            } else {
                tell_this_vcpu(listens.port())?;
            }
            let deadline = Deadline::after(Duration::from_secs(10));
            while heard.load(Ordering::Acquire) < round {
                check!(!deadline.has_passed(), "vCPU {number} doesn't hear event {round}");
                granite::time::pause();
            }
        }
        job.wait(soon()).map_err(fail)?;
    }
    Ok(())
}

/// What Xen does for an event that comes to this vCPU.
fn tell_this_vcpu(port: granite::abi::event::Port) -> Result<(), NotPassed> {
    use granite::mm::shared_info;
    let nothing = || NotPassed::Fail("Xen shares no page".into());
    let page = shared_info::page().ok_or_else(nothing)?;
    let info = shared_info::of_vcpu(vcpu::current()).ok_or_else(nothing)?;
    let (word, bit) = (port.0 / 64, port.0 % 64);
    page.evtchn_pending[word as usize].fetch_or(1 << bit, Ordering::SeqCst);
    info.pending_sel.fetch_or(1 << word, Ordering::SeqCst);
    info.upcall_pending.store(1, Ordering::SeqCst);
    Ok(())
}

fn call_in_call(context: &Context) -> Result<(), NotPassed> {
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    let running = start(context)?;
    REFUSED.store(0, Ordering::Relaxed);
    let inner = |_| {
        let called = vcpu::call_all(&|_| {}, Deadline::NEVER);
        REFUSED.fetch_add(usize::from(called.is_err()), Ordering::Relaxed);
    };
    static INNER: spin::Once<alloc::boxed::Box<dyn Fn(usize) + Sync + Send>> = spin::Once::new();
    let inner = INNER.call_once(|| alloc::boxed::Box::new(inner));
    vcpu::call_all(&**inner, soon()).map_err(fail)?;
    check_same!(REFUSED.load(Ordering::Relaxed), running);
    Ok(())
}

/// What one vCPU calls now, no other calls the future.
fn time(context: &Context) -> Result<(), NotPassed> {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    static BACKWARDS: AtomicU64 = AtomicU64::new(0);
    everywhere(context, |_| {
        for _ in 0..500 {
            let before = LATEST.load(Ordering::SeqCst);
            let now = Instant::now().nanoseconds();
            BACKWARDS.fetch_add(u64::from(now < before), Ordering::Relaxed);
            LATEST.fetch_max(now, Ordering::SeqCst);
        }
    })?;
    check_same!(BACKWARDS.load(Ordering::Relaxed), 0);
    Ok(())
}

fn timers(context: &Context) -> Result<(), NotPassed> {
    static EARLY: AtomicU64 = AtomicU64::new(0);
    everywhere(context, |_| {
        for _ in 0..5 {
            let start = Instant::now();
            sleep(Duration::from_millis(1));
            EARLY.fetch_add(u64::from(start.elapsed() < Duration::from_millis(1)), Ordering::Relaxed);
        }
    })?;
    check_same!(EARLY.load(Ordering::Relaxed), 0);
    Ok(())
}
