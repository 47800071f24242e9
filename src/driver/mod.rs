//! Floor 7: what talks to somebody outside.

pub mod block;
pub mod bytes;
pub mod connector;
pub mod console;
