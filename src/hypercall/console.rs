//! Xen's own console. The control domain may write to it.

use super::{Hypercall, Number};
use crate::abi::XenErrno;

/// Writes text to Xen's console. Source: `xen/include/public/xen.h`, `CONSOLEIO_write`.
///
/// # Errors
///
/// `EPERM` from a release build of Xen, unless this is the control domain.
#[doc(alias = "CONSOLEIO_write")]
pub fn write(xen: &impl Hypercall, text: &[u8]) -> Result<(), XenErrno> {
    let arguments = [xen_sys::CONSOLEIO_write.into(), text.len() as u64, text.as_ptr() as u64, 0, 0];
    // SAFETY: Xen reads `len` bytes at the pointer; pointer and length are of one live slice.
    unsafe { xen.call(Number::CONSOLE_IO, arguments) }.map(|_| ())
}
