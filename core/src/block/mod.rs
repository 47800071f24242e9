//! Block requests: what goes through a block device's ring, and whether a request can be served.

mod check;

pub use check::{Refusal, Work, check};

use crate::abi::blkif;
use crate::ring::Protocol;

/// What goes through a block device's ring.
#[derive(Clone, Copy, Debug)]
pub enum Blkif {}

impl Protocol for Blkif {
    type Request = blkif::Request;
    type Response = blkif::Response;

    fn answers(response: &blkif::Response) -> u64 {
        response.id
    }
}
