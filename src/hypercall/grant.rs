//! The grant table's hypercall: each operation in a form that can't be called with the wrong argument.
//!
//! A batch has a status for each element and one result for the call. Both are looked at: before a call every
//! status is set to [`Status::UNANSWERED`], so that what Xen didn't write is no success.

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
    /// The call as a whole.
    Call(Op, XenErrno),
    /// This one.
    Status(Op, Status),
    /// Xen said success and wrote no status.
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
            Self::Unanswered(op) => write!(f, "{op}: Xen reports success and gave no status"),
        }
    }
}

impl core::error::Error for OpError {}

impl OpError {
    /// What an element's status and the call's result say together. A status that was written counts: of a
    /// call that broke off, some elements may be done.
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
/// It is the structure that Xen expects for the operation.
unsafe trait Argument {
    const OP: Op;
    /// Where its status is, if it has one.
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
/// Whatever the operation does to memory, and what its structures point to, must be the caller's to change.
unsafe fn call<T: Argument>(xen: &impl Hypercall, arguments: &mut [T]) -> Result<(), XenErrno> {
    for argument in &mut *arguments {
        if let Some(status) = argument.status() {
            *status = Status::UNANSWERED;
        }
    }
    let count = u32::try_from(arguments.len()).map_err(|_| XenErrno::INVAL)?;
    let registers = [T::OP.0.into(), arguments.as_mut_ptr() as u64, count.into(), 0, 0];
    // SAFETY: Xen reads and writes `count` structures at the pointer, which are borrowed here; what they point
    // to is the caller's word.
    unsafe { xen.call(Number::GRANT_TABLE_OP, registers) }.map(drop)
}

/// Makes the call for one, and looks at both answers.
///
/// # Safety
///
/// As [`call`].
unsafe fn one<T: Argument>(xen: &impl Hypercall, argument: &mut T) -> Result<(), OpError> {
    // SAFETY: the caller's word.
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
        /// Of the call as a whole. Each element has its own status; [`OpError::check`] puts the two together.
        ///
        /// # Safety
        ///
        #[doc = $safety]
        #[doc(alias = $alias)]
        pub unsafe fn $name(xen: &impl Hypercall, operations: &mut [$type]) -> Result<(), XenErrno> {
            // SAFETY: the caller's word.
            unsafe { call(xen, operations) }
        }
    )*};
}

batches! {
    map(MapGrantRef), "GNTTABOP_map_grant_ref", "Maps granted pages.",
        "Each address must be a window of the caller's, not in use: what was there is gone, and mapping onto a mapping ends the domain.";
    unmap(UnmapGrantRef), "GNTTABOP_unmap_grant_ref", "Unmaps granted pages.",
        "Nobody may use the mappings, and each address must be exactly that of its handle's mapping.";
    copy(GrantCopy), "GNTTABOP_copy", "Copies between pages, inside Xen.",
        "Destination frames must be the caller's to write, and source frames to read.";
    transfer(Transfer), "GNTTABOP_transfer", "Gives pages away. A PVH guest may not.",
        "The pages must be the caller's, and not be used again unless the status is [`Status::BAD_PAGE`].";
}

/// How large a domain's table is, and may become, in frames.
///
/// # Errors
///
/// [`OpError`]; only a privileged domain may ask for another.
#[doc(alias = "GNTTABOP_query_size")]
pub fn query_size(xen: &impl Hypercall, dom: DomId) -> Result<(u32, u32), OpError> {
    let mut query = QuerySize { dom, nr_frames: 0, max_nr_frames: 0, status: Status::UNANSWERED };
    // SAFETY: it writes nothing but its argument.
    unsafe { one(xen, &mut query) }?;
    Ok((query.nr_frames, query.max_nr_frames))
}

/// Grows a table to as many frames as `frames` has room for, and writes their numbers there. A PVH guest
/// learns nothing of use from them (all ones, until it has placed the frames), and grows by placing.
///
/// # Errors
///
/// [`OpError`]: general error for more frames than the table may have.
#[doc(alias = "GNTTABOP_setup_table")]
pub fn setup_table(xen: &impl Hypercall, dom: DomId, frames: &mut [u64]) -> Result<(), OpError> {
    let nr_frames = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    let frame_list = frames.as_mut_ptr() as u64;
    let mut setup = SetupTable { dom, nr_frames, status: Status::UNANSWERED, frame_list };
    // SAFETY: it writes its argument and `nr_frames` words at `frame_list`, which is borrowed here.
    unsafe { one(xen, &mut setup) }
}

/// Has Xen print a domain's table to its console. A PVH guest may not.
///
/// # Errors
///
/// [`OpError`].
#[doc(alias = "GNTTABOP_dump_table")]
pub fn dump_table(xen: &impl Hypercall, dom: DomId) -> Result<(), OpError> {
    // SAFETY: it writes nothing but its argument.
    unsafe { one(xen, &mut DumpTable { dom, status: Status::UNANSWERED }) }
}

/// Chooses the version of our entries, 1 or 2. Entries from 8 on are cleared.
///
/// # Errors
///
/// [`OpError`]: `EBUSY` while a grant is in use, `EINVAL` for another version.
///
/// # Safety
///
/// Nobody may use the table: its layout changes.
#[doc(alias = "GNTTABOP_set_version")]
pub unsafe fn set_version(xen: &impl Hypercall, version: u32) -> Result<(), OpError> {
    // SAFETY: the caller's word.
    unsafe { one(xen, &mut SetVersion { version }) }
}

/// The version of a domain's entries.
///
/// # Errors
///
/// [`OpError`].
#[doc(alias = "GNTTABOP_get_version")]
pub fn get_version(xen: &impl Hypercall, dom: DomId) -> Result<u32, OpError> {
    let mut get = GetVersion { dom, pad: 0, version: 0 };
    // SAFETY: it writes nothing but its argument.
    unsafe { one(xen, &mut get) }?;
    Ok(get.version)
}

/// The frames of the status words. A PVH guest may not ask: it places them.
///
/// # Errors
///
/// [`OpError`].
#[doc(alias = "GNTTABOP_get_status_frames")]
pub fn status_frames(xen: &impl Hypercall, dom: DomId, frames: &mut [u64]) -> Result<(), OpError> {
    let nr_frames = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    let frame_list = frames.as_mut_ptr() as u64;
    let mut get = GetStatusFrames { nr_frames, dom, status: Status::UNANSWERED, frame_list };
    // SAFETY: it writes its argument and `nr_frames` words at `frame_list`, which is borrowed here.
    unsafe { one(xen, &mut get) }
}

/// Exchanges two of our entries.
///
/// # Errors
///
/// [`OpError`]; the general error where one is in use.
///
/// # Safety
///
/// Both references must be the caller's, who takes care that what each grants is now behind the other.
#[doc(alias = "GNTTABOP_swap_grant_ref")]
pub unsafe fn swap(xen: &impl Hypercall, ref_a: GrantRef, ref_b: GrantRef) -> Result<(), OpError> {
    // SAFETY: the caller's word.
    unsafe { one(xen, &mut SwapGrantRef { ref_a, ref_b, status: Status::UNANSWERED }) }
}

/// Unmaps a mapping and puts another page in its place. Only PV guests may.
///
/// # Errors
///
/// [`OpError`].
///
/// # Safety
///
/// Nobody may use either page at its old address.
#[doc(alias = "GNTTABOP_unmap_and_replace")]
pub unsafe fn unmap_and_replace(xen: &impl Hypercall, mut op: UnmapAndReplace) -> Result<(), OpError> {
    // SAFETY: the caller's word.
    unsafe { one(xen, &mut op) }
}

/// Cleans or invalidates caches. Only on Arm.
///
/// # Errors
///
/// [`OpError`].
///
/// # Safety
///
/// To invalidate without cleaning loses what was written.
#[doc(alias = "GNTTABOP_cache_flush")]
pub unsafe fn cache_flush(xen: &impl Hypercall, mut op: CacheFlush) -> Result<(), OpError> {
    // SAFETY: the caller's word.
    unsafe { one(xen, &mut op) }
}
