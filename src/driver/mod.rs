//! Layer 7: device drivers and streams to other domains.

pub mod block;
pub mod bytes;
pub mod connector;
pub mod console;
