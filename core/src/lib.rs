//! The data that a Xen guest shares with Xen and with other domains, for any kernel and for a Linux process. The crate
//! needs no machine: it makes no hypercall, maps no memory, and knows no page tables.
//!
//! | module | contents |
//! |---|---|
//! | [`abi`] | Xen's public structures and numbers, with layouts checked at compile time |
//! | [`entry`] | the protocols of `grant_table.h` on one grant entry, in both versions |
//! | [`freelist`] | the free grant references: a lock-free set with a cache for each vCPU |
//! | [`ring`] | shared rings of requests and responses, as in `io/ring.h`, and streams of bytes |
//! | [`block`] | the block protocol of `io/blkif.h`, and the checks of a request |
//! | [`sync`] | the atomics of all these, and [`Vcpu`](sync::Vcpu), by which a kernel identifies the calling vCPU |
//!
//! A module uses only modules on lower layers:
//!
//! ```text
//! block        the block protocol                                     layer 2
//! entry        one grant entry                                        layer 1
//! freelist     free references                                        layer 1
//! ring         requests, responses, bytes                             layer 1
//! sync         atomics, vCPUs                                         layer 0
//! abi          Xen's data                                             layer 0
//! ```
//!
//! # Using it
//!
//! A kernel implements [`sync::Vcpu`] for the freelist and [`ring::RingMemory`] for the pages of its rings. A process
//! enables the feature `std` and gets both: `sync::HostThread` and [`ring::Words`]. `examples/two_threads.rs` is such
//! a process.
//!
//! The crate `granite` is a unikernel built on this crate.

#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod abi;
pub mod block;
pub mod entry;
pub mod freelist;
pub mod ring;
pub mod sync;
