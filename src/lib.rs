//! Granite: a Xen PVH unikernel in Rust, built around the grant table.
//!
//! An application is a `main` function and [`entry!`]; `examples/hello.rs` is the smallest. `main` receives a
//! [`Platform`](rt::Platform): the domain it runs in.
//!
//! # What do you want to do?
//!
//! ## Share a page with another domain
//!
//! Use [`grant`]: it lends a page to a peer, and returns it once the peer has released it.
//!
//! ```
//! use granite::prelude::*;
//!
//! fn share(platform: &'static Platform, peer: DomId) -> Result<Page, Error> {
//!     let page = Page::zeroed().ok_or("no memory for a page")?;
//!     let grant = platform.grants()?.grant::<ReadOnly>(page, peer)?;
//!     info!("domain {peer} may map {}", grant.gref());
//!     Ok(grant.end_access()?)
//! }
//! ```
//!
//! ## Wait for an event
//!
//! Use [`event`] for channels between domains and vCPUs, and [`time`] for deadlines and timers.
//!
//! ```
//! use granite::event::Unbound;
//! use granite::prelude::*;
//!
//! fn meet(platform: &'static Platform, peer: DomId) -> Result<(), Error> {
//!     let listens = Unbound::new(platform.xen().ok_or("no Xen")?, peer)?;
//!     info!("domain {peer} may connect to port {}", listens.port());
//!     drop(listens.wait(Deadline::after(Duration::from_secs(5)))?);
//!     Ok(())
//! }
//! ```
//!
//! ## Serve a disk, or use one
//!
//! [`driver::block`] has both ends. They meet through a [`Connector`](driver::connector::Connector).
//!
//! ```
//! use granite::driver::block::{DataPath, Limits, Offer, RamDisk, connect_back, connect_front};
//! use granite::driver::connector::Connector;
//! use granite::prelude::*;
//!
//! fn serve(platform: &'static Platform, way: &mut impl Connector) -> Result<(), Error> {
//!     let disk = RamDisk::new(2048).ok_or("no memory for a disk")?;
//!     let offer = Offer { disk, path: DataPath::Copy };
//!     let back = connect_back(way, platform.grants()?, offer, Deadline::after(Duration::from_secs(5)))?;
//!     back.serve_until_closed(way, Duration::from_millis(100), |_| ())?;
//!     Ok(())
//! }
//!
//! fn use_it(platform: &'static Platform, way: &mut impl Connector) -> Result<(), Error> {
//!     let soon = Deadline::after(Duration::from_secs(5));
//!     let mut disk = connect_front(way, platform.grants()?, 0, Limits::default(), soon)?;
//!     disk.write(0, &[1; 512])?;
//!     disk.close(way, soon)?;
//!     Ok(())
//! }
//! ```
//!
//! ## Start a second domain
//!
//! [`toolstack`] builds and watches PVH domains; [`pair`] starts the running image a second time and links the two
//! domains.
//!
//! ```
//! use granite::prelude::*;
//! use granite::toolstack::{Config, Toolstack};
//!
//! fn start(platform: &'static Platform, kernel: &[u8]) -> Result<(), Error> {
//!     let toolstack = Toolstack::new(platform.xen().ok_or("no Xen")?)?;
//!     let mut child = toolstack.start(&Config { kernel, memory: 16, ..Config::default() })?;
//!     let end = child.wait(Deadline::after(Duration::from_secs(20)))?;
//!     info!("domain {} ended by {}", child.id(), end.reason);
//!     Ok(())
//! }
//! ```
//!
//! ## Use all vCPUs
//!
//! [`vcpu`] starts them and runs jobs on them; a job returns a value. With the feature `embassy`, each vCPU runs
//! tasks.
//!
//! ```
//! use granite::prelude::*;
//! use granite::vcpu;
//!
//! fn sum(platform: &'static Platform) -> Result<u64, Error> {
//!     platform.start_vcpus()?;
//!     let job = vcpu::spawn(1, || (1..=1000u64).sum::<u64>())?;
//!     job.join(Deadline::after(Duration::from_secs(1))).map_err(|_| "it takes too long".into())
//! }
//! ```
//!
//! ## Talk by a protocol of your own
//!
//! [`ring`] has rings of requests and responses, and [`driver::bytes`] has byte streams; `examples/ring_echo.rs` is
//! the smallest protocol.
//!
//! ## Test it in a guest
//!
//! Use [`testing`] and `cargo xtask test`.
//!
//! # Layers
//!
//! A room (a top-level module) uses only rooms on lower layers. `cargo xtask check` reads this table and enforces it.
//!
//! ```text
//! testing      tests that run in guests                               layer 11
//! start        bring-up: from the first instruction to main           layer 10
//! error        the single error type of an application                layer 10
//! pair         a pair of domains: Parent, Child, Link                 layer 9
//! rt           entry!, Platform, panic, exit                          layer 8
//! driver       console, block devices, connecting two ends            layer 7
//! toolstack    other domains: build, watch, destroy                   layer 7
//! embassy      tasks (feature `embassy`)                              layer 6
//! ring         memory for requests and responses                      layer 6
//! grant        the grant table, owned grants and mappings             layer 5
//! vcpu         SMP: start vCPUs, call them, run jobs                  layer 5
//! event        event channels                                         layer 4
//! random       random numbers (feature `random`)                      layer 4
//! time         clocks, deadlines, timers, waiting                     layer 3
//! loader       start info, options, modules, memory map               layer 3
//! mm           frames, page tables, heap, pages, windows              layer 2
//! hypercall    one unsafe trait, with Xen and a fake                  layer 1
//! arch         segments, traps, stacks, paging register               layer 1
//! sync         locks, per-vCPU data                                   layer 0
//! ```
//!
//! The crate [`granite_core`] lies below and needs no machine: it has the [`abi`], grant entries, the freelist and
//! rings.
//!
//! Everything also compiles on the host, where the tests run. `cfg(granite_guest)`, set by `cargo xtask`, adds the
//! parts only a machine can have: the entry point, the panic handler and the allocator.

#![no_std]
#![deny(unsafe_code)]
// Bring-up is only compiled for guests, and items used only by it are not public. The guest build has these lints.
#![cfg_attr(not(granite_guest), allow(dead_code, unused_imports))]

extern crate alloc;

#[cfg(not(granite_guest))]
extern crate std;

#[allow(unsafe_code, reason = "the processor")]
pub mod arch;
pub mod driver;
#[cfg(feature = "embassy")]
#[allow(unsafe_code, reason = "what an executor promises")]
pub mod embassy;
mod error;
pub mod event;
pub mod grant;
#[allow(unsafe_code, reason = "the hypervisor")]
pub mod hypercall;
pub mod loader;
#[allow(unsafe_code, reason = "memory")]
pub mod mm;
pub mod pair;
#[cfg(feature = "random")]
#[allow(unsafe_code, reason = "instructions that a processor may not have, and getrandom's memory")]
pub mod random;
pub mod ring;
#[allow(unsafe_code, reason = "that there is one grant table, only whoever makes it can promise")]
pub mod rt;
#[allow(unsafe_code, reason = "the loader's memory, and the hand-over to our own")]
mod start;
pub mod sync;
pub mod testing;
pub mod time;
#[allow(unsafe_code, reason = "other domains' memory")]
pub mod toolstack;
#[allow(unsafe_code, reason = "vCPUs run what they are told")]
pub mod vcpu;

pub use error::{Error, Reason};
#[doc(no_inline)]
pub use granite_core::abi;

/// Compiles the application in the README as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Common imports for applications.
pub mod prelude {
    pub use crate::Error;
    pub use crate::abi::DomId;
    pub use crate::abi::grant::GrantRef;
    pub use crate::grant::{GrantError, ReadOnly, ReadWrite};
    pub use crate::mm::Page;
    pub use crate::rt::{ExitCode, Platform};
    pub use crate::time::Deadline;
    pub use crate::{print, println};
    pub use alloc::borrow::ToOwned;
    pub use alloc::boxed::Box;
    pub use alloc::string::{String, ToString};
    pub use alloc::vec::Vec;
    pub use alloc::{format, vec};
    pub use core::time::Duration;
    pub use log::{debug, error, info, trace, warn};
}
