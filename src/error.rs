//! Floor 10: the one error that every other becomes, for an application's `?`.

use thiserror::Error as Derive;

use crate::abi::XenErrno;
use crate::driver::block::{BlockError, DiskError};
use crate::driver::bytes::StreamError;
use crate::driver::connector::ConnectError;
use crate::event::EventError;
use crate::grant::{BatchError, Failed, GrantError};
use crate::hypercall::NotXen;
use crate::hypercall::grant::OpError;
use crate::loader::BadOption;
use crate::mm::shared::OutOfBounds;
use crate::ring::{PeerBroke, RingError};
use crate::time::TimedOut;
use crate::toolstack::ToolstackError;
use crate::toolstack::kernel::KernelError;
use crate::twin::{LinkError, TwinError};
use crate::vcpu::{NotSpawned, Refused, StartError, StopError};

/// Whatever went wrong. Every error of Granite's becomes one by `?`, and so does a text.
///
/// ```
/// use granite::prelude::*;
///
/// fn share(platform: &'static Platform, peer: DomId) -> Result<(), Error> {
///     let page = Page::zeroed().ok_or("no memory for a page")?;
///     let grant = platform.grants()?.grant::<ReadOnly>(page, peer)?;
///     info!("granted as {}", grant.gref());
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Derive)]
#[non_exhaustive]
pub enum Error {
    /// The application's own.
    #[error("{0}")]
    Text(&'static str),
    /// Of grants.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// Of one of several grants or mappings.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Of an event channel.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A deadline has passed.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// Of a ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Of a stream of bytes.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Of a block device.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// Of a disk that is served.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Two ends of a device don't meet.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Of another domain that is built or watched.
    #[error(transparent)]
    Toolstack(#[from] ToolstackError),
    /// A kernel's file.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Of two domains that meet.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// Of the page between two domains.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A vCPU doesn't start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A vCPU doesn't stop.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// A job is not taken.
    #[error(transparent)]
    Job(#[from] NotSpawned),
    /// An option of the command line.
    #[error(transparent)]
    Option(#[from] BadOption<'static, 'static>),
    /// A part that doesn't lie in its memory.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// There is no Xen.
    #[error(transparent)]
    NotXen(#[from] NotXen),
    /// What Xen said to a grant operation.
    #[error(transparent)]
    Op(#[from] OpError),
    /// What Xen said to a hypercall.
    #[error(transparent)]
    Xen(#[from] XenErrno),
}

impl From<&'static str> for Error {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

impl<T> From<Failed<T>> for Error {
    fn from(failed: Failed<T>) -> Self {
        Self::Grant(failed.error)
    }
}

impl<F> From<Refused<F>> for Error {
    fn from(refused: Refused<F>) -> Self {
        Self::Job(refused.error)
    }
}

impl From<PeerBroke> for Error {
    fn from(broke: PeerBroke) -> Self {
        Self::Ring(broke.into())
    }
}

/// What becomes an [`Error`] by `?`, for those that take any of them.
pub trait Reason {
    /// As that error.
    fn into_error(self) -> Error;
}

macro_rules! reasons {
    ($([$($of:ident)?] $reason:ty),* $(,)?) => {$(
        impl$(<$of>)? Reason for $reason {
            fn into_error(self) -> Error {
                self.into()
            }
        }
    )*};
}

reasons! {
    [] Error, [] &'static str, [] PeerBroke, [T] Failed<T>, [F] Refused<F>,
    [] GrantError, [] BatchError, [] EventError, [] TimedOut, [] RingError, [] StreamError, [] BlockError, [] DiskError, [] ConnectError, [] ToolstackError, [] KernelError, [] TwinError, [] LinkError, [] StartError, [] StopError, [] NotSpawned, [] BadOption<'static, 'static>, [] OutOfBounds, [] NotXen, [] OpError, [] XenErrno,
}
