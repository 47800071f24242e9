//! The rig of two domains: the control domain has the table, and tells the other, case by case, what to run. Each case
//! has a verdict of both sides.
//!
//! A message begins with a byte that says what it is: something of a case's own, or the harness's.

#[cfg(granite_guest)]
mod child;
#[cfg(granite_guest)]
mod parent;

#[cfg(granite_guest)]
pub use child::{is_over, serve};
#[cfg(granite_guest)]
pub use parent::Pair;

#[cfg(granite_guest)]
use alloc::vec::Vec;

#[cfg(granite_guest)]
use crate::harness::{Case, Context, NotPassed};

/// Something of the case's own.
#[cfg(granite_guest)]
pub const DATA: u8 = 0;
/// To the child: run the case at this place of the table, a 32-bit number.
#[cfg(granite_guest)]
const RUN: u8 = 1;
/// To the child: the other side of the case is done.
#[cfg(granite_guest)]
const OVER: u8 = 2;
/// To the child: the table is through.
#[cfg(granite_guest)]
const END: u8 = 3;
/// To the parent: the case passed.
#[cfg(granite_guest)]
const PASSED: u8 = 4;
/// To the parent: it didn't, and why.
#[cfg(granite_guest)]
const FAILED: u8 = 5;
/// To the parent: it can't be run there, and why.
#[cfg(granite_guest)]
const SKIPPED: u8 = 6;

/// How long one side waits for the other.
#[cfg(granite_guest)]
const TIMEOUT: core::time::Duration = core::time::Duration::from_secs(30);

/// Which side runs.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// There is one side.
    Alone,
    /// The control domain, which has the table.
    #[cfg(granite_guest)]
    Parent(&'static Pair),
    /// The domain that it started.
    #[cfg(granite_guest)]
    Child(&'static granite::pair::Child),
}

#[cfg(granite_guest)]
impl Side {
    /// By what the command line says.
    pub fn of(
        platform: &'static granite::rt::Platform,
        rig: crate::harness::Rig,
    ) -> Result<Self, granite::pair::PairError> {
        use alloc::boxed::Box;
        if rig != crate::harness::Rig::Pair {
            return Ok(Self::Alone);
        }
        Ok(match granite::pair::Child::connect(platform)? {
            Some(child) => Self::Child(Box::leak(Box::new(child))),
            None => Self::Parent(Box::leak(Box::new(Pair::new(platform)?))),
        })
    }

    /// Whether this is the domain that was started.
    pub fn is_child(&self) -> bool {
        matches!(self, Self::Child(_))
    }

    /// Tells the other side something.
    pub fn tell(&self, message: &[u8]) -> Result<(), NotPassed> {
        match self {
            Self::Alone => Err(alone()),
            Self::Parent(pair) => pair.tell(message),
            Self::Child(child) => child::tell(child, message),
        }
    }

    /// What the other side tells.
    pub fn hear(&self) -> Result<Vec<u8>, NotPassed> {
        match self {
            Self::Alone => Err(alone()),
            Self::Parent(pair) => pair.hear(),
            Self::Child(child) => child::hear(child),
        }
    }

    /// Whether the other side has told something.
    pub fn has_message(&self) -> bool {
        match self {
            Self::Alone => false,
            Self::Parent(pair) => pair.has_message(),
            Self::Child(child) => child.link().has_message(),
        }
    }

    /// A message of the case's own, by then.
    pub fn receive(&self, deadline: granite::time::Deadline) -> Result<Vec<u8>, granite::pair::LinkError> {
        use granite::pair::LinkError;
        let message = match self {
            Self::Alone => return Err(LinkError::Gone),
            Self::Parent(pair) => return pair.receive_by(deadline),
            Self::Child(child) => child.link().receive(deadline)?,
        };
        match message.split_first() {
            Some((&DATA, data)) => Ok(data.into()),
            _ => Err(LinkError::Gone), // the case is over there
        }
    }

    /// Whether the other side is known to have ended.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Parent(pair) if pair.is_gone())
    }

    /// The number of the domain that was started.
    pub fn child_id(&self) -> Result<granite::abi::DomId, NotPassed> {
        self.pair()?.child()
    }

    /// The two domains.
    pub fn pair(&self) -> Result<&'static Pair, NotPassed> {
        if let Self::Parent(pair) = self { Ok(pair) } else { Err(alone()) }
    }

    /// Runs a case, on both sides if there are two.
    pub fn run_with_peer(&self, place: usize, case: &Case, context: &Context) -> Result<(), NotPassed> {
        match self {
            Self::Parent(pair) => pair.run(place, case, context),
            _ => (case.run)(context),
        }
    }

    /// Ends the other side.
    pub fn end(&self) -> Result<(), NotPassed> {
        if let Self::Parent(pair) = self { pair.end() } else { Ok(()) }
    }
}

#[cfg(not(granite_guest))]
impl Side {
    pub fn is_child(&self) -> bool {
        false
    }
}

#[cfg(granite_guest)]
fn alone() -> NotPassed {
    NotPassed::Fail("there is no other side here".into())
}
