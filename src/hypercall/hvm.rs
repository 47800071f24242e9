//! Parameters of a domain with addresses translated by Xen.

use super::{Hypercall, Number};
use crate::abi::hvm::{
    CALLBACK_TYPE_SHIFT, CALLBACK_TYPE_VECTOR, GET_PARAM, PARAM_CALLBACK_IRQ, Param, SET_PARAM,
};
use crate::abi::{DomId, XenErrno};

/// Makes Xen signal events to each vCPU by an interrupt on `vector`. It bypasses the interrupt controller, so no
/// acknowledgment is needed.
///
/// # Errors
///
/// `EINVAL` for a vector below 32: the processor's exceptions would be taken for events. Otherwise Xen's errno.
#[doc(alias = "HVM_PARAM_CALLBACK_IRQ")]
pub fn deliver_events_by(xen: &impl Hypercall, vector: u8) -> Result<(), XenErrno> {
    const FIRST_INTERRUPT: u8 = 32;
    if vector < FIRST_INTERRUPT {
        return Err(XenErrno::INVAL);
    }
    let value = CALLBACK_TYPE_VECTOR << CALLBACK_TYPE_SHIFT | u64::from(vector);
    let argument = Param { domid: DomId::SELF, pad: 0, index: PARAM_CALLBACK_IRQ, value };
    // SAFETY: Xen reads the argument, which outlives the call.
    unsafe { xen.call(Number::HVM_OP, [SET_PARAM.into(), &raw const argument as u64, 0, 0, 0]) }.map(drop)
}

/// Returns a parameter of this domain. One that was never set is 0.
///
/// # Errors
///
/// `EINVAL` if Xen has no such parameter; otherwise Xen's errno.
#[doc(alias = "HVMOP_get_param")]
pub fn param(xen: &impl Hypercall, index: u32) -> Result<u64, XenErrno> {
    let mut argument = Param { domid: DomId::SELF, pad: 0, index, value: 0 };
    // SAFETY: Xen reads and writes the argument, which outlives the call.
    unsafe { xen.call(Number::HVM_OP, [GET_PARAM.into(), &raw mut argument as u64, 0, 0, 0]) }?;
    Ok(argument.value)
}

#[cfg(test)]
mod tests {
    use super::deliver_events_by;
    use crate::abi::XenErrno;
    use crate::hypercall::fake::FakeXen;

    #[test]
    fn no_exception_is_taken_for_events() {
        let xen = FakeXen::default();
        for vector in [0, 14, 31] {
            assert_eq!(deliver_events_by(&xen, vector), Err(XenErrno::INVAL));
        }
        // The fake doesn't implement this call.
        assert_eq!(deliver_events_by(&xen, 32), Err(XenErrno::NOSYS));
    }
}
