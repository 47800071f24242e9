//! A Xen for tests on the host. A [`FakeXen`] is one domain's view of a [`Machine`], which may hold several domains.
//! The fake reproduces the behaviour observed in real Xen, down to the status. If misuse would end a domain or
//! corrupt its counts, the fake marks the domain as [dead](FakeXen::is_dead). An unmapped page can't be accessed: the
//! process gets a SIGSEGV.

mod events;
mod grants;
mod machine;

use std::boxed::Box;
use std::collections::VecDeque;
use std::string::String;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::Vec;

use super::{Hypercall, Number};
use crate::abi::event::EventOp;
use crate::abi::grant::Status;
use crate::abi::grant::op::Op;
use crate::abi::memory::{E820Entry, MEMORY_MAP, MemoryMap};
use crate::abi::sched::Shutdown;
use crate::abi::vcpu::VcpuOp;
use crate::abi::{DomId, Features, XenErrno};
use crate::sync::{HostThread, Vcpu};
pub use events::shared_info;
pub use machine::{Machine, RAM_PAGES, WINDOW_PAGES};

/// A fault to inject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Fails the next call of any kind.
    Call(XenErrno),
    /// Fails the next call of a grant operation, with no effect and no status written.
    Op(Op, XenErrno),
    /// Makes the next call of a grant operation report success, with no effect and no status written.
    Silence(Op),
    /// Fails the next element of a grant operation with this status, without performing it.
    Status(Op, Status),
    /// Makes the next call of a grant operation return this error, although all its elements are performed as usual.
    Lie(Op, XenErrno),
    /// Fails the next operation on event channels.
    Event(XenErrno),
    /// Fails the next placement or release of a page.
    Memory(XenErrno),
    /// Lets the next placement or release of a page succeed; a later fault applies to the one after it.
    MemoryWorks,
}

/// A callback for the middle of an operation.
pub(crate) type Hook = Box<dyn FnOnce() + Send>;

/// One domain's view of Xen: the answers for the domain, and a record of its requests.
pub struct FakeXen {
    /// Major version, minor version and suffix.
    pub version: (u16, u16, &'static str),
    /// Features of submap 0.
    pub features: Features,
    /// The memory map; without one, the call fails with `ENOSYS`.
    pub memory_map: Option<Vec<E820Entry>>,
    /// Number of vCPUs.
    pub vcpus: u64,
    /// Whether the domain may call `console_io`.
    pub console_allowed: bool,
    /// Whether it is a PV domain, which may make calls denied to PVH guests.
    pub pv: bool,
    /// Faults to inject; each check takes the first match.
    pub faults: Mutex<VecDeque<Fault>>,
    /// Text written to the console.
    pub console: Mutex<String>,
    /// The domain's shutdown reason, once it has shut down.
    pub shutdown: Mutex<Option<Shutdown>>,
    /// The grant operations called so far.
    pub calls: Mutex<Vec<Op>>,
    /// Delay of each placement of a page.
    pub(crate) placing: Mutex<Duration>,
    /// Called before the next grant operation.
    pub(crate) hook: Mutex<Option<Hook>>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) domain: DomId,
}

impl Default for FakeXen {
    fn default() -> Self {
        Machine::new().domain()
    }
}

impl core::fmt::Debug for FakeXen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FakeXen").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// Takes a lock, even one poisoned by a failed test.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeXen {
    fn new(machine: Arc<Machine>, domain: DomId) -> Self {
        Self {
            version: (4, 17, ".5"),
            features: Features::AUTO_TRANSLATED_PHYSMAP,
            memory_map: None,
            vcpus: 1,
            console_allowed: true,
            pv: false,
            faults: Mutex::default(),
            console: Mutex::default(),
            shutdown: Mutex::default(),
            calls: Mutex::default(),
            placing: Mutex::default(),
            hook: Mutex::default(),
            machine,
            domain,
        }
    }

    /// Returns the domain's number.
    pub fn dom_id(&self) -> DomId {
        self.domain
    }

    /// Returns the domain's machine.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Returns whether the domain is dead: destroyed, or ended for misuse as under real Xen.
    pub fn is_dead(&self) -> bool {
        self.machine.is_dead(self.domain)
    }

    /// Ends the domain from outside, as a toolstack does: unmaps its mappings, closes its ports and fails all its
    /// later calls. The caller must not access its former mappings any more.
    pub fn destroy(&self) {
        self.machine.destroy(self.domain);
        self.close_ports();
    }

    /// Injects a fault, once.
    pub fn fail(&self, fault: Fault) {
        lock(&self.faults).push_back(fault);
    }

    /// Cancels all pending faults.
    pub fn heal(&self) {
        lock(&self.faults).clear();
    }

    /// Returns the number of grant operations called so far.
    pub fn grant_calls(&self) -> usize {
        lock(&self.calls).len()
    }

    /// Calls `hook` before the next grant operation.
    pub fn before_next(&self, hook: impl FnOnce() + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    /// Delays each placement of a page by `duration`.
    pub fn delay_placing(&self, duration: Duration) {
        *lock(&self.placing) = duration;
    }

    /// Takes the first matching fault.
    fn fault<T>(&self, fits: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut faults = lock(&self.faults);
        let (at, found) = faults.iter().enumerate().find_map(|(at, fault)| Some((at, fits(fault)?)))?;
        faults.remove(at);
        Some(found)
    }
}

// SAFETY: a thread keeps its number as long as it lives.
unsafe impl Vcpu for FakeXen {
    fn index(&self) -> usize {
        HostThread.index()
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        run()
    }
}

// SAFETY: each arm reads and writes only the memory defined by the interface for its call.
unsafe impl Hypercall for FakeXen {
    fn domain(&self) -> DomId {
        self.domain
    }

    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
        let call_fails = |fault: &Fault| match fault {
            Fault::Call(errno) => Some(*errno),
            _ => None,
        };
        if let Some(errno) = self.fault(call_fails) {
            return Err(errno);
        }
        if self.is_dead() {
            return Err(XenErrno::SRCH);
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
                // SAFETY: the caller gives a pointer to a MemoryMap with room for `nr_entries` in its buffer.
                let request = unsafe { &mut *(second as *mut MemoryMap) };
                let count = map.len().min(request.nr_entries as usize);
                // SAFETY: as above; at most `nr_entries` are written.
                unsafe { (request.buffer as *mut E820Entry).copy_from(map.as_ptr(), count) };
                request.nr_entries = count as u32;
                Ok(0)
            }
            (Number::MEMORY_OP, op) => {
                let memory_fails = |fault: &Fault| match fault {
                    Fault::Memory(errno) => Some(Err(*errno)),
                    Fault::MemoryWorks => Some(Ok(())),
                    _ => None,
                };
                self.fault(memory_fails).unwrap_or(Ok(()))?;
                std::thread::sleep(*lock(&self.placing));
                // SAFETY: the caller gives a pointer to the operation's argument.
                unsafe { self.machine.memory_op(self.domain, op as u32, second) }
            }
            (Number::GRANT_TABLE_OP, op) => {
                let op = Op(op as u32);
                lock(&self.calls).push(op);
                let hook = lock(&self.hook).take();
                if let Some(hook) = hook {
                    hook();
                }
                // SAFETY: the caller gives a pointer to `third` structures of the operation.
                unsafe { self.grant_op(op, second, third as usize) }
            }
            (Number::CONSOLE_IO, 0) if self.console_allowed => {
                // SAFETY: the caller gives `second` bytes at `third`.
                let text = unsafe { core::slice::from_raw_parts(third as *const u8, second as usize) };
                lock(&self.console).push_str(&String::from_utf8_lossy(text));
                Ok(0)
            }
            (Number::CONSOLE_IO, _) => Err(XenErrno::PERM),
            (Number::VCPU_OP, op) if op == u64::from(VcpuOp::IS_UP.0) => {
                if second < self.vcpus {
                    Ok(u64::from(second == 0))
                } else {
                    Err(XenErrno::NOENT)
                }
            }
            (Number::SCHED_OP, op) if op == u64::from(xen_sys::SCHEDOP_shutdown) => {
                // SAFETY: the caller gives a pointer to a Shutdown.
                *lock(&self.shutdown) = Some(unsafe { *(second as *const Shutdown) });
                Ok(0)
            }
            (Number::EVENT_CHANNEL_OP, op) => {
                let event_fails = |fault: &Fault| match fault {
                    Fault::Event(errno) => Some(*errno),
                    _ => None,
                };
                self.fault(event_fails).map_or(Ok(()), Err)?;
                // SAFETY: the caller gives a pointer to the operation's argument.
                unsafe { self.event_op(EventOp(op as u32), second) }
            }
            // A poll may return early: after a moment, the event may have arrived.
            (Number::SCHED_OP, op) if op == u64::from(xen_sys::SCHEDOP_poll) => {
                std::thread::sleep(Duration::from_micros(20));
                Ok(0)
            }
            (Number::SCHED_OP, op) if op == u64::from(xen_sys::SCHEDOP_yield) => {
                std::thread::yield_now();
                Ok(0)
            }
            _ => Err(XenErrno::NOSYS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FakeXen, Fault};
    use crate::abi::memory::E820Entry;
    use crate::abi::sched::ShutdownReason;
    use crate::abi::{Features, XenErrno};
    use crate::hypercall::{console, memory, sched, vcpu, version};
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
            assert_eq!(u64::from(vcpu::count(&FakeXen { vcpus, ..FakeXen::default() })), vcpus);
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
        xen.fail(Fault::Call(XenErrno(4242)));
        assert_eq!(version::version(&xen).unwrap_err().to_string(), "unknown Xen error -4242");
    }

    #[test]
    fn shutdown_passes_its_reason_by_pointer() {
        let xen = FakeXen::default();
        let _ = sched::shutdown(&xen, ShutdownReason::CRASH);
        assert_eq!(xen.shutdown.lock().unwrap().unwrap().reason, ShutdownReason::CRASH);
    }
}
