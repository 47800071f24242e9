//! `xen_version`. Source: `xen/include/public/version.h`.

use super::assert_layout;

/// Returns the version, major in the upper half.
#[doc(alias = "XENVER_version")]
pub const VERSION: u32 = 0;
/// Writes an [`ExtraVersion`].
#[doc(alias = "XENVER_extraversion")]
pub const EXTRAVERSION: u32 = 1;
/// Reads and writes a [`FeatureInfo`].
#[doc(alias = "XENVER_get_features")]
pub const GET_FEATURES: u32 = 6;
/// Writes a [`DomainHandle`].
#[doc(alias = "XENVER_guest_handle")]
pub const GUEST_HANDLE: u32 = 8;

/// The name, usually a UUID, that the toolstack gave the domain.
#[doc(alias = "xen_domain_handle_t")]
pub type DomainHandle = [u8; 16];

/// What the builder put behind the number, ended by a zero byte.
#[doc(alias = "xen_extraversion_t")]
pub type ExtraVersion = [u8; 16];

/// Argument of [`GET_FEATURES`].
#[doc(alias = "xen_feature_info")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FeatureInfo {
    /// Which word of features is wanted.
    pub submap_index: u32,
    /// *out* The word.
    pub submap: u32,
}
assert_layout!(FeatureInfo, size = 8, align = 4, { submap_index: 0, submap: 4 });
