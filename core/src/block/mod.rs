//! Block requests: the protocol of a block device's ring, and the validation of requests.

mod validate;

pub use validate::{Refusal, ValidRequest, validate};

use crate::abi::blkif;
use crate::ring::Protocol;

/// The protocol of a block device's ring.
#[derive(Clone, Copy, Debug)]
pub enum Blkif {}

impl Protocol for Blkif {
    type Request = blkif::Request;
    type Response = blkif::Response;

    fn answers(response: &blkif::Response) -> u64 {
        response.id
    }
}
