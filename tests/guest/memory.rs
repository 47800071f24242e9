//! Frames, page tables and the heap, as they are in use.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use granite::abi::{Gfn, PAGE_SIZE};
use granite::arch::stack;
use granite::mm::page_tables::Mapped;
use granite::mm::{self, Memory, frames::FrameError, heap};
use granite::sync::IrqMutex;

use crate::boot;
use crate::harness::{ALL, Case, Context, GUESTS, NotPassed, Rig};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("memory::nothing_is_writable_and_executable", GUESTS, write_xor_execute),
    Case::new("memory::code_and_constants_cannot_be_written", GUESTS, constants),
    Case::new("memory::null_page_and_guards_are_not_mapped", GUESTS, holes),
    Case::new("memory::all_frames_are_ram_of_ours", &[Rig::Solo, Rig::Direct, Rig::Lab], frames),
    Case::new("memory::a_frame_is_not_released_twice", GUESTS, double_release),
    Case::new("memory::the_heap_grows_and_counts", GUESTS, heap_grows),
    Case::new("memory::allocations_keep_their_contents", ALL, contents),
    Case::new("memory::an_address_forgets_the_page_that_was_there", GUESTS, remapped),
    Case::new("memory::large_objects_come_and_go", GUESTS, large_objects),
    Case::new("memory::a_large_object_that_does_not_fit_takes_nothing", GUESTS, too_large),
    Case::new("memory::copies_overlap_either_way", ALL, copies),
    Case::new("memory::fills_and_comparisons_by_bytes", ALL, fills_and_comparisons),
    Case::new("memory::an_impossible_allocation_is_refused", ALL, impossible),
];

fn live() -> Result<&'static IrqMutex<Memory>, NotPassed> {
    mm::memory().ok_or_else(|| NotPassed::Fail("memory was not taken over".into()))
}

/// What is mapped anew is read anew.
fn remapped(_: &Context) -> Result<(), NotPassed> {
    // Between the large objects and the stacks.
    const AT: u64 = (6 << 44) - PAGE_SIZE;
    let frame = |byte: u8| {
        let frame = live()?.with(|memory| memory.frames.allocate());
        let frame = frame.ok_or_else(|| NotPassed::Fail("no memory".into()))?;
        // SAFETY: the frame was just allocated, and is mapped at its own address.
        unsafe { (frame.address() as *mut u8).write_bytes(byte, PAGE_SIZE as usize) };
        Ok::<_, NotPassed>(frame)
    };
    for (first, second) in [(1, 2), (3, 4)] {
        // Both are out before one is released: they aren't the same.
        let frames = [frame(first)?, frame(second)?];
        for (frame, byte) in frames.into_iter().zip([first, second]) {
            // SAFETY: nothing else uses the address.
            let mapped =
                live()?.with(|memory| unsafe { memory.tables.map_page(AT, frame, &mut memory.frames) });
            check_same!(mapped, Ok(()));
            // SAFETY: it was just mapped.
            check_same!(unsafe { (AT as *const u8).read_volatile() }, byte);
            // SAFETY: nobody uses it any more.
            let released = live()?.with(|memory| unsafe {
                let unmapped = memory.tables.unmap_page(AT);
                unmapped.map(|frame| memory.frames.release(frame).is_ok())
            });
            check_same!(released, Ok(true));
        }
    }
    Ok(())
}

/// Of whole large pages, and of a part; aligned, whole, and given back.
fn large_objects(_: &Context) -> Result<(), NotPassed> {
    use alloc::alloc::{Layout, alloc, dealloc};
    let free = || live().map(|live| live.with(|memory| memory.frames.free()));
    let used = heap::usage().used;
    // The page tables of the first stay.
    for round in 0..3 {
        let before = free()?;
        for (bytes, align) in [(2 << 20, 8), ((4 << 20) + 5, 4096), ((3 << 20) - 4096, 4 << 20)] {
            let layout =
                Layout::from_size_align(bytes, align).map_err(|_| NotPassed::Fail("a layout".into()))?;
            // SAFETY: the layout isn't empty.
            let memory = unsafe { alloc(layout) };
            check!(!memory.is_null() && memory.addr().is_multiple_of(align), "{layout:?}");
            for at in (0..bytes).step_by(4096).chain([bytes - 1]) {
                // SAFETY: it lies in the object.
                unsafe { memory.add(at).write(at as u8 ^ 0x5a) };
            }
            for at in (0..bytes).step_by(4096) {
                // SAFETY: as above.
                check_same!((at, unsafe { memory.add(at).read() }), (at, at as u8 ^ 0x5a));
            }
            check!(heap::usage().used >= used + bytes, "{:?}", heap::usage());
            let end = lookup((memory.addr() + bytes.next_multiple_of(4096)) as u64)?;
            check_same!(end, None);
            // SAFETY: it was allocated with this layout.
            unsafe { dealloc(memory, layout) };
            check_same!(lookup(memory.addr() as u64)?, None);
        }
        check!(free()? + 8 >= before, "round {round}: {} free, {before} before", free()?);
    }
    check_same!(heap::usage().used, used);
    Ok(())
}

fn too_large(context: &Context) -> Result<(), NotPassed> {
    let free = || live().map(|live| live.with(|memory| memory.frames.free()));
    let before = free()?;
    for bytes in [context.platform()?.memory() as usize, isize::MAX as usize - 4096] {
        let mut vector = Vec::<u8>::new();
        check!(vector.try_reserve_exact(bytes).is_err(), "{bytes} bytes");
        check_same!(free()?, before);
    }
    Ok(())
}

unsafe extern "C" {
    fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8;
    fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32;
}

/// Lengths around what goes by bytes, by words, and by string instructions.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=40).chain([63, 64, 65, 120, 127, 128, 129, 135, 136, 137, 255, 256, 300])
}

/// In a guest these are boot/memory.S.
fn copies(_: &Context) -> Result<(), NotPassed> {
    let pattern: [u8; 700] = core::array::from_fn(|i| (i * 31 + i / 7) as u8);
    for len in lengths() {
        for (to, from) in
            [(0, 350), (350, 0), (3, 353), (10, 11), (11, 10), (10, 17), (17, 10), (1, 9), (9, 1), (5, 5)]
        {
            let (mut memory, mut wanted) = (pattern, pattern);
            // Not by `copy_from_slice`, which is what is tested.
            wanted[to..].iter_mut().zip(&pattern[from..from + len]).for_each(|(place, byte)| *place = *byte);
            let start = memory.as_mut_ptr();
            // SAFETY: both parts lie in the array.
            let returned = unsafe { memmove(start.add(to), start.add(from), len) };
            check!(memory == wanted && returned == start.wrapping_add(to), "{len} bytes from {from} to {to}");
            if to.abs_diff(from) >= len {
                let mut memory = pattern;
                let start = memory.as_mut_ptr();
                // SAFETY: as above, and they are apart.
                let returned = unsafe { memcpy(start.add(to), start.add(from), len) };
                check!(
                    memory == wanted && returned == start.wrapping_add(to),
                    "{len} bytes from {from} to {to}"
                );
            }
        }
    }
    Ok(())
}

fn fills_and_comparisons(_: &Context) -> Result<(), NotPassed> {
    for len in lengths() {
        for (at, byte) in [(0, 0x1a5), (1, 0xff), (7, 0)] {
            let (mut memory, mut wanted) = ([0x33u8; 400], [0x33u8; 400]);
            wanted[at..at + len].iter_mut().for_each(|place| *place = byte as u8);
            let start = memory.as_mut_ptr();
            // SAFETY: it lies in the array.
            let returned = unsafe { memset(start.add(at), byte, len) };
            check!(memory == wanted && returned == start.wrapping_add(at), "{len} bytes at {at}");
        }
        let (one, mut other) = ([0x80u8; 400], [0x80u8; 400]);
        // SAFETY: both lie in their arrays.
        let compare = |other: &[u8; 400]| unsafe { memcmp(one.as_ptr(), other.as_ptr(), len) };
        check_same!(compare(&other), 0);
        for index in 0..len {
            // What comes after the first difference doesn't count.
            other[index + 1] = !other[index + 1];
            for (byte, sign) in [(0x7f, 1), (0x81, -1), (0xff, -1), (0, 1)] {
                other[index] = byte;
                check!(compare(&other).signum() == sign, "{byte:#x} at {index} of {len}");
            }
            (other[index], other[index + 1]) = (0x80, 0x80);
        }
        other[len] = 0;
        check_same!(compare(&other), 0);
    }
    Ok(())
}

/// Every page of RAM, the image and the heap.
fn write_xor_execute(context: &Context) -> Result<(), NotPassed> {
    let ram_end = context.platform()?.memory() + (64 << 20);
    let heap = heap::WINDOW..heap::WINDOW + (1 << 20);
    // Nothing is checked with the lock held: to say what is wrong takes memory.
    let (mapped, bad) = live()?.with(|memory| {
        let pages = (0..ram_end).chain(heap).step_by(PAGE_SIZE as usize);
        let mapped = pages.filter_map(|address| Some((address, memory.tables.lookup(address)?)));
        mapped.fold((0, None), |(count, bad), (address, page)| {
            (count + 1, bad.or((page.writable && page.executable).then_some(address)))
        })
    });
    check_same!(bad, None);
    check!(mapped > 1000, "{mapped} pages are mapped");
    Ok(())
}

fn lookup(address: u64) -> Result<Option<Mapped>, NotPassed> {
    Ok(live()?.with(|memory| memory.tables.lookup(address)))
}

fn constants(_: &Context) -> Result<(), NotPassed> {
    static CONSTANT: [u8; 4] = *b"text";
    static VARIABLE: IrqMutex<u8> = IrqMutex::new(0);
    let rights = |address| Ok::<_, NotPassed>(lookup(address)?.map(|page| (page.writable, page.executable)));
    check_same!(rights(constants as *const () as u64)?, Some((false, true)));
    check_same!(rights(CONSTANT.as_ptr() as u64)?, Some((false, false)));
    check_same!(rights(&raw const VARIABLE as u64)?, Some((true, false)));
    Ok(())
}

fn holes(_: &Context) -> Result<(), NotPassed> {
    check_same!(lookup(0)?, None);
    check_same!(lookup(PAGE_SIZE - 1)?, None);
    for span in stack::spans() {
        check_same!(lookup(span.guard.start)?, None);
        check_same!(lookup(span.guard.end - 1)?, None);
        check!(lookup(span.bytes.start)?.is_some_and(|page| page.writable), "{span:?}");
    }
    Ok(())
}

/// Takes every frame that is free, fills each, and reads each back: no two are the same memory, and none is
/// memory that something else uses, such as a module's.
fn frames(context: &Context) -> Result<(), NotPassed> {
    type Page = [Option<Gfn>; PAGE_SIZE as usize / size_of::<Option<Gfn>>()];
    let (free, taken, intact, released) = live()?.with(|memory| {
        let free = memory.frames.free();
        let mut taken = 0;
        let mut last = None;
        while let Some(frame) = memory.frames.allocate() {
            let mut page: Page = [Some(frame); _];
            page[0] = last;
            // SAFETY: the frame was just allocated, and RAM is mapped at its physical address.
            unsafe { (frame.address() as *mut Page).write_volatile(page) };
            last = Some(frame);
            taken += 1;
        }
        let mut intact = 0;
        let mut released = 0;
        while let Some(frame) = last {
            // SAFETY: as above; it is still ours.
            let page = unsafe { (frame.address() as *const Page).read_volatile() };
            intact += usize::from(page[1..].iter().all(|&own| own == Some(frame)));
            // SAFETY: it was allocated above, and isn't used again.
            released += usize::from(unsafe { memory.frames.release(frame) }.is_ok());
            last = page[0];
        }
        (free, taken, intact, released)
    });
    check_same!((taken, intact, released), (free, free, free));
    boot::modules(context)
}

fn double_release(_: &Context) -> Result<(), NotPassed> {
    let (free, frame, results, free_after) = live()?.with(|memory| {
        let free = memory.frames.free();
        let frame = memory.frames.allocate().unwrap_or(Gfn(0));
        // SAFETY: it was allocated above and isn't used; the others are refused, which is what is tested.
        let results = [frame, frame, Gfn(1 << 40)].map(|frame| unsafe { memory.frames.release(frame) });
        (free, frame, results, memory.frames.free())
    });
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

/// It is refused, and takes nothing from anybody.
fn impossible(context: &Context) -> Result<(), NotPassed> {
    let free = || context.platform().map_or(0, |platform| platform.free_memory());
    let before = (heap::usage(), free());
    check!(Vec::<u8>::new().try_reserve_exact(1 << 45).is_err());
    check!(Vec::<u64>::new().try_reserve_exact(usize::MAX / 16).is_err());
    check_same!((heap::usage(), free()), before);
    Ok(())
}
