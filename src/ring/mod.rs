//! Layer 6: shared rings in granted and mapped pages. [`granite_core::ring`] has the protocol; this module provides
//! its memory.

mod memory;

pub use granite_core::ring::*;
pub use memory::GrantedPages;
