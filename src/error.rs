//! Layer 10: one error type for an application; every other error converts to it by `?`.

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
use crate::pair::{LinkError, PairError};
use crate::ring::{PeerBroke, RingError};
use crate::time::TimedOut;
use crate::toolstack::ToolstackError;
use crate::toolstack::kernel::KernelError;
use crate::vcpu::{NotSpawned, Refused, StartError, StopError};

/// Any error of Granite or the application. `?` converts every error of Granite, and every `&'static str`, to it.
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
    /// An error of the application itself.
    #[error("{0}")]
    Text(&'static str),
    /// An error of grants.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// One of several grants or mappings failed.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// An error of an event channel.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A deadline has passed.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// An error of a ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// An error of a stream of bytes.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// An error of a block device.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// An error of a disk served to a front end.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The two ends of a device don't connect.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// An error in building or watching another domain.
    #[error(transparent)]
    Toolstack(#[from] ToolstackError),
    /// A file is not a usable kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The pair of domains doesn't connect.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// A message through the page shared by the pair of domains was not sent or received.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A vCPU doesn't start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A vCPU doesn't stop.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// A vCPU doesn't take a job.
    #[error(transparent)]
    Job(#[from] NotSpawned),
    /// An option of the command line has an invalid value.
    #[error(transparent)]
    Option(#[from] BadOption<'static, 'static>),
    /// An access past the end of its memory.
    #[error(transparent)]
    OutOfBounds(#[from] OutOfBounds),
    /// There is no Xen.
    #[error(transparent)]
    NotXen(#[from] NotXen),
    /// Xen refused a grant operation, or gave it no status.
    #[error(transparent)]
    Op(#[from] OpError),
    /// Xen's error for a hypercall.
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

/// A value that `?` converts to an [`Error`], for functions that take any of them.
pub trait Reason {
    /// Converts it to an [`Error`].
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
    [] GrantError, [] BatchError, [] EventError, [] TimedOut, [] RingError, [] StreamError, [] BlockError, [] DiskError, [] ConnectError, [] ToolstackError, [] KernelError, [] PairError, [] LinkError, [] StartError, [] StopError, [] NotSpawned, [] BadOption<'static, 'static>, [] OutOfBounds, [] NotXen, [] OpError, [] XenErrno,
}
