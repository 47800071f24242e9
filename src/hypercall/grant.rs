//! The grant table's hypercall, with one typed function per operation, so that no call gets a wrong argument.
//!
//! A batch has one status per element and one result for the call, and both are checked. Every status is set to
//! [`Status::UNANSWERED`] before the call, so an element without an answer never counts as a success.

use core::fmt;

use super::{Hypercall, Number};
use crate::abi::grant::op::{
    CacheFlush, DumpTable, GetStatusFrames, GetVersion, GrantCopy, MapGrantRef, Op, QuerySize, SetVersion,
    SetupTable, SwapGrantRef, Transfer, UnmapAndReplace, UnmapGrantRef,
};
use crate::abi::grant::{GrantRef, Status};
use crate::abi::{DomId, XenErrno};

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OpError {
    /// The call as a whole failed.
    Call(Op, XenErrno),
    /// This element failed.
    Status(Op, Status),
    /// Xen reported success and wrote no status.
    Unanswered(Op),
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(op, XenErrno::NOSYS) if op.only_for().is_some() => {
                write!(
                    f,
                    "{op}: only {} may call it ({})",
                    op.only_for().unwrap_or_default(),
                    XenErrno::NOSYS
                )
            }
            Self::Call(op, errno) => write!(f, "{op}: {errno}"),
            Self::Status(op, status) => write!(f, "{op}: {status}"),
            Self::Unanswered(op) => write!(f, "{op}: Xen reported success without a status"),
        }
    }
}

impl core::error::Error for OpError {}

impl OpError {
    /// Combines an element's status with the call's result. A written status counts even if the call failed: an
    /// interrupted call may have completed some elements.
    pub fn check(op: Op, call: Result<(), XenErrno>, status: Status) -> Result<(), Self> {
        match (status, call) {
            (Status::OKAY, _) => Ok(()),
            (Status::UNANSWERED, Err(errno)) => Err(Self::Call(op, errno)),
            (Status::UNANSWERED, Ok(())) => Err(Self::Unanswered(op)),
            (status, _) => Err(Self::Status(op, status)),
        }
    }
}

/// An argument of the hypercall.
///
/// # Safety
///
/// The type must be the structure expected by Xen for the operation.
unsafe trait Argument {
    const OP: Op;
    /// Returns its status, if it has one.
    fn status(&mut self) -> Option<&mut Status>;
}

macro_rules! arguments {
    ($($type:ty = $op:ident $($status:ident)?;)*) => {$(
        // SAFETY: grant_table.h pairs them; tests/abi.rs compares the layouts.
        unsafe impl Argument for $type {
            const OP: Op = Op::$op;
            fn status(&mut self) -> Option<&mut Status> {
                #[allow(unused_mut, unused_assignments, reason = "two have no status")]
                let mut status = None;
                $(status = Some(&mut self.$status);)?
                status
            }
        }
    )*};
}

arguments! {
    MapGrantRef = MAP status;
    UnmapGrantRef = UNMAP status;
    SetupTable = SETUP_TABLE status;
    DumpTable = DUMP_TABLE status;
    Transfer = TRANSFER status;
    GrantCopy = COPY status;
    QuerySize = QUERY_SIZE status;
    UnmapAndReplace = UNMAP_AND_REPLACE status;
    SetVersion = SET_VERSION;
    GetStatusFrames = GET_STATUS_FRAMES status;
    GetVersion = GET_VERSION;
    SwapGrantRef = SWAP_GRANT_REF status;
    CacheFlush = CACHE_FLUSH;
}

/// Makes the call.
///
/// # Safety
///
/// The operation's effects on memory, and the targets of its structures' pointers, must be the caller's to change.
unsafe fn call<T: Argument>(xen: &impl Hypercall, arguments: &mut [T]) -> Result<(), XenErrno> {
    for argument in &mut *arguments {
        if let Some(status) = argument.status() {
            *status = Status::UNANSWERED;
        }
    }
    let count = u32::try_from(arguments.len()).map_err(|_| XenErrno::INVAL)?;
    let registers = [T::OP.0.into(), arguments.as_mut_ptr() as u64, count.into(), 0, 0];
    // SAFETY: Xen reads and writes `count` structures at the pointer, which are borrowed here; the caller vouches for
    // their pointers.
    unsafe { xen.call(Number::GRANT_TABLE_OP, registers) }.map(drop)
}

/// Makes the call for one element, and checks both its status and the call's result.
///
/// # Safety
///
/// As [`call`].
unsafe fn one<T: Argument>(xen: &impl Hypercall, argument: &mut T) -> Result<(), OpError> {
    // SAFETY: guaranteed by the caller.
    let called = unsafe { call(xen, core::slice::from_mut(argument)) };
    match argument.status().copied() {
        Some(status) => OpError::check(T::OP, called, status),
        None => called.map_err(|errno| OpError::Call(T::OP, errno)),
    }
}

macro_rules! batches {
    ($($name:ident($type:ty), $alias:literal, $what:literal, $safety:literal;)*) => {$(
        #[doc = $what]
        ///
        /// # Errors
        ///
        /// Xen's errno for the whole call. Each element has its own status; [`OpError::check`] combines the two.
        ///
        /// # Safety
        ///
        #[doc = $safety]
        #[doc(alias = $alias)]
        pub unsafe fn $name(xen: &impl Hypercall, operations: &mut [$type]) -> Result<(), XenErrno> {
            // SAFETY: guaranteed by the caller.
            unsafe { call(xen, operations) }
        }
    )*};
}

batches! {
    map(MapGrantRef), "GNTTABOP_map_grant_ref", "Maps granted pages.",
        "Each address must be a window of the caller's, not in use: what was there is gone, and mapping onto a mapping ends the domain.";
    unmap(UnmapGrantRef), "GNTTABOP_unmap_grant_ref", "Unmaps granted pages.",
        "The mappings must not be in use, and each address must be exactly that of its handle's mapping.";
    copy(GrantCopy), "GNTTABOP_copy", "Copies between pages, inside Xen.",
        "Destination frames must be the caller's to write, and source frames to read.";
    transfer(Transfer), "GNTTABOP_transfer", "Gives pages away. A PVH guest may not.",
        "The pages must be the caller's, and not be used again unless the status is [`Status::BAD_PAGE`].";
}

/// Returns the present and the maximum size of a domain's table, in frames.
///
/// # Errors
///
/// [`OpError`] if Xen refuses: only a privileged domain may ask about another.
#[doc(alias = "GNTTABOP_query_size")]
pub fn query_size(xen: &impl Hypercall, dom: DomId) -> Result<(u32, u32), OpError> {
    let mut query = QuerySize { dom, nr_frames: 0, max_nr_frames: 0, status: Status::UNANSWERED };
    // SAFETY: the call writes only its argument.
    unsafe { one(xen, &mut query) }?;
    Ok((query.nr_frames, query.max_nr_frames))
}

/// Grows a table to `frames.len()` frames, and writes their numbers to `frames`. A PVH guest can't use these numbers
/// (all ones, until it has placed the frames); it grows its table by placing frames.
///
/// # Errors
///
/// [`OpError::Status`] with [`Status::GENERAL_ERROR`] if the table may not have so many frames; other [`OpError`]s if
/// Xen refuses.
#[doc(alias = "GNTTABOP_setup_table")]
pub fn setup_table(xen: &impl Hypercall, dom: DomId, frames: &mut [u64]) -> Result<(), OpError> {
    let nr_frames = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    let frame_list = frames.as_mut_ptr() as u64;
    let mut setup = SetupTable { dom, nr_frames, status: Status::UNANSWERED, frame_list };
    // SAFETY: the call writes its argument and `nr_frames` words at `frame_list`, which is borrowed here.
    unsafe { one(xen, &mut setup) }
}

/// Makes Xen print a domain's table to its console. Not for PVH guests.
///
/// # Errors
///
/// [`OpError`] if Xen refuses.
#[doc(alias = "GNTTABOP_dump_table")]
pub fn dump_table(xen: &impl Hypercall, dom: DomId) -> Result<(), OpError> {
    // SAFETY: the call writes only its argument.
    unsafe { one(xen, &mut DumpTable { dom, status: Status::UNANSWERED }) }
}

/// Sets the version of this domain's grant entries, 1 or 2. Clears the entries from 8 on.
///
/// # Errors
///
/// [`OpError::Call`]: `EBUSY` while a grant is in use, `EINVAL` for another version.
///
/// # Safety
///
/// The table must not be in use: its layout changes.
#[doc(alias = "GNTTABOP_set_version")]
pub unsafe fn set_version(xen: &impl Hypercall, version: u32) -> Result<(), OpError> {
    // SAFETY: guaranteed by the caller.
    unsafe { one(xen, &mut SetVersion { version }) }
}

/// Returns the version of a domain's entries.
///
/// # Errors
///
/// [`OpError::Call`] if Xen refuses.
#[doc(alias = "GNTTABOP_get_version")]
pub fn get_version(xen: &impl Hypercall, dom: DomId) -> Result<u32, OpError> {
    let mut get = GetVersion { dom, pad: 0, version: 0 };
    // SAFETY: the call writes only its argument.
    unsafe { one(xen, &mut get) }?;
    Ok(get.version)
}

/// Writes the numbers of the status frames to `frames`. Not for PVH guests: they place these frames.
///
/// # Errors
///
/// [`OpError`] if Xen refuses.
#[doc(alias = "GNTTABOP_get_status_frames")]
pub fn status_frames(xen: &impl Hypercall, dom: DomId, frames: &mut [u64]) -> Result<(), OpError> {
    let nr_frames = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    let frame_list = frames.as_mut_ptr() as u64;
    let mut get = GetStatusFrames { nr_frames, dom, status: Status::UNANSWERED, frame_list };
    // SAFETY: the call writes its argument and `nr_frames` words at `frame_list`, which is borrowed here.
    unsafe { one(xen, &mut get) }
}

/// Exchanges two of this domain's entries.
///
/// # Errors
///
/// [`OpError::Status`] with [`Status::GENERAL_ERROR`] if either entry is in use; other [`OpError`]s if Xen refuses.
///
/// # Safety
///
/// Both references must be the caller's, and the caller must account for the exchange: each reference now grants the
/// other's page.
#[doc(alias = "GNTTABOP_swap_grant_ref")]
pub unsafe fn swap(xen: &impl Hypercall, ref_a: GrantRef, ref_b: GrantRef) -> Result<(), OpError> {
    // SAFETY: guaranteed by the caller.
    unsafe { one(xen, &mut SwapGrantRef { ref_a, ref_b, status: Status::UNANSWERED }) }
}

/// Unmaps a mapping and puts another page in its place. For PV guests only.
///
/// # Errors
///
/// [`OpError`] if Xen refuses.
///
/// # Safety
///
/// Neither page may be in use at its old address.
#[doc(alias = "GNTTABOP_unmap_and_replace")]
pub unsafe fn unmap_and_replace(xen: &impl Hypercall, mut op: UnmapAndReplace) -> Result<(), OpError> {
    // SAFETY: guaranteed by the caller.
    unsafe { one(xen, &mut op) }
}

/// Cleans or invalidates caches. On Arm only.
///
/// # Errors
///
/// [`OpError::Call`] if Xen refuses.
///
/// # Safety
///
/// The caller must accept the loss of written data if it invalidates without cleaning.
#[doc(alias = "GNTTABOP_cache_flush")]
pub unsafe fn cache_flush(xen: &impl Hypercall, mut op: CacheFlush) -> Result<(), OpError> {
    // SAFETY: guaranteed by the caller.
    unsafe { one(xen, &mut op) }
}
