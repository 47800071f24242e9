//! `hvm_op`, as far as it is used. Sources: `xen/include/public/hvm/hvm_op.h` and `params.h`.

use super::{DomId, assert_layout};

/// Sets a parameter: [`Param`].
#[doc(alias = "HVMOP_set_param")]
pub const SET_PARAM: u32 = 0;

/// How the domain wants to be told of events.
#[doc(alias = "HVM_PARAM_CALLBACK_IRQ")]
pub const PARAM_CALLBACK_IRQ: u32 = 0;

/// In the value of [`PARAM_CALLBACK_IRQ`], at [`CALLBACK_TYPE_SHIFT`]: by a vector, which is the lowest byte.
#[doc(alias = "HVM_PARAM_CALLBACK_TYPE_VECTOR")]
pub const CALLBACK_TYPE_VECTOR: u64 = 2;
/// See [`CALLBACK_TYPE_VECTOR`].
pub const CALLBACK_TYPE_SHIFT: u32 = 56;

/// Argument of [`SET_PARAM`].
#[doc(alias = "xen_hvm_param")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Param {
    /// Whose.
    pub domid: DomId,
    /// Nothing.
    pub pad: u16,
    /// Which.
    pub index: u32,
    /// Its value.
    pub value: u64,
}
assert_layout!(Param, size = 16, align = 8, { domid: 0, index: 4, value: 8 });
