//! Errors of the toolstack.

use core::fmt;

use super::kernel::KernelError;
use crate::abi::XenErrno;
use crate::abi::domctl::InterfaceVersion;
use crate::event::EventError;

/// The step that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it, and so does `Display`")]
pub enum Step {
    Create,
    Vcpus,
    MaxMemory,
    PagingMemory,
    Clock,
    Pin,
    Memory,
    MapMemory,
    UnmapMemory,
    Context,
    Unpause,
    Pause,
    Destroy,
    Info,
    Console,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "creating the domain",
            Self::Vcpus => "allocating its vCPUs",
            Self::MaxMemory => "setting its maximum memory",
            Self::PagingMemory => "giving it memory for page tables",
            Self::Clock => "choosing its clock",
            Self::Pin => "pinning its vCPUs",
            Self::Memory => "giving it memory",
            Self::MapMemory => "mapping its memory",
            Self::UnmapMemory => "unmapping its memory",
            Self::Context => "setting its registers",
            Self::Unpause => "unpausing it",
            Self::Pause => "pausing it",
            Self::Destroy => "destroying it",
            Self::Info => "querying its state",
            Self::Console => "reading Xen's console",
        })
    }
}

/// The reason why a domain could not be started or controlled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ToolstackError {
    /// This isn't the control domain.
    NotControlDomain,
    /// This toolstack doesn't support Xen's version of the control interface. The version, if it could be found.
    UnknownInterface(Option<InterfaceVersion>),
    /// The kernel is not a valid kernel.
    Kernel(KernelError),
    /// The kernel, its start info and its modules don't fit into the domain's memory.
    TooLittleMemory {
        /// Bytes needed.
        needed: u64,
        /// Bytes configured for the domain.
        given: u64,
    },
    /// The configured memory is zero, or above `MAX_MEMORY` (3072 MiB); or `populated` is more than `memory`.
    BadMemory {
        /// The configured memory in MiB.
        mib: u32,
    },
    /// No addresses are free for mapping the domain's memory.
    NoWindow,
    /// Xen's errno, and the step.
    Xen(Step, XenErrno),
    /// The event channel for changes of domains can't be opened.
    Event(EventError),
    /// The domain was still running at the deadline.
    StillRunning,
}

impl fmt::Display for ToolstackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotControlDomain => {
                f.write_str("only Xen's control domain can start others, as in the rigs solo and pair")
            }
            Self::UnknownInterface(version) => {
                match version {
                    Some(version) => write!(f, "Xen has the control interface {:#x}", version.0)?,
                    None => f.write_str("Xen's control interface has an unknown version")?,
                }
                f.write_str("; known are")?;
                let names = super::interface::KNOWN.iter();
                names.enumerate().try_for_each(|(index, known)| {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma} {:#x} ({})", known.version.0, known.of)
                })
            }
            Self::Kernel(error) => error.fmt(f),
            Self::TooLittleMemory { needed, given } => {
                write!(
                    f,
                    "the domain needs {} KiB to start, but would get {}",
                    needed.div_ceil(1024),
                    given / 1024
                )
            }
            Self::BadMemory { mib } => {
                write!(f, "{mib} MiB of memory: it must be 1 to {}", super::build::MAX_MEMORY)
            }
            Self::NoWindow => f.write_str("no addresses are free for mapping the domain's memory"),
            Self::Xen(step, errno) => write!(f, "{step}: {errno}"),
            Self::Event(error) => error.fmt(f),
            Self::StillRunning => f.write_str("the domain was still running at the deadline"),
        }
    }
}

impl core::error::Error for ToolstackError {}

impl From<KernelError> for ToolstackError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl From<EventError> for ToolstackError {
    fn from(error: EventError) -> Self {
        Self::Event(error)
    }
}
