//! Floor 3: the grant table.

pub mod entry;
pub mod freelist;
