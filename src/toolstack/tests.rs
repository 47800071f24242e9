//! Building a domain on a hypervisor that fails wherever it is told to: what was made is unmade, whatever fails.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::boxed::Box;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

use super::build::{Config, build};
use super::interface::{self, KNOWN};
use super::{Step, ToolstackError};
use crate::abi::control::{Control, ControlOp, InterfaceVersion};
use crate::abi::memory::{ADD_TO_PHYSMAP_BATCH, POPULATE_PHYSMAP, REMOVE_FROM_PHYSMAP, Reservation};
use crate::abi::{DomId, PAGE_SIZE, XenErrno};
use crate::hypercall::{Hypercall, Number};
use crate::mm::windows::Windows;
use crate::sync::{HostThread, Vcpu};

/// Says yes to everything, but to one call. Windows are memory of the test's, so what is written into the domain can
/// be looked at.
struct Scripted {
    version: u32,
    /// Which call fails, and how.
    fails: Option<(usize, XenErrno)>,
    calls: AtomicUsize,
    operations: Mutex<Vec<ControlOp>>,
    /// Pages mapped less pages unmapped.
    mapped: AtomicUsize,
}

impl Scripted {
    fn new(version: u32, fails: Option<(usize, XenErrno)>) -> &'static Self {
        let (calls, operations, mapped) = (0.into(), Mutex::default(), 0.into());
        Box::leak(Box::new(Self { version, fails, calls, operations, mapped }))
    }

    fn count(&self, op: ControlOp) -> usize {
        self.operations.lock().unwrap().iter().filter(|made| **made == op).count()
    }
}

// SAFETY: threads have their numbers.
unsafe impl Vcpu for Scripted {
    fn index(&self) -> usize {
        HostThread.index()
    }
}

// SAFETY: it reads and writes what the calls' structures are.
unsafe impl Hypercall for Scripted {
    fn domain(&self) -> DomId {
        DomId::CONTROL
    }

    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
        if number == Number::DOMCTL {
            // SAFETY: the argument of this call.
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
        // To give up what is mapped never fails here: that is another test's.
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
            // SAFETY: the argument of this call.
            POPULATE_PHYSMAP => Ok(unsafe { &*(arguments[1] as *const Reservation) }.nr_extents),
            ADD_TO_PHYSMAP_BATCH => {
                // SAFETY: the argument of this call.
                let batch = unsafe { &*(arguments[1] as *const crate::abi::memory::AddToPhysmapBatch) };
                // SAFETY: as many as it says.
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

/// A kernel of one segment and a note.
fn kernel() -> Vec<u8> {
    const OFFSET: u64 = 64 + 2 * 56;
    let mut image = vec![0; 64];
    image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (at, half) in [(16, 2u16), (18, 62), (20, 1), (32, 64), (52, 64), (54, 56), (56, 2)] {
        image[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    let note = [4, OFFSET, 0, 0, 20, 20, 4];
    let load = [1, 0, 0x20_0000, 0x20_0000, OFFSET, 3 * PAGE_SIZE, 4096];
    note.iter().chain(&load).for_each(|word| image.extend(word.to_le_bytes()));
    [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), 0x20_0000]
        .iter()
        .for_each(|word| image.extend(word.to_le_bytes()));
    image
}

/// Windows must lie where addresses of machines do, below those that a process has by default.
fn windows() -> &'static Windows {
    const PAGES: u64 = 80;
    const AT: u64 = 0x1234_0000_0000;
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
    );
    let bytes = PAGES * PAGE_SIZE;
    // SAFETY: new memory, at addresses that are free.
    let memory = unsafe { libc::mmap(AT as *mut _, bytes as usize, protection, flags, -1, 0) };
    assert_eq!(memory as u64, AT);
    // SAFETY: the memory stays, and is used through windows alone.
    Box::leak(Box::new(unsafe { Windows::new(AT..AT + bytes) }))
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
            Ok(domain) => {
                assert_eq!((made, xen.count(ControlOp::DESTROY_DOMAIN)), (1, 0));
                assert_eq!(domain.finish(), DomId(5));
                assert_eq!(xen.count(ControlOp::DESTROY_DOMAIN), 0, "it is the caller's now");
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
    use Step::{Context, Create, MapMemory, MaxMemory, Memory, PagingMemory, Pin, Vcpus};
    assert_eq!(failures, [Create, Vcpus, MaxMemory, PagingMemory, Pin, Memory, MapMemory, Context]);
}

#[test]
fn a_version_that_is_not_known_is_named() {
    for known in KNOWN {
        let (found, _) = interface::find(Scripted::new(known.version.0, None)).unwrap();
        assert_eq!(found.version, known.version);
    }
    let error = interface::find(Scripted::new(0x16, None)).map(|_| ()).unwrap_err();
    assert_eq!(error, ToolstackError::UnknownInterface(Some(InterfaceVersion(0x16))));
    let text = error.to_string();
    assert_eq!(
        text,
        "Xen has control interface 0x16, and known are 0x15 (Xen 4.17), 0x17 (Xen 4.19 and 4.20)"
    );
    let far = interface::find(Scripted::new(0x1000, None)).map(|_| ()).unwrap_err();
    assert_eq!(far, ToolstackError::UnknownInterface(None));
    // Not the control domain: the fake knows no such call.
    let fake = Box::leak(Box::new(crate::hypercall::fake::FakeXen::default()));
    assert_eq!(interface::find(&*fake).map(|_| ()).unwrap_err(), ToolstackError::NotControlDomain);
}
