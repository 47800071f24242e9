//! A Xen for tests on the host: it keeps what it is told to answer, and answers as the real one does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::string::String;
use std::vec::Vec;

use super::{Hypercall, Number};
use crate::abi::memory::{E820Entry, MEMORY_MAP, MemoryMap};
use crate::abi::sched::{Shutdown, VCPU_IS_UP};
use crate::abi::{Features, XenErrno};

/// What the fake answers, and what it was told.
#[derive(Debug)]
pub struct FakeXen {
    /// Version as major, minor and what follows.
    pub version: (u16, u16, &'static str),
    /// Features of submap 0.
    pub features: Features,
    /// The memory map, or none: `ENOSYS`.
    pub memory_map: Option<Vec<E820Entry>>,
    /// How many vCPUs there are.
    pub vcpus: u64,
    /// Whether `console_io` is for us.
    pub console_allowed: bool,
    /// Errors to give to the next calls, whatever they are.
    pub faults: RefCell<VecDeque<XenErrno>>,
    /// What was written to the console.
    pub console: RefCell<String>,
    /// Why the domain was ended.
    pub shutdown: RefCell<Option<Shutdown>>,
}

impl Default for FakeXen {
    fn default() -> Self {
        Self {
            version: (4, 17, ".5"),
            features: Features::AUTO_TRANSLATED_PHYSMAP,
            memory_map: None,
            vcpus: 1,
            console_allowed: true,
            faults: RefCell::default(),
            console: RefCell::default(),
            shutdown: RefCell::default(),
        }
    }
}

// SAFETY: each arm reads and writes only what the interface defines for that call.
unsafe impl Hypercall for FakeXen {
    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
        if let Some(fault) = self.faults.borrow_mut().pop_front() {
            return Err(fault);
        }
        let [first, second, third, ..] = arguments;
        match (number, first) {
            (Number::XEN_VERSION, 0) => Ok(u64::from(self.version.0) << 16 | u64::from(self.version.1)),
            (Number::XEN_VERSION, 1) => {
                let mut text = [0u8; 16];
                text[..self.version.2.len()].copy_from_slice(self.version.2.as_bytes());
                // SAFETY: the caller gives a pointer to 16 bytes.
                unsafe { *(second as *mut [u8; 16]) = text };
                Ok(0)
            }
            (Number::XEN_VERSION, 6) => {
                // SAFETY: the caller gives a pointer to two words, index and submap.
                unsafe { (*(second as *mut [u32; 2]))[1] = self.features.bits() };
                Ok(0)
            }
            (Number::MEMORY_OP, op) if op == u64::from(MEMORY_MAP) => {
                let map = self.memory_map.as_ref().ok_or(XenErrno::NOSYS)?;
                // SAFETY: the caller gives a pointer to a MemoryMap, whose buffer holds `nr_entries`.
                let request = unsafe { &mut *(second as *mut MemoryMap) };
                let count = map.len().min(request.nr_entries as usize);
                // SAFETY: as above; at most `nr_entries` are written.
                unsafe { (request.buffer as *mut E820Entry).copy_from(map.as_ptr(), count) };
                request.nr_entries = count as u32;
                Ok(0)
            }
            (Number::CONSOLE_IO, 0) if self.console_allowed => {
                // SAFETY: the caller gives `second` bytes at `third`.
                let text = unsafe { core::slice::from_raw_parts(third as *const u8, second as usize) };
                self.console.borrow_mut().push_str(&String::from_utf8_lossy(text));
                Ok(0)
            }
            (Number::CONSOLE_IO, _) => Err(XenErrno::PERM),
            (Number::VCPU_OP, op) if op == u64::from(VCPU_IS_UP) => {
                if second < self.vcpus {
                    Ok(u64::from(second == 0))
                } else {
                    Err(XenErrno::NOENT)
                }
            }
            (Number::SCHED_OP, op) if op == u64::from(xen_sys::SCHEDOP_shutdown) => {
                // SAFETY: the caller gives a pointer to a Shutdown.
                *self.shutdown.borrow_mut() = Some(unsafe { *(second as *const Shutdown) });
                Ok(0)
            }
            _ => Err(XenErrno::NOSYS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FakeXen;
    use crate::abi::memory::E820Entry;
    use crate::abi::sched::ShutdownReason;
    use crate::abi::{Features, XenErrno};
    use crate::hypercall::{console, memory, sched, version};
    use std::string::ToString;

    #[test]
    fn version_and_features_are_read() {
        let xen = FakeXen { features: Features::from_bits_retain(0x8000_0804), ..FakeXen::default() };
        assert_eq!(version::version(&xen).unwrap().to_string(), "4.17.5");
        let features = version::features(&xen).unwrap();
        assert!(features.contains(Features::DOM0 | Features::AUTO_TRANSLATED_PHYSMAP));
        assert_eq!(features.bits(), 0x8000_0804, "unknown bits are kept");
    }

    #[test]
    fn vcpus_are_counted_to_the_first_that_is_absent() {
        for vcpus in [1, 2, 4, 128] {
            assert_eq!(u64::from(sched::vcpus(&FakeXen { vcpus, ..FakeXen::default() })), vcpus);
        }
    }

    #[test]
    fn a_memory_map_longer_than_the_buffer_is_cut() {
        let map = (0..9).map(|i| E820Entry { address: i << 20, size: 1 << 20, kind: 1 }).collect();
        let xen = FakeXen { memory_map: Some(map), ..FakeXen::default() };
        let mut room = [E820Entry::default(); 4];
        assert_eq!(memory::memory_map(&xen, &mut room).unwrap().len(), 4);
        assert_eq!(memory::memory_map(&FakeXen::default(), &mut room).unwrap_err(), XenErrno::NOSYS);
    }

    #[test]
    fn errors_carry_the_raw_number_and_say_what_it_means() {
        let xen = FakeXen { console_allowed: false, ..FakeXen::default() };
        let error = console::write(&xen, b"text").unwrap_err();
        assert_eq!(error.to_string(), "operation not permitted (EPERM, -1)");
        xen.faults.borrow_mut().push_back(XenErrno(4242));
        assert_eq!(version::version(&xen).unwrap_err().to_string(), "unknown Xen error -4242");
    }

    #[test]
    fn shutdown_passes_its_reason_by_pointer() {
        let xen = FakeXen::default();
        let _ = sched::shutdown(&xen, ShutdownReason::CRASH);
        assert_eq!(xen.shutdown.borrow().unwrap().reason, ShutdownReason::CRASH);
    }
}
