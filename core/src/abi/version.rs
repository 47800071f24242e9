//! `xen_version`. Source: `xen/include/public/version.h`.

use super::assert_layout;

/// Returns the version, with the major number in the upper 16 bits.
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

/// The domain's identifier, usually a UUID, set by the toolstack.
#[doc(alias = "xen_domain_handle_t")]
pub type DomainHandle = [u8; 16];

/// The suffix of Xen's version number, chosen by its builder and ended by a zero byte.
#[doc(alias = "xen_extraversion_t")]
pub type ExtraVersion = [u8; 16];

/// Argument of [`GET_FEATURES`].
#[doc(alias = "xen_feature_info")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FeatureInfo {
    /// The index of a word of features.
    pub submap_index: u32,
    /// Out: the word.
    pub submap: u32,
}
assert_layout!(FeatureInfo, size = 8, align = 4, { submap_index: 0, submap: 4 });
