//! Why a guest can't start.

use core::fmt;

use crate::abi::XenErrno;
use crate::loader::{NoMemoryMap, StartInfoError};
use crate::mm::page_tables::MapError;
use crate::vcpu;

/// The memory to recommend, in MiB: tests start with it, and less leaves no room for an application.
const NEEDED_MIB: u64 = 4;

/// Why the guest can't start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The loader's start info is unusable.
    StartInfo(StartInfoError),
    /// There is no memory map.
    NoMemoryMap(NoMemoryMap),
    /// There is too little RAM for the allocator's own tables.
    TooLittleMemory {
        /// Bytes of RAM in the map.
        bytes: u64,
    },
    /// The page tables could not be built.
    PageTables(MapError),
    /// Xen delivers no events.
    NoEvents(XenErrno),
    /// The first vCPU has no timer, or can't be reached.
    FirstVcpu(vcpu::StartError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartInfo(error) => error.fmt(f),
            Self::NoMemoryMap(error) => error.fmt(f),
            Self::TooLittleMemory { bytes } => {
                write!(f, "{} KiB of memory are too little; {NEEDED_MIB} MiB are needed", bytes / 1024)
            }
            Self::PageTables(MapError::OutOfFrames) => {
                write!(f, "too little memory for page tables; {NEEDED_MIB} MiB are needed")
            }
            Self::PageTables(error) => write!(f, "page tables: {error}"),
            Self::NoEvents(error) => write!(f, "Xen delivers no events: {error}"),
            Self::FirstVcpu(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

impl From<StartInfoError> for StartError {
    fn from(error: StartInfoError) -> Self {
        Self::StartInfo(error)
    }
}

impl From<NoMemoryMap> for StartError {
    fn from(error: NoMemoryMap) -> Self {
        Self::NoMemoryMap(error)
    }
}
