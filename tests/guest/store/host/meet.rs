//! placeholder
use crate::harness::Case;
/// The cases.
pub const CASES: &[Case] = &[];
