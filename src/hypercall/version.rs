//! Xen's version and features.

use core::fmt;

use super::{Hypercall, Number};
use crate::abi::version::{
    DomainHandle, EXTRAVERSION, ExtraVersion, FeatureInfo, GET_FEATURES, GUEST_HANDLE, VERSION,
};
use crate::abi::{Features, XenErrno};

/// Xen's version, as in `4.17.5`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// The 4 of 4.17.
    pub major: u16,
    /// The 17 of 4.17.
    pub minor: u16,
    extra: ExtraVersion,
}

impl Version {
    /// Returns the builder's suffix to the number, such as `.5`; empty if it isn't UTF-8.
    pub fn extra(&self) -> &str {
        let end = self.extra.iter().position(|&byte| byte == 0).unwrap_or(self.extra.len());
        core::str::from_utf8(&self.extra[..end]).unwrap_or("")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.major, self.minor, self.extra())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns Xen's version.
///
/// # Errors
///
/// Xen's errno; no known Xen refuses this call, since every domain may make it.
#[doc(alias = "XENVER_version")]
#[doc(alias = "XENVER_extraversion")]
pub fn version(xen: &impl Hypercall) -> Result<Version, XenErrno> {
    // SAFETY: this call takes no pointer.
    let number = unsafe { xen.call(Number::XEN_VERSION, [VERSION.into(), 0, 0, 0, 0]) }? as u32;
    let mut extra: ExtraVersion = [0; _];
    // SAFETY: Xen writes a `xen_extraversion_t`, and `extra` is one.
    unsafe { xen.call(Number::XEN_VERSION, [EXTRAVERSION.into(), extra.as_mut_ptr() as u64, 0, 0, 0]) }?;
    Ok(Version { major: (number >> 16) as u16, minor: number as u16, extra })
}

/// Returns the domain's handle, usually a UUID.
///
/// # Errors
///
/// Xen's errno; no known Xen refuses this call.
#[doc(alias = "XENVER_guest_handle")]
pub fn handle(xen: &impl Hypercall) -> Result<DomainHandle, XenErrno> {
    let mut handle: DomainHandle = [0; _];
    // SAFETY: Xen writes a `xen_domain_handle_t`, and `handle` is one.
    unsafe { xen.call(Number::XEN_VERSION, [GUEST_HANDLE.into(), handle.as_mut_ptr() as u64, 0, 0, 0]) }?;
    Ok(handle)
}

/// Returns the first word of Xen's feature bits.
///
/// # Errors
///
/// Xen's errno; no known Xen refuses this call.
#[doc(alias = "XENVER_get_features")]
pub fn features(xen: &impl Hypercall) -> Result<Features, XenErrno> {
    let mut info = FeatureInfo { submap_index: 0, submap: 0 };
    // SAFETY: Xen reads and writes a `xen_feature_info`, and `info` is one.
    unsafe { xen.call(Number::XEN_VERSION, [GET_FEATURES.into(), &raw mut info as u64, 0, 0, 0]) }?;
    Ok(Features::from_bits_retain(info.submap))
}
