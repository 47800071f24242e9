//! Floor 6: shared rings in pages that are granted and mapped. The protocol is [`granite_core::ring`]'s; here is the memory
//! that it runs in.

mod memory;

pub use granite_core::ring::*;
pub use memory::GrantedPages;
