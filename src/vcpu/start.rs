//! Bringing vCPUs up, and their orderly end.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;

use super::job::Next;
use super::{PORTS, Ports, RUNNING, call, job, kick, running};
use crate::abi::event::VirtualInterrupt;
use crate::abi::{PAGE_SIZE, XenErrno};
use crate::arch::{self, stack};
use crate::event::{EventError, Ipi, VirtualIrq, delivery};
use crate::hypercall::{Xen, vcpu};
use crate::mm::page_tables::MapError;
use crate::mm::{self, Memory, shared_info};
use crate::sync::{MAX_VCPUS, this_vcpu};
use crate::time::{Deadline, TimedOut, timer, wait_until};

/// How long a vCPU may take to come up, or to end. Under emulation it is some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// It was started, and nothing was heard of it.
    Silent(usize),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stacks(error) => write!(f, "no stacks for a vCPU: {error}"),
            Self::Xen(errno) => write!(f, "Xen refuses a vCPU: {errno}"),
            Self::Event(error) => write!(f, "a vCPU can't be reached: {error}"),
            Self::Silent(vcpu) => write!(f, "vCPU {vcpu} was started, and nothing was heard of it"),
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

/// How many have said that they run.
static ARRIVED: AtomicUsize = AtomicUsize::new(1);

/// They are to end.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Gives the first vCPU, which runs already, its timer and the port by which others reach it.
///
/// # Errors
///
/// [`StartError`].
pub fn start_first(xen: Xen) -> Result<(), StartError> {
    open_ports(xen, 0)
}

/// Brings up all vCPUs that Xen gives the domain and that don't run yet, one after the other. Returns how many run.
///
/// # Errors
///
/// [`StartError`]: the vCPUs before run, and that one and those behind aren't used. One that comes late only waits.
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
    // Behind what may fail: it is made for good.
    let context = arch::vcpu::context(number, main).ok_or(XenErrno::NOENT)?;
    // SAFETY: the context is that of `main`, on stacks that were just mapped, with tables of its own.
    unsafe { vcpu::initialise(&xen, number as u32, &context) }?;
    vcpu::up(&xen, number as u32)?;
    // Acquire: pairs with the Release of `main`.
    let arrived = || (ARRIVED.load(Ordering::Acquire) > number).then_some(());
    wait_until(Deadline::after(PATIENCE), arrived).map_err(|TimedOut| StartError::Silent(number))?;
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
            // SAFETY: the address is the stack's alone.
            unsafe { tables.map_new_page(address, frames) }
        })?;
    }
    stack::announce(number + 1);
    Ok(())
}

fn open_ports(xen: Xen, number: usize) -> Result<(), StartError> {
    let open = || {
        let timer = VirtualIrq::with_handler(xen, VirtualInterrupt::TIMER, number, |_| timer::fired())?;
        let kick = Ipi::with_handler(xen, number, |_| call::answer())?;
        Ok(Ports { kick, _timer: timer })
    };
    PORTS.get(number).ok_or(XenErrno::NOENT)?.try_call_once(open).map(drop)
}

/// What every vCPU but the first runs: job after job.
fn main() -> ! {
    let own = this_vcpu::number();
    call::begin();
    // Release: pairs with the Acquire of `start`.
    ARRIVED.fetch_add(1, Ordering::Release);
    let _ = kick(0); // who waits looks again; it looks by itself too
    arch::unmask_interrupts();
    while let Ok(Next::Job(job)) = wait_until(Deadline::NEVER, || job::next(own)) {
        job();
    }
    if let Some(xen) = Xen::enabled() {
        delivery::leave(xen, own);
    }
    call::end();
    // Release: pairs with the Acquire of `stop`.
    ARRIVED.fetch_sub(1, Ordering::Release);
    let _ = kick(0);
    if let Some(xen) = Xen::enabled() {
        let _ = vcpu::down(&xen, own as u32);
    }
    arch::halt()
}

/// Whether vCPUs take no more jobs.
pub(super) fn is_stopping() -> bool {
    // Acquire: pairs with the Release of `stop`.
    STOPPING.load(Ordering::Acquire)
}

/// Why vCPUs did not end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StopError {
    /// Another vCPU than the first asked: it would have to end itself.
    NotTheFirst,
    /// One is still at a job. It ends when it is done.
    TimedOut,
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTheFirst => "only the first vCPU can end the others",
            Self::TimedOut => "a vCPU is still at a job",
        })
    }
}

impl core::error::Error for StopError {}

/// Ends all vCPUs but the first, which calls it: each finishes the job that it is at, and channels whose events came to
/// it move to the first. They can't be started again.
///
/// # Errors
///
/// [`StopError`]: the caller isn't the first, or one is still at a job at the deadline.
pub fn stop(deadline: Deadline) -> Result<(), StopError> {
    if this_vcpu::number() != 0 {
        return Err(StopError::NotTheFirst);
    }
    // Release: pairs with the Acquire of `is_stopping`.
    STOPPING.store(true, Ordering::Release);
    for number in 1..MAX_VCPUS {
        let _ = kick(number); // also one that came late, and isn't counted
    }
    // Acquire: pairs with the Release of `main`.
    let ended = || (ARRIVED.load(Ordering::Acquire) == 1).then_some(());
    wait_until(deadline, ended).map_err(|TimedOut| StopError::TimedOut)?;
    RUNNING.store(1, Ordering::Relaxed);
    Ok(())
}
