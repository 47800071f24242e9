//! The console's page, shared by a domain and its toolstack. Source: `xen/include/public/io/console.h`
//! (`struct xencons_interface`).
//!
//! The page holds the buffer `in` (1024 bytes, to the domain), the buffer `out` (2048 bytes), their indices, and a word
//! about the connection.

/// The offset of the buffer written by the domain.
pub const OUT: usize = 1024;
/// The offset of the domain's index into `in`.
#[doc(alias = "in_cons")]
pub const IN_CONSUMER: usize = 3072;
/// The offset of the toolstack's index into `in`.
#[doc(alias = "in_prod")]
pub const IN_PRODUCER: usize = 3076;
/// The offset of the toolstack's index into `out`.
#[doc(alias = "out_cons")]
pub const OUT_CONSUMER: usize = 3080;
/// The offset of the domain's index into `out`.
#[doc(alias = "out_prod")]
pub const OUT_PRODUCER: usize = 3084;
