//! Builds domains on a hypervisor that can fail at any call, and checks that each failure undoes all earlier steps.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::boxed::Box;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

use super::build::{Config, build};
use super::interface::{self, KNOWN};
use super::kernel::{Kernel, KernelError};
use super::{Step, ToolstackError};
use crate::abi::domctl::{Control, ControlOp, InterfaceVersion};
use crate::abi::memory::{ADD_TO_PHYSMAP_BATCH, POPULATE_PHYSMAP, REMOVE_FROM_PHYSMAP, Reservation};
use crate::abi::{DomId, PAGE_SIZE, XenErrno};
use crate::hypercall::{Hypercall, Number};
use crate::mm::windows::Windows;
use crate::sync::{HostThread, Vcpu};

/// A hypervisor that accepts every call but one. Its windows are the test's own memory, so the test can inspect the
/// domain's contents.
struct Scripted {
    version: u32,
    /// The call to fail, and its errno.
    fails: Option<(usize, XenErrno)>,
    calls: AtomicUsize,
    operations: Mutex<Vec<ControlOp>>,
    /// Pages mapped minus pages unmapped.
    mapped: AtomicUsize,
    /// The number of pages of 4 KiB and of 2 MiB left to give.
    pages: Mutex<[u64; 2]>,
    /// The frames given, in order.
    given: Mutex<Vec<Range<u64>>>,
}

impl Scripted {
    fn new(version: u32, fails: Option<(usize, XenErrno)>) -> &'static Self {
        Self::with_pages(version, fails, [u64::MAX; 2])
    }

    fn with_pages(version: u32, fails: Option<(usize, XenErrno)>, pages: [u64; 2]) -> &'static Self {
        Box::leak(Box::new(Self {
            version,
            fails,
            calls: 0.into(),
            operations: Mutex::default(),
            mapped: 0.into(),
            pages: pages.into(),
            given: Mutex::default(),
        }))
    }

    /// Gives as many pages as are left.
    ///
    /// # Safety
    ///
    /// The reservation must point to as many frames as it says.
    unsafe fn give(&self, reservation: &Reservation) -> u64 {
        let kind = usize::from(reservation.extent_order > 0);
        let budget = &mut self.pages.lock().unwrap()[kind];
        let count = reservation.nr_extents.min(*budget);
        *budget -= count;
        for index in 0..count {
            // SAFETY: guaranteed by the caller.
            let first = unsafe { *(reservation.extent_start as *const u64).add(index as usize) };
            self.given.lock().unwrap().push(first..first + (1 << reservation.extent_order));
        }
        count
    }

    fn count(&self, op: ControlOp) -> usize {
        self.operations.lock().unwrap().iter().filter(|made| **made == op).count()
    }
}

// SAFETY: each thread has its own number.
unsafe impl Vcpu for Scripted {
    fn index(&self) -> usize {
        HostThread.index()
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        run()
    }
}

// SAFETY: it reads and writes only the structures defined for each call.
unsafe impl Hypercall for Scripted {
    fn domain(&self) -> DomId {
        DomId::CONTROL
    }

    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
        if number == Number::DOMCTL {
            // SAFETY: this is the argument of the call.
            let control = unsafe { &mut *(arguments[0] as *mut Control) };
            if control.interface_version.0 != self.version {
                return Err(XenErrno::ACCES);
            }
            if control.cmd == ControlOp::GET_DOMAIN_INFO {
                control.payload[0] = 0; // it is about domain 0
                return Ok(0);
            }
            if control.cmd == ControlOp::DESTROY_DOMAIN {
                self.operations.lock().unwrap().push(control.cmd);
                return Ok(0);
            }
        }
        // Unmapping never fails here: another test covers that.
        let gives_up = number == Number::MEMORY_OP && arguments[0] == u64::from(REMOVE_FROM_PHYSMAP);
        if !gives_up {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            if let Some((at, errno)) = self.fails
                && call == at
            {
                return Err(errno);
            }
        }
        if number == Number::DOMCTL {
            // SAFETY: as above.
            let control = unsafe { &mut *(arguments[0] as *mut Control) };
            self.operations.lock().unwrap().push(control.cmd);
            if control.cmd == ControlOp::CREATE_DOMAIN {
                control.domain = DomId(5);
            }
            return Ok(0);
        }
        match arguments[0] as u32 {
            // SAFETY: this is the argument of the call.
            POPULATE_PHYSMAP => Ok(unsafe { self.give(&*(arguments[1] as *const Reservation)) }),
            ADD_TO_PHYSMAP_BATCH => {
                // SAFETY: this is the argument of the call.
                let batch = unsafe { &*(arguments[1] as *const crate::abi::memory::AddToPhysmapBatch) };
                // SAFETY: `errs` points to as many words as `size` says.
                unsafe { core::slice::from_raw_parts_mut(batch.errs as *mut i32, batch.size.into()) }.fill(0);
                self.mapped.fetch_add(batch.size.into(), Ordering::Relaxed);
                Ok(0)
            }
            REMOVE_FROM_PHYSMAP => {
                self.mapped.fetch_sub(1, Ordering::Relaxed);
                Ok(0)
            }
            _ => Err(XenErrno::NOSYS),
        }
    }
}

/// An image with one segment and a note.
fn kernel() -> Vec<u8> {
    kernel_of(core::slice::from_ref(&(0x20_0000..0x20_3000)))
}

/// An image with these segments and a note. In the file, each segment consists of the image's own headers, or of as many
/// bytes of them as the segment has room for.
fn kernel_of(segments: &[Range<u64>]) -> Vec<u8> {
    let count = 1 + segments.len() as u64;
    let offset = 64 + count * 56;
    let mut image = vec![0; 64];
    image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (at, half) in [(16, 2u16), (18, 62), (20, 1), (32, 64), (52, 64), (54, 56), (56, count as u16)] {
        image[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    [4, offset, 0, 0, 20, 20, 4].iter().for_each(|word| image.extend(word.to_le_bytes()));
    for segment in segments {
        let size = segment.end - segment.start;
        let load = [1, 0, segment.start, segment.start, offset.min(size), size, 4096];
        load.iter().for_each(|word| image.extend(word.to_le_bytes()));
    }
    [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), 0x20_0000]
        .iter()
        .for_each(|word| image.extend(word.to_le_bytes()));
    let longest = segments.iter().map(|segment| segment.end - segment.start).max().unwrap_or(0);
    image.resize(image.len().max(offset as usize + longest as usize), 0);
    image
}

fn windows() -> &'static Windows {
    windows_at(0x1234_0000_0000)
}

fn small_windows() -> &'static Windows {
    static WINDOWS: std::sync::OnceLock<&'static Windows> = std::sync::OnceLock::new();
    WINDOWS.get_or_init(|| windows_at(0x1235_0000_0000))
}

/// Windows must lie at plausible machine addresses, below the default addresses of a process.
fn windows_at(at: u64) -> &'static Windows {
    const PAGES: u64 = 80;
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
    );
    let bytes = PAGES * PAGE_SIZE;
    // SAFETY: new memory, at free addresses.
    let memory = unsafe { libc::mmap(at as *mut _, bytes as usize, protection, flags, -1, 0) };
    assert_eq!(memory as u64, at);
    // SAFETY: the memory stays, and is used only through windows.
    Box::leak(Box::new(unsafe { Windows::new(at..at + bytes) }))
}

#[test]
fn whatever_fails_what_was_made_is_unmade() {
    let (windows, image) = (windows(), kernel());
    let config = Config {
        kernel: &image,
        modules: &[b"module"],
        memory: 3,
        vcpus: 2,
        processor: Some(0),
        ..Config::default()
    };
    let free = windows.free();
    let mut failures = Vec::new();
    for at in 0.. {
        let xen = Scripted::new(0x15, Some((at, XenErrno::NOMEM)));
        let (known, interface) = interface::find(xen).unwrap();
        let built = build(&interface, known, windows, &config, |id| {
            assert_eq!(id, DomId(5));
            Ok(String::from("line"))
        });
        let made = xen.count(ControlOp::CREATE_DOMAIN);
        assert_eq!((windows.free(), xen.mapped.load(Ordering::Relaxed)), (free, 0), "after call {at}");
        match built {
            Ok(mut domain) => {
                assert_eq!((made, domain.id()), (1, DomId(5)));
                assert_eq!(xen.count(ControlOp::DESTROY_DOMAIN), 0);
                domain.destroy().unwrap();
                domain.destroy().unwrap();
                drop(domain);
                assert_eq!(xen.count(ControlOp::DESTROY_DOMAIN), 1, "another may have its number by then");
                break;
            }
            Err(ToolstackError::Xen(step, XenErrno::NOMEM)) => {
                assert_eq!(xen.count(ControlOp::DESTROY_DOMAIN), made, "{step}");
                failures.push(step);
            }
            Err(other) => panic!("{other}"),
        }
    }
    failures.dedup();
    use Step::{Clock, Context, Create, MapMemory, MaxMemory, Memory, PagingMemory, Pin, Vcpus};
    assert_eq!(failures, [Create, Vcpus, MaxMemory, PagingMemory, Clock, Pin, Memory, MapMemory, Context]);
}

#[test]
fn a_version_that_is_not_known_is_named() {
    for known in KNOWN {
        let (found, _) = interface::find(Scripted::new(known.version.0, None)).unwrap();
        assert_eq!(found.version, known.version);
    }
    let error = interface::find(Scripted::new(0x14, None)).map(|_| ()).unwrap_err();
    assert_eq!(error, ToolstackError::UnknownInterface(Some(InterfaceVersion(0x14))));
    let text = error.to_string();
    assert_eq!(
        text,
        "Xen has the control interface 0x14; known are 0x15 (Xen 4.17), 0x16 (Xen 4.18), 0x17 (Xen 4.19 and 4.20)"
    );
    let far = interface::find(Scripted::new(0x1000, None)).map(|_| ()).unwrap_err();
    assert_eq!(far, ToolstackError::UnknownInterface(None));
    // Not the control domain: the fake doesn't implement this call.
    let fake = Box::leak(Box::new(crate::hypercall::fake::FakeXen::default()));
    assert_eq!(interface::find(&*fake).map(|_| ()).unwrap_err(), ToolstackError::NotControlDomain);
}

#[test]
fn segments_that_overlap_are_refused() {
    for (segments, expected) in [
        (&[0x20_0000..0x20_3000, 0x20_3000..0x20_4000][..], None),
        (&[0x20_3000..0x20_4000, 0x20_0000..0x20_3000], None),
        (&[0x20_0000..0x20_3001, 0x20_3000..0x20_4000], Some(KernelError::BadSegment)),
        (&[0x20_1000..0x20_2000, 0x20_0000..0x20_3000], Some(KernelError::BadSegment)),
        (&[0x20_0000..0x20_1000, 0x20_0000..0x20_1000], Some(KernelError::BadSegment)),
    ] {
        assert_eq!(Kernel::read(&kernel_of(segments)).err(), expected, "{segments:x?}");
    }
    // About as many segments as an image can have, all at the same place, are refused at once.
    let many = kernel_of(&vec![0x20_0000..0x20_1000; 60_000]);
    assert_eq!(Kernel::read(&many).err(), Some(KernelError::BadSegment));
}

/// The contents of a segment in the file must fit into the segment, to the byte.
#[test]
fn a_segment_has_no_more_bytes_than_it_has_room() {
    let in_the_file = 64 + 2 * 56; // as `kernel_of` says
    for (room, expected) in [(in_the_file, None), (in_the_file - 1, Some(KernelError::BadSegment))] {
        let mut image = kernel();
        let memory_size = 64 + 56 + 40; // p_memsz of the second header
        image[memory_size..memory_size + 8].copy_from_slice(&u64::to_le_bytes(room));
        assert_eq!(Kernel::read(&image).err(), expected, "{room:#x}");
    }
}

/// A kernel fits if it leaves one page for its start info; one page more, and it doesn't.
#[test]
fn a_kernel_may_fill_all_of_the_memory() {
    for (end, fits) in [(0x2f_f000, true), (0x30_0000, false)] {
        let image = kernel_of(&[0x20_0000..0x20_1000, end - 0x1000..end]);
        let (known, interface) = interface::find(Scripted::new(0x15, None)).unwrap();
        let config = Config { kernel: &image, memory: 3, ..Config::default() };
        let built = build(&interface, known, small_windows(), &config, |_| Ok(String::new())).map(drop);
        let too_large = matches!(built, Err(ToolstackError::TooLittleMemory { given: 0x30_0000, .. }));
        assert_eq!(too_large, !fits, "{end:#x}: {built:?}");
    }
}

#[test]
fn memory_comes_in_small_pages_where_xen_has_no_large_one() {
    let image = kernel();
    // 200 large pages are more than one call gives.
    for (mib, pages, is_built) in [
        (3, [256, 1], true),
        (3, [255, 1], false),
        (3, [768, 0], true),
        (3, [767, 0], false),
        (401, [256, 200], true),
        (401, [255, 200], false),
        (401, [256 + 512 * 100, 100], true),
        (401, [255 + 512 * 100, 100], false),
    ] {
        let xen = Scripted::with_pages(0x15, None, pages);
        let (known, interface) = interface::find(xen).unwrap();
        let config = Config { kernel: &image, memory: mib, ..Config::default() };
        let built = build(&interface, known, small_windows(), &config, |_| Ok(String::new()));
        let given = xen.given.lock().unwrap();
        // Each frame once, the lowest first.
        assert!(given.iter().zip(given.iter().skip(1)).all(|(one, next)| one.end == next.start), "{given:?}");
        let end = given.last().map_or(0, |range| range.end);
        match built {
            Ok(_) => assert!(is_built && end == u64::from(mib) << 8, "{mib} MiB of {pages:?}: {end}"),
            Err(error) => {
                assert_eq!(error, ToolstackError::Xen(Step::Memory, XenErrno::NOMEM));
                assert!(!is_built, "{mib} MiB of {pages:?}");
                assert_eq!(xen.count(ControlOp::DESTROY_DOMAIN), 1);
            }
        }
    }
}
