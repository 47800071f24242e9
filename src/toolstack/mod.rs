//! Floor 7: the smallest toolstack. A control domain starts another PVH domain from an ELF image in memory, and
//! ends it: without Linux, without xenstore.
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
//! `build` is the order of steps; whatever fails undoes those before. `interface` has the versions of Xen's
//! control interface that are known.

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
