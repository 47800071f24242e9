//! The parts of `hvm_op` used here. Sources: `xen/include/public/hvm/hvm_op.h` and `params.h`.

use super::{DomId, assert_layout};

/// Sets a parameter: [`Param`].
#[doc(alias = "HVMOP_set_param")]
pub const SET_PARAM: u32 = 0;

/// Reads a parameter into [`Param`].
#[doc(alias = "HVMOP_get_param")]
pub const GET_PARAM: u32 = 1;

/// The parameter with the frame number of the console's page ([`console`](super::console)).
#[doc(alias = "HVM_PARAM_CONSOLE_PFN")]
pub const PARAM_CONSOLE_PFN: u32 = 17;

/// The parameter with the event channel's port of the console.
#[doc(alias = "HVM_PARAM_CONSOLE_EVTCHN")]
pub const PARAM_CONSOLE_EVTCHN: u32 = 18;

/// The parameter for how Xen notifies the domain of events.
#[doc(alias = "HVM_PARAM_CALLBACK_IRQ")]
pub const PARAM_CALLBACK_IRQ: u32 = 0;

/// In the value of [`PARAM_CALLBACK_IRQ`], at [`CALLBACK_TYPE_SHIFT`]: notify by a vector, given in the lowest byte.
#[doc(alias = "HVM_PARAM_CALLBACK_TYPE_VECTOR")]
pub const CALLBACK_TYPE_VECTOR: u64 = 2;
/// See [`CALLBACK_TYPE_VECTOR`].
pub const CALLBACK_TYPE_SHIFT: u32 = 56;

/// Argument of [`SET_PARAM`].
#[doc(alias = "xen_hvm_param")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Param {
    /// The domain.
    pub domid: DomId,
    /// Unused.
    pub pad: u16,
    /// The parameter's number.
    pub index: u32,
    /// Its value.
    pub value: u64,
}
assert_layout!(Param, size = 16, align = 8, { domid: 0, index: 4, value: 8 });
