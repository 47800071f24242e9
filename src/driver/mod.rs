//! Floor 5: what talks to somebody outside.

pub mod console;
