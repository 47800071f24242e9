//! The cost of events in a guest: `cargo xtask bench`. With one vCPU, QEMU counts instructions (as for
//! instructions.rs). With two it can't, so the figures are ticks of the time-stamp counter: nanoseconds of a noisy
//! host.

#![cfg_attr(granite_guest, no_std, no_main)]

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use granite::arch::{time_stamp, trap};
use granite::event::{Interdomain, Ipi, Unbound};
use granite::prelude::*;
use granite::time::{Deadline, Instant};
use granite::vcpu;

granite::entry!(main);

/// Each figure is the minimum of this many rounds.
const ROUNDS: usize = 5;
const TIMES: u64 = 200;

static HANDLED: AtomicU64 = AtomicU64::new(0);

fn handled() -> u64 {
    HANDLED.load(Ordering::Relaxed)
}

fn count() {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Returns the ticks per call, over [`TIMES`] calls. Reading the counter traps to Xen; that cost is subtracted.
fn cost(mut work: impl FnMut()) -> f64 {
    let mut min = u64::MAX;
    for _ in 0..ROUNDS {
        let empty = time_stamp();
        let start = time_stamp();
        for _ in 0..TIMES {
            work();
        }
        min = min.min((time_stamp() - start).saturating_sub(start - empty));
    }
    min as f64 / TIMES as f64
}

fn main(platform: &'static Platform) -> ExitCode {
    let measured = if platform.vcpus() == 1 { one_vcpu(platform) } else { two_vcpus(platform) };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            error!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn print(what: &str, figure: f64, unit: &str) {
    println!("{what:48} {figure:10.1} {unit}");
}

fn one_vcpu(platform: &Platform) -> Result<(), &'static str> {
    const VECTOR: u8 = 0x90;
    const UNIT: &str = "instructions";
    // SAFETY: the handler leaves interrupts masked.
    unsafe { trap::handle(VECTOR, |_| count()) }.map_err(|_| "no vector")?;
    // SAFETY: the vector has a handler, and the handler keeps every register.
    let interrupt = cost(|| unsafe { core::arch::asm!("int {}", const VECTOR) });
    print("interrupt, to its handler and back", interrupt, UNIT);

    let (xen, own) = (platform.xen().ok_or("no Xen")?, platform.dom_id());
    let before = handled();
    let ipi = Ipi::with_handler(xen, 0, |_| count()).map_err(|_| "no port")?;
    let mut failed = false;
    let event = cost(|| failed |= ipi.send().is_err());
    if failed || handled() - before < ROUNDS as u64 * TIMES {
        return Err("an event was lost");
    }
    print("event to oneself, to its handler and back", event, UNIT);

    let listens = Unbound::new(xen, own).map_err(|_| "no port")?;
    let sends = Interdomain::connect(xen, own, listens.port()).map_err(|_| "no port")?;
    let marked = cost(|| {
        failed |= sends.send().is_err();
        failed |= listens.take().is_none();
    });
    if failed {
        return Err("an event was lost");
    }
    print("event to oneself, marked, taken, unmasked", marked, UNIT);
    print("reading the clock", cost(|| _ = core::hint::black_box(Instant::now())), UNIT);
    Ok(())
}

/// One vCPU interrupts the other, and the other interrupts back.
fn two_vcpus(platform: &Platform) -> Result<(), &'static str> {
    use spin::Once;
    static BACK: Once<Ipi> = Once::new();
    let xen = platform.xen().ok_or("no Xen")?;
    if platform.start_vcpus().map_err(|_| "the second vCPU doesn't start")? < 2 {
        return Err("one vCPU");
    }
    BACK.try_call_once(|| Ipi::with_handler(xen, 0, |_| count())).map_err(|_| "no port")?;
    let there = Ipi::with_handler(xen, 1, |_| {
        let _ = BACK.get().map(Ipi::send); // what is lost is seen
    })
    .map_err(|_| "no port")?;
    // The other vCPU is busy, not halted: this measures the interrupt, not the wake-up.
    static BUSY: AtomicU64 = AtomicU64::new(1);
    let job = vcpu::spawn(1, || {
        while BUSY.load(Ordering::Relaxed) == 1 {
            core::hint::spin_loop();
        }
    });
    let job = job.map_err(|_| "no job")?;
    let deadline = Deadline::after(Duration::from_secs(30));
    let mut lost = false;
    let round_trip = cost(|| {
        let before = handled();
        lost |= there.send().is_err();
        while handled() == before && !lost {
            core::hint::spin_loop();
        }
    });
    BUSY.store(0, Ordering::Relaxed);
    job.wait(deadline).map_err(|_| "the second vCPU doesn't end")?;
    if lost {
        return Err("an interrupt was lost");
    }
    print("interrupt of another vCPU, and back", round_trip, "ticks");
    Ok(())
}
