//! Frames, page tables and the heap, as they are in use.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use granite::abi::{Gfn, PAGE_SIZE};
use granite::arch::stack;
use granite::mm::{self, Memory, frames::FrameError, heap};
use granite::sync::IrqMutex;

use crate::harness::{ALL, Case, Context, GUESTS, NotPassed};
use crate::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case { name: "memory::nothing_is_writable_and_executable", rigs: GUESTS, run: write_xor_execute },
    Case { name: "memory::code_and_constants_cannot_be_written", rigs: GUESTS, run: constants },
    Case { name: "memory::null_page_and_guards_are_not_mapped", rigs: GUESTS, run: holes },
    Case { name: "memory::all_frames_are_ram_of_ours", rigs: GUESTS, run: frames },
    Case { name: "memory::a_frame_is_not_released_twice", rigs: GUESTS, run: double_release },
    Case { name: "memory::the_heap_grows_and_counts", rigs: GUESTS, run: heap_grows },
    Case { name: "memory::allocations_keep_their_contents", rigs: ALL, run: contents },
    Case { name: "memory::an_impossible_allocation_is_refused", rigs: ALL, run: impossible },
];

fn live() -> Result<&'static IrqMutex<Memory>, NotPassed> {
    mm::memory().ok_or_else(|| NotPassed::Fail("memory was not taken over".into()))
}

/// Every page of RAM, the image and the heap.
fn write_xor_execute(context: &Context) -> Result<(), NotPassed> {
    let ram_end = context.platform()?.memory() + (64 << 20);
    let memory = live()?.lock();
    let heap = heap::WINDOW..heap::WINDOW + (1 << 20);
    let mut mapped = 0;
    for address in (0..ram_end).chain(heap).step_by(PAGE_SIZE as usize) {
        if let Some(page) = memory.tables.lookup(address) {
            mapped += 1;
            check!(!(page.writable && page.executable), "{address:#x}");
        }
    }
    check!(mapped > 1000, "{mapped} pages are mapped");
    Ok(())
}

fn constants(_: &Context) -> Result<(), NotPassed> {
    static CONSTANT: [u8; 4] = *b"text";
    static VARIABLE: IrqMutex<u8> = IrqMutex::new(0);
    let tables = &live()?.lock().tables;
    let rights = |address: u64| tables.lookup(address).map(|page| (page.writable, page.executable));
    check_same!(rights(constants as *const () as u64), Some((false, true)));
    check_same!(rights(CONSTANT.as_ptr() as u64), Some((false, false)));
    check_same!(rights(&raw const VARIABLE as u64), Some((true, false)));
    Ok(())
}

fn holes(_: &Context) -> Result<(), NotPassed> {
    let tables = &live()?.lock().tables;
    check_same!(tables.lookup(0), None);
    check_same!(tables.lookup(PAGE_SIZE - 1), None);
    for span in stack::spans() {
        check_same!(tables.lookup(span.guard.start), None);
        check_same!(tables.lookup(span.guard.end - 1), None);
        check!(tables.lookup(span.bytes.start).is_some_and(|page| page.writable), "{span:?}");
    }
    Ok(())
}

/// Takes every frame that is free, writes to each, and reads each back: no two are the same memory, and none
/// is memory that something else uses.
fn frames(_: &Context) -> Result<(), NotPassed> {
    let mut memory = live()?.lock();
    let free = memory.frames.free();
    let mut taken = 0;
    let mut last = None;
    while let Some(frame) = memory.frames.allocate() {
        // SAFETY: the frame was just allocated, and RAM is mapped at its physical address.
        unsafe { (frame.address() as *mut [Option<Gfn>; 2]).write_volatile([last, Some(frame)]) };
        last = Some(frame);
        taken += 1;
    }
    let mut intact = 0;
    let mut released = 0;
    while let Some(frame) = last {
        // SAFETY: as above; it is still ours.
        let [before, own] = unsafe { (frame.address() as *const [Option<Gfn>; 2]).read_volatile() };
        intact += usize::from(own == Some(frame));
        released += usize::from(memory.frames.release(frame).is_ok());
        last = before;
    }
    drop(memory); // the heap may need it for what follows
    check_same!((taken, intact, released), (free, free, free));
    Ok(())
}

fn double_release(_: &Context) -> Result<(), NotPassed> {
    let mut memory = live()?.lock();
    let free = memory.frames.free();
    let Some(frame) = memory.frames.allocate() else { return Err(NotPassed::Fail("no frame".into())) };
    let results = [frame, frame, Gfn(1 << 40)].map(|frame| memory.frames.release(frame));
    let free_after = memory.frames.free();
    drop(memory); // the heap may need it for what follows
    let expected = [Ok(()), Err(FrameError::DoubleFree(frame)), Err(FrameError::NotRam(Gfn(1 << 40)))];
    check_same!(results, expected);
    check_same!(free_after, free);
    Ok(())
}

fn heap_grows(_: &Context) -> Result<(), NotPassed> {
    let before = heap::usage();
    let large = vec![0xa5u8; 3 << 20];
    let during = heap::usage();
    check!(during.used >= before.used + large.len(), "{before:?} {during:?}");
    check!(during.size >= during.used, "{during:?}");
    check!(large.iter().all(|&byte| byte == 0xa5));
    drop(large);
    check_same!(heap::usage().used, before.used);
    Ok(())
}

fn contents(_: &Context) -> Result<(), NotPassed> {
    let mut kept: Vec<(u8, Box<[u8]>)> = Vec::new();
    let mut seed = 3u32;
    for round in 0..2000u32 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (mark, size) = (round as u8, (seed >> 20) as usize + 1);
        kept.push((mark, vec![mark; size].into_boxed_slice()));
        if kept.len() > 60 {
            let (mark, bytes) = kept.swap_remove(seed as usize % 60);
            check!(bytes.iter().all(|&byte| byte == mark), "round {round}");
        }
    }
    Ok(())
}

fn impossible(_: &Context) -> Result<(), NotPassed> {
    let before = heap::usage();
    check!(Vec::<u8>::new().try_reserve_exact(1 << 45).is_err());
    check!(Vec::<u64>::new().try_reserve_exact(usize::MAX / 16).is_err());
    check_same!(heap::usage().used, before.used);
    Ok(())
}
