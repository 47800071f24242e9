//! Virtual processors.

use super::{Hypercall, Number};
use crate::abi::XenErrno;
use crate::abi::vcpu::{RegisterVcpuInfo, SetSingleshotTimer, VcpuContext, VcpuOp};

/// Upper limit for counting, if Xen accepts every number: no Xen gives a domain so many vCPUs.
const MAX_VCPUS: u32 = 8192;

/// Makes the call.
///
/// # Safety
///
/// `argument` must be the address of the operation's argument, or 0 if the operation reads none.
unsafe fn call(xen: &impl Hypercall, op: VcpuOp, vcpu: u32, argument: u64) -> Result<u64, XenErrno> {
    // SAFETY: guaranteed by the caller.
    unsafe { xen.call(Number::VCPU_OP, [op.0.into(), vcpu.into(), argument, 0, 0]) }
}

/// Counts the domain's vCPUs, running or not: Xen numbers them from 0 without gaps and answers `ENOENT` past the
/// last. At least 1: the caller's own.
#[doc(alias = "VCPUOP_is_up")]
pub fn count(xen: &impl Hypercall) -> u32 {
    (1..MAX_VCPUS).find(|&vcpu| is_up(xen, vcpu).is_err()).unwrap_or(MAX_VCPUS)
}

/// Returns whether a vCPU is up.
///
/// # Errors
///
/// `ENOENT` if there is no such vCPU.
#[doc(alias = "VCPUOP_is_up")]
pub fn is_up(xen: &impl Hypercall, vcpu: u32) -> Result<bool, XenErrno> {
    // SAFETY: this call takes no pointer.
    unsafe { call(xen, VcpuOp::IS_UP, vcpu, 0) }.map(|up| up != 0)
}

/// Sets a vCPU's initial registers.
///
/// # Errors
///
/// `EEXIST` if they are set already, `EINVAL` if they are inconsistent; otherwise Xen's errno.
///
/// # Safety
///
/// Once the vCPU is up, it executes the code at the address in `context`, in its memory: that must be sound.
#[doc(alias = "VCPUOP_initialise")]
pub unsafe fn initialise(xen: &impl Hypercall, vcpu: u32, context: &VcpuContext) -> Result<(), XenErrno> {
    // SAFETY: Xen reads the context, which is borrowed here.
    unsafe { call(xen, VcpuOp::INITIALISE, vcpu, core::ptr::from_ref(context) as u64) }.map(drop)
}

/// Starts a vCPU.
///
/// # Errors
///
/// `EINVAL` if the vCPU has no registers; otherwise Xen's errno.
#[doc(alias = "VCPUOP_up")]
pub fn up(xen: &impl Hypercall, vcpu: u32) -> Result<(), XenErrno> {
    // SAFETY: this call takes no pointer. The caller of `initialise` vouched for the vCPU's code.
    unsafe { call(xen, VcpuOp::UP, vcpu, 0) }.map(drop)
}

/// Stops a vCPU. For the calling vCPU, it returns only if Xen refuses.
///
/// # Errors
///
/// `ENOENT` if there is no such vCPU.
#[doc(alias = "VCPUOP_down")]
pub fn down(xen: &impl Hypercall, vcpu: u32) -> Result<(), XenErrno> {
    // SAFETY: this call takes no pointer.
    unsafe { call(xen, VcpuOp::DOWN, vcpu, 0) }.map(drop)
}

/// Sends a vCPU a non-maskable interrupt.
///
/// # Errors
///
/// `ENOENT` if there is no such vCPU.
#[doc(alias = "VCPUOP_send_nmi")]
pub fn send_nmi(xen: &impl Hypercall, vcpu: u32) -> Result<(), XenErrno> {
    // SAFETY: this call takes no pointer.
    unsafe { call(xen, VcpuOp::SEND_NMI, vcpu, 0) }.map(drop)
}

/// Sets the calling vCPU's timer to a time in nanoseconds since Xen booted. It fires at once for a time in the past.
///
/// # Errors
///
/// `EINVAL` for another vCPU's timer; otherwise Xen's errno.
#[doc(alias = "VCPUOP_set_singleshot_timer")]
pub fn set_timer(xen: &impl Hypercall, vcpu: u32, nanoseconds: u64) -> Result<(), XenErrno> {
    let argument = SetSingleshotTimer { timeout_abs_ns: nanoseconds, flags: 0 };
    // SAFETY: Xen reads the argument, which outlives the call.
    unsafe { call(xen, VcpuOp::SET_SINGLESHOT_TIMER, vcpu, &raw const argument as u64) }.map(drop)
}

/// Sets the place for a vCPU's part of the memory shared with Xen; once for each vCPU.
///
/// # Errors
///
/// `ENOENT` if there is no such vCPU; `EINVAL` if the place crosses a page, or is set already.
///
/// # Safety
///
/// From here on Xen writes a [`VcpuInfo`](crate::abi::shared_info::VcpuInfo) at `place`, for ever. The place must be
/// the caller's memory and have no other use.
#[doc(alias = "VCPUOP_register_vcpu_info")]
pub unsafe fn register_info(
    xen: &impl Hypercall,
    vcpu: u32,
    place: RegisterVcpuInfo,
) -> Result<(), XenErrno> {
    // SAFETY: Xen reads the argument, which outlives the call; the caller vouches for the place.
    unsafe { call(xen, VcpuOp::REGISTER_VCPU_INFO, vcpu, &raw const place as u64) }.map(drop)
}
