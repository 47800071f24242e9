//! The crash tests: `case=NAME` on the command line selects one. Each needs its own boot. `cargo xtask test` checks the
//! outcome from outside (xtask/src/test/deaths.rs).

#![cfg_attr(granite_guest, no_std, no_main)]
#![allow(clippy::panic, reason = "it is what is tested")]
#![cfg_attr(not(granite_guest), allow(dead_code, reason = "there is nothing to die on the host"))]

extern crate alloc;

use alloc::vec::Vec;
use core::arch::asm;
use core::fmt;
use core::hint::black_box;

use granite::prelude::*;

#[cfg(granite_guest)]
granite::entry!(guest_main, options = ["case"]);

#[cfg(not(granite_guest))]
fn main() {
    println!("This is a guest for Xen: cargo xtask test die");
}

fn guest_main(platform: &'static Platform) -> ExitCode {
    match platform.options().get("case") {
        Some("panic") => outer_function(),
        Some("panic-in-panic") => panic!("{}", PanicsWhenShown),
        Some("null") => read(0x10),
        Some("unmapped") => write(0x7000_0000_0000),
        Some("unmapped-again") => unmapped_again(),
        Some("write-to-code") => write(guest_main as *const () as usize),
        Some("run-data") => run_data(),
        Some("stack-overflow") => {
            black_box(descend(black_box(1)));
        }
        Some("invalid-opcode") => invalid_opcode(),
        // SAFETY: the gate exists, and its handler ends the guest.
        Some("nmi") => unsafe { asm!("int 2") },
        Some("double-fault") => double_fault(),
        Some("triple-fault") => triple_fault(),
        Some("heap-exhaustion") => exhaust_the_heap(),
        Some("reserved-references") => {
            return match reserved_references(platform) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => {
                    println!("{error}");
                    ExitCode::FAILURE
                }
            };
        }
        Some("less-memory") => {
            return match less_memory(platform) {
                Ok(code) => code,
                Err(what) => {
                    println!("{what}");
                    ExitCode::FAILURE
                }
            };
        }
        Some("all-memory") => {
            println!("it used {} KiB", use_all_memory() >> 10);
            return ExitCode::SUCCESS;
        }
        Some(case @ ("panic-elsewhere" | "panic-everywhere" | "stack-overflow-elsewhere")) => {
            elsewhere(platform, case)
        }
        Some("hang") => {
            println!("here it hangs");
            loop {
                core::hint::spin_loop();
            }
        }
        Some("vcpus-end") => {
            return match vcpus_end(platform) {
                Ok(()) => ExitCode::SUCCESS,
                Err(what) => {
                    println!("{what}");
                    ExitCode::FAILURE
                }
            };
        }
        Some("wrong-exit") => return ExitCode(7),
        Some("open-line") => {
            print!("no end of line");
            return ExitCode::SUCCESS;
        }
        other => println!("there is no case {other:?}"),
    }
    println!("still alive");
    ExitCode::SUCCESS
}

/// All vCPUs but the first end for good: no work of theirs is lost, and no call or event waits for them.
fn vcpus_end(platform: &'static Platform) -> Result<(), &'static str> {
    use core::time::Duration;
    use granite::event::{Interdomain, Unbound};
    use granite::time::{Deadline, sleep};
    use granite::vcpu::{self, NotSpawned, StopError};
    let soon = || Deadline::after(Duration::from_secs(20));
    let running = platform.start_vcpus().map_err(|_| "not all vCPUs start")?;
    if running < 3 {
        return Err("it takes three vCPUs");
    }
    let xen = platform.xen().ok_or("no Xen")?;
    let listens = Unbound::new(xen, platform.dom_id()).map_err(|_| "no port")?;
    let sends = Interdomain::connect(xen, platform.dom_id(), listens.port()).map_err(|_| "no port")?;
    drop(listens.take());
    listens.bind_to(1).map_err(|_| "the port doesn't move")?;
    // Only the first vCPU may call `stop`: another would have to end itself.
    let refused = vcpu::spawn(1, move || vcpu::stop(soon())).map_err(|_| "no job")?;
    if refused.join(soon()).ok() != Some(Err(StopError::NotTheFirst)) {
        return Err("vCPU 1 ended the others");
    }
    // A long job is finished first.
    let lasting = vcpu::spawn(2, || {
        sleep(Duration::from_millis(50));
        // The others have ended by now, so a call must not wait for them.
        let called = vcpu::call_all(&|_| (), Deadline::after(Duration::from_secs(5)));
        if called.is_ok() { 5 } else { 6 }
    })
    .map_err(|_| "no job")?;
    if vcpu::stop(Deadline::after(Duration::from_millis(1))) != Err(StopError::TimedOut) {
        return Err("it ended in the middle of a job");
    }
    vcpu::stop(soon()).map_err(|_| "they don't end")?;
    if lasting.join(soon()).ok() != Some(5) || vcpu::running() != 1 {
        return Err("a job was lost");
    }
    for number in 1..running {
        let deadline = soon();
        while granite::hypercall::vcpu::is_up(&xen, number as u32) != Ok(false) {
            if deadline.has_passed() {
                return Err("a vCPU that ended is up");
            }
            granite::time::pause();
        }
        let refused = vcpu::spawn(number, || ()).err().map(|refused| refused.error);
        if refused != Some(NotSpawned::NoSuchVcpu(number)) {
            return Err("a vCPU that ended takes a job");
        }
    }
    // A call doesn't wait for the ended vCPUs, and an event for one of them is delivered here.
    vcpu::call_all(&|_| (), soon()).map_err(|_| "a call waits for a vCPU that ended")?;
    sends.send().map_err(|_| "it can't be sent")?;
    drop(listens.wait(soon()).map_err(|_| "an event went to a vCPU that ended")?);
    if listens.bind_to(1).is_ok() {
        return Err("a port moved to a vCPU that ended");
    }
    println!("all but the first have ended");
    Ok(())
}

/// A crash of another vCPU ends the guest with one report, while the other vCPUs are busy.
fn elsewhere(platform: &'static Platform, case: &str) {
    use granite::vcpu;
    let Ok(running) = platform.start_vcpus() else { return };
    let panics = |number: usize| case == "panic-everywhere" || (case == "panic-elsewhere" && number == 2);
    for number in 1..running {
        let dies = panics(number);
        let overflows = case == "stack-overflow-elsewhere" && number == 1;
        let spawned = vcpu::spawn(number, move || {
            if overflows {
                black_box(descend(black_box(1)));
            }
            assert!(!dies, "the panic of vCPU {number}");
            // Masks interrupts, so that only a non-maskable interrupt stops this vCPU.
            let _masked = granite::sync::InterruptGuard::mask();
            loop {
                core::hint::spin_loop();
            }
        });
        if spawned.is_err() {
            return;
        }
    }
    assert!(case != "panic-everywhere", "the panic of vCPU 0");
    loop {
        core::hint::spin_loop();
    }
}

/// xtask looks for this function and the next in the report.
#[inline(never)]
fn outer_function() {
    inner_function(black_box(3));
    black_box(());
}

#[inline(never)]
fn inner_function(number: u32) {
    assert!(number != 3, "number is {number}");
    black_box(number);
}

/// A value panicking when it is printed.
struct PanicsWhenShown;

impl fmt::Display for PanicsWhenShown {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("shown")
    }
}

fn read(address: usize) {
    // SAFETY: none. This must fault, and the fault ends the guest.
    black_box(unsafe { (address as *const u64).read_volatile() });
}

/// Reads a page, unmaps it, and reads it again: the processor must have dropped the cached translation.
fn unmapped_again() {
    // An address between the large objects and the stacks.
    const AT: usize = (6 << 44) - 4096;
    let Some(memory) = granite::mm::memory() else { return };
    memory.with(|granite::mm::Memory { frames, tables }| {
        // SAFETY: no other code uses the address, and this function only reads it.
        unsafe {
            if tables.map_new_page(AT as u64, frames).is_err() {
                return;
            }
            read(AT);
            println!("it was mapped");
            read(AT);
            let _ = black_box(tables.unmap_page(AT as u64));
            read(AT);
        }
    });
}

fn write(address: usize) {
    // SAFETY: none. This must fault, and the fault ends the guest.
    unsafe { (address as *mut u64).write_volatile(1) };
}

fn run_data() {
    let code = black_box([0xc3u8; 16]);
    // SAFETY: none. This must fault, and the fault ends the guest.
    unsafe { asm!("call {}", in(reg) code.as_ptr(), clobber_abi("sysv64")) };
}

#[allow(unconditional_recursion, reason = "until the guard page ends it")]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    descend(depth + 1) + frame[63]
}

fn invalid_opcode() {
    // SAFETY: none. This must fault, and the fault ends the guest.
    unsafe { asm!("ud2") };
}

/// Disables the page-fault gate in the interrupt table: the processor meets a second exception while delivering the
/// first.
fn double_fault() {
    let mut pointer = [0u8; 10];
    // SAFETY: `sidt` stores ten bytes, limit and base, into `pointer`. The write then clears the attributes of gate 14,
    // in writable RAM.
    unsafe {
        asm!("sidt [{}]", in(reg) pointer.as_mut_ptr());
        let base = pointer[2..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        ((base + 14 * 16 + 5) as *mut u8).write_volatile(0);
    }
    read(0x10);
}

/// Loads an empty interrupt table.
fn triple_fault() {
    let pointer = [0u8; 10];
    // SAFETY: none. This ends the guest.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) pointer.as_ptr()) };
}

fn exhaust_the_heap() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(Vec::with_capacity(1 << 20));
        black_box(&kept);
    }
}

/// A domain with only half of the memory named by its map (as with `maxmem` in `xl`'s configuration) runs, and can use
/// all it has.
fn less_memory(platform: &'static Platform) -> Result<ExitCode, granite::toolstack::ToolstackError> {
    use core::time::Duration;
    use granite::abi::sched::ShutdownReason;
    use granite::time::Deadline;
    use granite::toolstack::{Config, Toolstack};

    let (Some(xen), Some(kernel)) = (platform.xen(), platform.modules().first().copied()) else {
        println!("no module");
        return Ok(ExitCode::FAILURE);
    };
    let toolstack = Toolstack::new(xen)?;
    let command_line = "case=all-memory";
    let config = Config { kernel, command_line, memory: 64, populated: Some(32), ..Config::default() };
    let mut child = toolstack.start(&config)?;
    let ended = child.wait(Deadline::after(Duration::from_secs(20)));
    child.console().lines()?.iter().for_each(|line| println!("it said: {line}"));
    let ended = ended?;
    println!("it ended by {}", ended.reason);
    Ok(if ended.reason == ShutdownReason::POWEROFF { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fills the heap until an allocation fails. Returns the number of bytes allocated.
fn use_all_memory() -> usize {
    let mut kept: Vec<Vec<u8>> = Vec::with_capacity(1 << 10);
    for size in [1 << 20, 1 << 12] {
        while kept.len() < kept.capacity() {
            let mut some = Vec::new();
            if some.try_reserve_exact(size).is_err() {
                break;
            }
            some.resize(size, 0xa5);
            kept.push(black_box(some));
        }
    }
    kept.iter().map(Vec::len).sum()
}

/// The toolstack's reserved entries survive a change of the table's version. This needs its own boot, because it leaves
/// no usable table.
fn reserved_references(platform: &'static Platform) -> Result<bool, granite::grant::GrantError> {
    use granite::abi::grant::GrantRef;
    use granite::grant::{Config, GrantTable, Version};
    let (Some(xen), Some(windows)) = (platform.xen(), granite::mm::windows()) else { return Ok(false) };
    let mut expected = Vec::new();
    for version in [Version::V1, Version::V2, Version::V1] {
        // SAFETY: the previous table isn't used any more.
        let table = unsafe { GrantTable::new(xen, windows, Config { version, ..Config::default() }) }?;
        if expected.is_empty() {
            for gref in [0, 1, 7] {
                let entry = (table.address() + 8 * gref) as *mut u32;
                // SAFETY: this is a version 1 entry, and no other code writes it.
                unsafe {
                    entry.add(1).write_volatile(0x100 + gref as u32);
                    entry.write_volatile(1);
                }
            }
            expected = table.entries().collect();
        }
        let found: Vec<_> = table.entries().collect();
        println!("version {}: {found:?}", version.number());
        if found != expected || !found.iter().map(|(gref, _)| *gref).eq([0, 1, 7].map(GrantRef)) {
            return Ok(false);
        }
        core::mem::forget(table);
    }
    Ok(true)
}
