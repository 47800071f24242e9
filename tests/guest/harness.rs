//! A case of the table: its name, its rigs, and the functions that it runs.

#[cfg(granite_guest)]
use alloc::vec::Vec;

use granite::rt::Platform;
pub use granite::testing::NotPassed;

use crate::pair::Side;

/// Where the table runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rig {
    /// A process on the host.
    Host,
    /// The control domain of Xen.
    Solo,
    /// Two domains, of which the control domain started the other: both run the table.
    Pair,
    /// QEMU without Xen.
    Direct,
    /// An ordinary domain of Xen, created by `xl`.
    Lab,
}

/// The rigs that have a machine of their own.
pub const GUESTS: &[Rig] = &[Rig::Solo, Rig::Pair, Rig::Direct, Rig::Lab];
/// All of them.
pub const ALL: &[Rig] = &[Rig::Host, Rig::Solo, Rig::Pair, Rig::Direct, Rig::Lab];
/// Those with a real Xen.
pub const UNDER_XEN: &[Rig] = &[Rig::Solo, Rig::Pair, Rig::Lab];

/// What a case does.
pub type Run = fn(&Context) -> Result<(), NotPassed>;

/// One case.
#[derive(Debug)]
pub struct Case {
    /// Its module and name.
    pub name: &'static str,
    /// Where it can run.
    pub rigs: &'static [Rig],
    /// What it does; in `pair`, on the side of the control domain.
    pub run: Run,
    /// What the other side does at the same time in `pair`, where that isn't the same.
    #[cfg_attr(not(granite_guest), expect(dead_code, reason = "there is one side on the host"))]
    pub peer: Option<Run>,
}

impl Case {
    /// A case that both sides of `pair` run each for itself.
    pub const fn new(name: &'static str, rigs: &'static [Rig], run: Run) -> Self {
        Self { name, rigs, run, peer: None }
    }

    /// A case in which the other side of `pair` does this.
    pub const fn with_peer(name: &'static str, rigs: &'static [Rig], run: Run, peer: Run) -> Self {
        Self { name, rigs, run, peer: Some(peer) }
    }
}

/// What a case is given.
#[derive(Debug)]
pub struct Context {
    /// Where it runs.
    pub rig: Rig,
    /// On which side of `pair`.
    pub side: Side,
    platform: Option<&'static Platform>,
}

impl Context {
    /// Of a process, or a guest.
    pub fn new(rig: Rig, side: Side, platform: Option<&'static Platform>) -> Self {
        Self { rig, side, platform }
    }

    /// The guest's platform; on the host the case is skipped.
    pub fn platform(&self) -> Result<&'static Platform, NotPassed> {
        self.platform.ok_or_else(|| NotPassed::Skip("there is no platform on the host".into()))
    }

    /// The hypervisor.
    pub fn xen(&self) -> Result<granite::hypercall::Xen, NotPassed> {
        self.platform()?.xen().ok_or_else(|| NotPassed::Fail("there is no Xen in this rig".into()))
    }

    /// Whether the guest is the control domain.
    pub fn is_control_domain(&self) -> bool {
        match self.rig {
            Rig::Solo => true,
            Rig::Pair => !self.side.is_child(),
            Rig::Host | Rig::Direct | Rig::Lab => false,
        }
    }
}

#[cfg(granite_guest)]
impl Context {
    /// Tells the other side of `pair` something.
    pub fn tell(&self, message: &[u8]) -> Result<(), NotPassed> {
        self.side.tell(message)
    }

    /// Whether the other side of `pair` has told something.
    pub fn has_message(&self) -> bool {
        self.side.has_message()
    }

    /// The number of the domain that was started, on the side of the control domain.
    pub fn side_child(&self) -> Result<granite::abi::DomId, NotPassed> {
        self.side.child_id()
    }

    /// What the other side of `pair` tells.
    pub fn hear(&self) -> Result<Vec<u8>, NotPassed> {
        self.side.hear()
    }
}
