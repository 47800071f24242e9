//! Starting vCPUs, and ending them in order.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;

use super::job::Next;
use super::{PORTS, Ports, RUNNING, call, job, running, wake};
use crate::abi::event::VirtualInterrupt;
use crate::abi::{PAGE_SIZE, XenErrno};
use crate::arch::{self, stack};
use crate::event::{EventError, Ipi, VirtualIrq, upcall};
use crate::hypercall::{Xen, vcpu};
use crate::mm::page_tables::MapError;
use crate::mm::{self, Memory, shared_info};
use crate::sync::{MAX_VCPUS, this_vcpu};
use crate::time::{Deadline, TimedOut, timer, wait_until};

/// Timeout for a vCPU to come up. Under emulation it takes some milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a vCPU doesn't run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StartError {
    /// There is no memory for its stacks.
    Stacks(MapError),
    /// Xen refuses it.
    Xen(XenErrno),
    /// It can't be reached.
    Event(EventError),
    /// It was started, but did not report in time.
    TimedOut(usize),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stacks(error) => write!(f, "no stacks for a vCPU: {error}"),
            Self::Xen(errno) => write!(f, "Xen refuses a vCPU: {errno}"),
            Self::Event(error) => write!(f, "a vCPU can't be reached: {error}"),
            Self::TimedOut(vcpu) => write!(f, "vCPU {vcpu} was started but did not report"),
        }
    }
}

impl core::error::Error for StartError {}

impl From<XenErrno> for StartError {
    fn from(errno: XenErrno) -> Self {
        Self::Xen(errno)
    }
}

impl From<EventError> for StartError {
    fn from(error: EventError) -> Self {
        Self::Event(error)
    }
}

/// The number of vCPUs that have reported and not ended.
static ARRIVED: AtomicUsize = AtomicUsize::new(1);

/// Set when the vCPUs must end.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Gives the first vCPU, already running, its timer and the port for the others to reach it.
///
/// # Errors
///
/// [`StartError::Event`] if a port can't be opened.
pub fn start_first(xen: Xen) -> Result<(), StartError> {
    open_ports(xen, 0)
}

/// Brings up all vCPUs of the domain not yet running, one after the other. Returns the number of running vCPUs.
///
/// # Errors
///
/// [`StartError`] of the first vCPU that fails: the earlier ones run, and that one and all later ones aren't used. If
/// it comes up late, it only waits.
pub fn start_all(xen: Xen) -> Result<usize, StartError> {
    let count = (vcpu::count(&xen) as usize).min(MAX_VCPUS);
    for number in running()..count {
        start(xen, number)?;
    }
    Ok(running())
}

fn start(xen: Xen, number: usize) -> Result<(), StartError> {
    map_stacks(number).map_err(StartError::Stacks)?;
    shared_info::register(&xen, number)?;
    open_ports(xen, number)?;
    // After most steps that may fail: the context is never freed.
    let context = arch::vcpu::context(number, main).ok_or(XenErrno::NOENT)?;
    // SAFETY: the context runs `main`, on stacks mapped above, with its own tables.
    unsafe { vcpu::initialise(&xen, number as u32, &context) }?;
    vcpu::up(&xen, number as u32)?;
    // Acquire: pairs with the Release of `main`.
    let arrived = || (ARRIVED.load(Ordering::Acquire) > number).then_some(());
    wait_until(Deadline::after(TIMEOUT), arrived).map_err(|TimedOut| StartError::TimedOut(number))?;
    // Release: pairs with the Acquire of `running`.
    RUNNING.store(number + 1, Ordering::Release);
    Ok(())
}

fn map_stacks(number: usize) -> Result<(), MapError> {
    let memory = mm::memory().ok_or(MapError::OutOfFrames)?;
    for address in stack::of_vcpu(number).flat_map(|span| span.bytes.step_by(PAGE_SIZE as usize)) {
        memory.with(|Memory { frames, tables }| {
            if tables.lookup(address).is_some() {
                return Ok(()); // by an attempt that failed later
            }
            // SAFETY: only the stack uses this address.
            unsafe { tables.map_new_page(address, frames) }
        })?;
    }
    stack::announce(number + 1);
    Ok(())
}

fn open_ports(xen: Xen, number: usize) -> Result<(), StartError> {
    let open = || {
        let timer = VirtualIrq::with_handler(xen, VirtualInterrupt::TIMER, number, |_| timer::fired())?;
        let wake = Ipi::with_handler(xen, number, |_| call::answer())?;
        Ok(Ports { wake, _timer: timer })
    };
    PORTS.get(number).ok_or(XenErrno::NOENT)?.try_call_once(open).map(drop)
}

/// The main loop of every vCPU but the first: runs job after job.
fn main() -> ! {
    let own = this_vcpu::number();
    call::begin();
    // Release: pairs with the Acquire of `start`.
    ARRIVED.fetch_add(1, Ordering::Release);
    let _ = wake(0); // who waits looks again; it looks by itself too
    arch::unmask_interrupts();
    while let Ok(Next::Job(job)) = wait_until(Deadline::NEVER, || job::next(own)) {
        job();
    }
    if let Some(xen) = Xen::enabled() {
        upcall::leave(xen, own);
    }
    call::end();
    // Release: pairs with the Acquire of `stop`.
    ARRIVED.fetch_sub(1, Ordering::Release);
    let _ = wake(0);
    if let Some(xen) = Xen::enabled() {
        let _ = vcpu::down(&xen, own as u32);
    }
    arch::halt()
}

/// Returns whether vCPUs take no more jobs.
pub(super) fn is_stopping() -> bool {
    // Acquire: pairs with the Release of `stop`.
    STOPPING.load(Ordering::Acquire)
}

/// Why vCPUs did not end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StopError {
    /// The caller isn't the first vCPU: it would have to end itself.
    NotTheFirst,
    /// A vCPU is still running a job. It ends after that.
    TimedOut,
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTheFirst => "only the first vCPU can end the others",
            Self::TimedOut => "a vCPU still runs a job",
        })
    }
}

impl core::error::Error for StopError {}

/// Ends all vCPUs but the first, which must be the caller. Each finishes its current job, and the channels bound to
/// it move to the first. They can't be started again.
///
/// # Errors
///
/// [`StopError::NotTheFirst`] if the caller isn't the first vCPU; [`StopError::TimedOut`] if a job is still running
/// at the deadline.
pub fn stop(deadline: Deadline) -> Result<(), StopError> {
    if this_vcpu::number() != 0 {
        return Err(StopError::NotTheFirst);
    }
    // Release: pairs with the Acquire of `is_stopping`.
    STOPPING.store(true, Ordering::Release);
    for number in 1..MAX_VCPUS {
        let _ = wake(number); // also one that came late, and isn't counted
    }
    // Acquire: pairs with the Release of `main`.
    let ended = || (ARRIVED.load(Ordering::Acquire) == 1).then_some(());
    wait_until(deadline, ended).map_err(|TimedOut| StopError::TimedOut)?;
    RUNNING.store(1, Ordering::Relaxed);
    Ok(())
}
