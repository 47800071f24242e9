//! Virtual processors.

use super::{Hypercall, Number};
use crate::abi::XenErrno;
use crate::abi::vcpu::{RegisterVcpuInfo, SetSingleshotTimer, VcpuContext, VcpuOp};

/// More vCPUs than any Xen gives a domain: where counting stops, should no answer end it.
const MAX_VCPUS: u32 = 8192;

/// Makes the call.
///
/// # Safety
///
/// `argument` is the address of what the operation reads, or 0 where it reads nothing.
unsafe fn call(xen: &impl Hypercall, op: VcpuOp, vcpu: u32, argument: u64) -> Result<u64, XenErrno> {
    // SAFETY: the caller's word.
    unsafe { xen.call(Number::VCPU_OP, [op.0.into(), vcpu.into(), argument, 0, 0]) }
}

/// Counts the domain's vCPUs, running or not: Xen numbers them from 0 without gaps and answers `ENOENT`
/// past the last. At least 1, for somebody is asking.
#[doc(alias = "VCPUOP_is_up")]
pub fn count(xen: &impl Hypercall) -> u32 {
    (1..MAX_VCPUS).find(|&vcpu| is_up(xen, vcpu).is_err()).unwrap_or(MAX_VCPUS)
}

/// Whether a vCPU runs.
///
/// # Errors
///
/// `ENOENT` where there is no such vCPU.
#[doc(alias = "VCPUOP_is_up")]
pub fn is_up(xen: &impl Hypercall, vcpu: u32) -> Result<bool, XenErrno> {
    // SAFETY: this call takes no pointer.
    unsafe { call(xen, VcpuOp::IS_UP, vcpu, 0) }.map(|up| up != 0)
}

/// Gives a vCPU its registers.
///
/// # Errors
///
/// What Xen says; `EEXIST` where it has them already, `EINVAL` where they make no sense.
///
/// # Safety
///
/// Once the vCPU is up, it runs what is at the address in its memory: that must be sound.
#[doc(alias = "VCPUOP_initialise")]
pub unsafe fn initialise(xen: &impl Hypercall, vcpu: u32, context: &VcpuContext) -> Result<(), XenErrno> {
    // SAFETY: Xen reads the context, which is borrowed here.
    unsafe { call(xen, VcpuOp::INITIALISE, vcpu, core::ptr::from_ref(context) as u64) }.map(drop)
}

/// Lets a vCPU run.
///
/// # Errors
///
/// What Xen says; `EINVAL` where it has no registers.
#[doc(alias = "VCPUOP_up")]
pub fn up(xen: &impl Hypercall, vcpu: u32) -> Result<(), XenErrno> {
    // SAFETY: this call takes no pointer. What the vCPU runs is the word of who called `initialise`.
    unsafe { call(xen, VcpuOp::UP, vcpu, 0) }.map(drop)
}

/// Stops a vCPU; its own call returns only if Xen refuses.
///
/// # Errors
///
/// What Xen says.
#[doc(alias = "VCPUOP_down")]
pub fn down(xen: &impl Hypercall, vcpu: u32) -> Result<(), XenErrno> {
    // SAFETY: this call takes no pointer.
    unsafe { call(xen, VcpuOp::DOWN, vcpu, 0) }.map(drop)
}

/// Sends a vCPU a non-maskable interrupt.
///
/// # Errors
///
/// What Xen says.
#[doc(alias = "VCPUOP_send_nmi")]
pub fn send_nmi(xen: &impl Hypercall, vcpu: u32) -> Result<(), XenErrno> {
    // SAFETY: this call takes no pointer.
    unsafe { call(xen, VcpuOp::SEND_NMI, vcpu, 0) }.map(drop)
}

/// Sets the calling vCPU's timer to a time in nanoseconds since Xen booted. What has passed comes at once.
///
/// # Errors
///
/// What Xen says; `EINVAL` for another vCPU's.
#[doc(alias = "VCPUOP_set_singleshot_timer")]
pub fn set_timer(xen: &impl Hypercall, vcpu: u32, nanoseconds: u64) -> Result<(), XenErrno> {
    let argument = SetSingleshotTimer { timeout_abs_ns: nanoseconds, flags: 0 };
    // SAFETY: Xen reads the argument, which lives until the call is over.
    unsafe { call(xen, VcpuOp::SET_SINGLESHOT_TIMER, vcpu, &raw const argument as u64) }.map(drop)
}

/// Says where a vCPU's part of what Xen shares is to be; once for each vCPU.
///
/// # Errors
///
/// What Xen says.
///
/// # Safety
///
/// From here on Xen writes a [`VcpuInfo`](crate::abi::shared_info::VcpuInfo) there, for ever: it is memory of
/// the caller's that is nothing else.
#[doc(alias = "VCPUOP_register_vcpu_info")]
pub unsafe fn register_info(
    xen: &impl Hypercall,
    vcpu: u32,
    place: RegisterVcpuInfo,
) -> Result<(), XenErrno> {
    // SAFETY: Xen reads the argument, which lives until the call is over; the place is the caller's word.
    unsafe { call(xen, VcpuOp::REGISTER_VCPU_INFO, vcpu, &raw const place as u64) }.map(drop)
}
