//! The freelist and the grant table under several vCPUs. Handlers of timer interrupts and of interrupts from other
//! vCPUs also take and free references. No reference may be allocated twice, and none may be lost.
//! `cargo xtask test stress` boots this program with 2 and with 4 vCPUs.

#![cfg_attr(granite_guest, no_std, no_main)]
#![cfg_attr(not(granite_guest), allow(dead_code, unused_imports, reason = "it is booted"))]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use core::time::Duration;

use granite::abi::grant::GrantRef;
use granite::event::Ipi;
use granite::grant::freelist::{Freelist, OwnedRef};
use granite::hypercall::Xen;
use granite::prelude::*;
use granite::rt::Grants;
use granite::sync::IrqMutex;
use granite::time::{Deadline, Instant, timer};
use granite::vcpu;
use spin::Once;

#[cfg(granite_guest)]
granite::entry!(guest_main, options = ["operations"]);

#[cfg(not(granite_guest))]
fn main() {
    println!("This is a guest for Xen: cargo xtask test stress");
}

/// The number of operations of all vCPUs together. Taking a reference is one, freeing it another.
const OPERATIONS: u64 = 10_000_000;
/// One in this many rounds grants a page (taking a reference) and ends the grant (freeing it).
const GRANTS_IN: u64 = 8;
/// The maximum number of references held by a vCPU.
const HELD: usize = 200;
/// The interval of a vCPU's timer: far longer than a handler takes under emulation, to leave time for other work.
const TICK: Duration = Duration::from_millis(5);
/// The number of a vCPU's operations between two interrupts to the next vCPU.
const BETWEEN_KICKS: u64 = 2048;

/// The state shared by all vCPUs.
struct Shared {
    grants: &'static Grants,
    /// A list of the same kind as the table's own. References from the table's own are only used to grant pages.
    list: Freelist<Xen>,
    /// 1 for each reference taken from the list, else 0.
    out: Box<[AtomicU8]>,
    done: AtomicU64,
    granted: AtomicU64,
    in_handlers: AtomicU64,
    timers: AtomicU64,
    kicks: AtomicU64,
    exhausted: AtomicU64,
    /// References taken twice, or freed without having been taken.
    twice: AtomicU64,
    /// The number of unexpected failures.
    failed: AtomicU64,
}

static SHARED: Once<Shared> = Once::new();
static ALARM: Once<timer::Alarm> = Once::new();
static PORTS: IrqMutex<Vec<Arc<Ipi>>> = IrqMutex::new(Vec::new());

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Shared {
    fn mark(&self, number: u32, out: u8) {
        // Relaxed: only this word matters.
        let before = self.out.get(number as usize).map_or(out, |word| word.swap(out, Ordering::Relaxed));
        add(&self.twice, u64::from(before == out));
    }

    fn take(&self) -> Option<OwnedRef> {
        match self.list.alloc() {
            Ok(reference) => {
                self.mark(reference.get().0, 1);
                Some(reference)
            }
            Err(_) => {
                add(&self.exhausted, 1);
                None
            }
        }
    }

    fn free(&self, reference: OwnedRef) {
        self.mark(reference.get().0, 0);
        add(&self.failed, u64::from(self.list.free(reference).is_err()));
    }
}

/// Takes a reference and frees it in a handler, regardless of the interrupted code.
fn in_handler() {
    let Some(shared) = SHARED.get() else { return };
    if let Some(reference) = shared.take() {
        shared.free(reference);
        add(&shared.in_handlers, 2);
    }
}

fn on_timer() {
    in_handler();
    if let Some(shared) = SHARED.get() {
        add(&shared.timers, 1);
    }
    set_alarm(Deadline::after(TICK));
}

fn set_alarm(deadline: Deadline) {
    if let Some(alarm) = ALARM.get() {
        alarm.set(deadline);
    }
}

/// Runs one vCPU's share of the operations.
fn work(number: usize, share: u64) {
    let Some(shared) = SHARED.get() else { return };
    set_alarm(Deadline::after(TICK));
    let next = PORTS.with(|ports| ports.get((number + 1) % ports.len()).cloned());
    let mut random = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number as u64 + 1);
    let mut held: Vec<OwnedRef> = Vec::with_capacity(HELD);
    let mut page = Page::zeroed();
    let (mut done, mut since_kick, mut granted) = (0, 0, 0);
    while done < share {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let before = done;
        if random.is_multiple_of(GRANTS_IN) {
            let grant =
                page.take().map(|page| shared.grants.grant::<ReadOnly>(page, granite::abi::DomId(0x7abc)));
            match grant {
                Some(Ok(grant)) => {
                    page = grant.end_access().ok();
                    add(&shared.failed, u64::from(page.is_none()));
                    granted += 1;
                    done += 2;
                }
                Some(Err(failed)) => page = Some(failed.value),
                None => {
                    add(&shared.failed, 1);
                    break;
                }
            }
        } else if held.len() < HELD && (held.is_empty() || random & 256 != 0) {
            if let Some(reference) = shared.take() {
                held.push(reference);
                done += 1;
            } else if let Some(reference) = held.pop() {
                shared.free(reference);
                done += 1;
            }
        } else {
            let index = (random >> 32) as usize % held.len();
            shared.free(held.swap_remove(index));
            done += 1;
        }
        since_kick += done - before;
        if since_kick >= BETWEEN_KICKS {
            since_kick = 0;
            add(&shared.kicks, u64::from(next.as_ref().is_some_and(|ipi| ipi.send().is_ok())));
        }
    }
    done += held.len() as u64;
    held.into_iter().for_each(|reference| shared.free(reference));
    shared.list.flush();
    shared.grants.idle();
    set_alarm(Deadline::NEVER);
    add(&shared.done, done);
    add(&shared.granted, granted);
}

fn guest_main(platform: &'static Platform) -> ExitCode {
    match stress(platform) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("stress: {why}");
            ExitCode::FAILURE
        }
    }
}

fn stress(platform: &'static Platform) -> Result<(), &'static str> {
    let operations = platform.options().parse("operations").ok().flatten().unwrap_or(OPERATIONS);
    let grants = platform.grants().map_err(|_| "no grant table")?;
    grants.grow_to(4).map_err(|_| "the table doesn't grow")?;
    let before = grants.stats();
    let xen = platform.xen().ok_or("no Xen")?;
    let running = platform.start_vcpus().map_err(|_| "not all vCPUs start")?;
    let list = Freelist::new(xen, GrantRef::FIRST_FREE, running).map_err(|_| "no memory for a list")?;
    list.grow(before.references + 8).map_err(|_| "no memory for a list")?;
    SHARED.call_once(|| Shared {
        grants,
        list,
        out: (0..before.references + 8).map(|_| AtomicU8::new(0)).collect(),
        done: AtomicU64::new(0),
        granted: AtomicU64::new(0),
        in_handlers: AtomicU64::new(0),
        timers: AtomicU64::new(0),
        kicks: AtomicU64::new(0),
        exhausted: AtomicU64::new(0),
        twice: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let shared = SHARED.get().ok_or("nothing is shared")?;
    let alarm = timer::on_alarm(on_timer).map_err(|_| "no alarm")?;
    ALARM.call_once(|| alarm);
    for number in 0..running {
        let ipi = Ipi::with_handler(xen, number, |_| in_handler()).map_err(|_| "no port")?;
        PORTS.with(|ports| ports.push(Arc::new(ipi)));
    }

    let start = Instant::now();
    let share = operations.div_ceil(running as u64);
    let mut jobs = Vec::new();
    for number in 1..running {
        jobs.push(vcpu::spawn(number, move || work(number, share)).map_err(|_| "a vCPU takes no job")?);
    }
    work(0, share);
    for job in &jobs {
        job.wait(Deadline::after(Duration::from_secs(100))).map_err(|_| "a vCPU doesn't come to an end")?;
    }
    let took = start.elapsed();
    PORTS.with(core::mem::take);

    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (done, in_handlers) = (read(&shared.done), read(&shared.in_handlers));
    println!(
        "stress: {running} vCPUs, {done} operations ({} grants made and ended) and {in_handlers} in handlers, {} timer \
         interrupts, {} from other vCPUs, {} times none was free, in {:.1} s",
        read(&shared.granted),
        read(&shared.timers),
        read(&shared.kicks),
        read(&shared.exhausted),
        took.as_secs_f64(),
    );
    // Every reference can be taken, each once.
    let (after, list) = (grants.stats(), shared.list.stats());
    let mut all: Vec<OwnedRef> = core::iter::from_fn(|| shared.list.alloc().ok()).collect();
    all.iter().for_each(|reference| shared.mark(reference.get().0, 1));
    let lost = u64::from(list.total) - all.len() as u64;
    println!("stress: {} twice, {lost} lost, {} failed; {after}", read(&shared.twice), read(&shared.failed));
    shared.list.free_many(&mut all);
    let is_right = read(&shared.twice) == 0
        && lost == 0
        && read(&shared.failed) == 0
        && all.is_empty()
        && list.in_use == 0
        && (after.in_use, after.quarantined, after.lost) == (before.in_use, 0, 0)
        && done >= operations
        && in_handlers > 0
        && read(&shared.timers) > 0
        && (running == 1 || read(&shared.kicks) > 0);
    if is_right { Ok(()) } else { Err("something is wrong") }
}
