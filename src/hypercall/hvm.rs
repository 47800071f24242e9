//! Parameters of a domain that Xen translates addresses for.

use super::{Hypercall, Number};
use crate::abi::hvm::{CALLBACK_TYPE_SHIFT, CALLBACK_TYPE_VECTOR, PARAM_CALLBACK_IRQ, Param, SET_PARAM};
use crate::abi::{DomId, XenErrno};

/// Has Xen tell each vCPU of its events by an interrupt on this vector. No interrupt controller is in between,
/// so nothing is to be acknowledged.
///
/// # Errors
///
/// What Xen says.
#[doc(alias = "HVM_PARAM_CALLBACK_IRQ")]
pub fn deliver_events_by(xen: &impl Hypercall, vector: u8) -> Result<(), XenErrno> {
    let value = CALLBACK_TYPE_VECTOR << CALLBACK_TYPE_SHIFT | u64::from(vector);
    let argument = Param { domid: DomId::SELF, pad: 0, index: PARAM_CALLBACK_IRQ, value };
    // SAFETY: Xen reads the argument, which lives until the call is over.
    unsafe { xen.call(Number::HVM_OP, [SET_PARAM.into(), &raw const argument as u64, 0, 0, 0]) }.map(drop)
}
