//! Layer 7: a minimal toolstack. A control domain starts another PVH domain from an ELF image in memory, and ends it,
//! without Linux and without xenstore.
//!
//! ```no_run
//! # use granite::toolstack::{Config, Toolstack};
//! # use granite::time::Deadline;
//! # use core::time::Duration;
//! # fn start(xen: granite::hypercall::Xen, image: &[u8]) -> Result<(), granite::toolstack::ToolstackError> {
//! let toolstack = Toolstack::new(xen)?;
//! let child = toolstack.start(&Config { kernel: image, command_line: "log=debug", ..Config::default() })?;
//! let end = child.wait(Deadline::after(Duration::from_secs(10)))?;
//! granite::println!("it ended by {}", end.reason);
//! # Ok(())
//! # }
//! ```
//!
//! `build` has the sequence of steps; a failing step undoes the earlier ones. `interface` has the supported versions of
//! Xen's control interface.

mod build;
mod console;
mod domain;
mod error;
mod foreign;
mod interface;
pub mod kernel;
#[cfg(test)]
mod tests;

pub use build::Config;
pub use console::Console;
pub use domain::{Domain, Ended, Toolstack};
pub use error::{Step, ToolstackError};
