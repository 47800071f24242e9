//! The rig `lab`: Xen with a Linux control domain, whose `xl` creates the guests. All programs are the distribution's.
//!
//! | | |
//! |---|---|
//! | `files` | the kernel, Xen and the file system of the control domain, made from packages and cached |
//! | `dom0` | a running control domain: runs commands, and passes lines on |
//! | `state` | the saved state of a booted control domain: each run starts from it |
//! | `domain` | guests, created by `xl` from configurations |
//! | `census` | what exists beside the guests |
//! | `shell` | `cargo xtask lab` |

mod binaries;
mod census;
mod dom0;
mod domain;
mod files;
mod folder;
mod lines;
mod machine;
mod modules;
mod qmp;
mod run;
mod seen;
mod shell;
mod state;

pub use census::{Census, grants_in_use};
pub use dom0::Dom0;
pub use domain::{Domains, Shape};
pub use run::{open, run};
pub use shell::{log, shell, stop};
