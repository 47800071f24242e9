//! Running the table, and telling `cargo xtask test` of it: a line before each case and one after, so that a
//! crash has a name.

#[cfg(granite_guest)]
use alloc::vec::Vec;

use granite::println;
use granite::rt::{ExitCode, Platform};
use granite::testing;
pub use granite::testing::NotPassed;

use crate::twin::Side;

/// Where the table runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rig {
    /// A process on the host.
    Host,
    /// The control domain of Xen.
    Solo,
    /// Two domains, of which the control domain started the other: both run the table.
    Twin,
    /// QEMU without Xen.
    Direct,
}

/// The rigs that have a machine of their own.
pub const GUESTS: &[Rig] = &[Rig::Solo, Rig::Twin, Rig::Direct];
/// All of them.
pub const ALL: &[Rig] = &[Rig::Host, Rig::Solo, Rig::Twin, Rig::Direct];
/// Those with a real Xen.
pub const UNDER_XEN: &[Rig] = &[Rig::Solo, Rig::Twin];

/// What a case does.
pub type Run = fn(&Context) -> Result<(), NotPassed>;

/// One case.
#[derive(Debug)]
pub struct Case {
    /// Its module and name.
    pub name: &'static str,
    /// Where it can run.
    pub rigs: &'static [Rig],
    /// What it does; in `twin`, on the side of the control domain.
    pub run: Run,
    /// What the other side does at the same time in `twin`, where that isn't the same.
    #[cfg_attr(not(granite_guest), expect(dead_code, reason = "there is one side on the host"))]
    pub peer: Option<Run>,
}

impl Case {
    /// A case that both sides of `twin` run each for itself.
    pub const fn new(name: &'static str, rigs: &'static [Rig], run: Run) -> Self {
        Self { name, rigs, run, peer: None }
    }

    /// A case in which the other side of `twin` does this.
    pub const fn with_peer(name: &'static str, rigs: &'static [Rig], run: Run, peer: Run) -> Self {
        Self { name, rigs, run, peer: Some(peer) }
    }
}

/// What a case is given.
#[derive(Debug)]
pub struct Context {
    /// Where it runs.
    pub rig: Rig,
    /// On which side of `twin`.
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
            Rig::Twin => !self.side.is_child(),
            Rig::Host | Rig::Direct => false,
        }
    }
}

#[cfg(granite_guest)]
impl Context {
    /// Tells the other side of `twin` something.
    pub fn tell(&self, message: &[u8]) -> Result<(), NotPassed> {
        self.side.tell(message)
    }

    /// Whether the other side of `twin` has told something.
    pub fn has_message(&self) -> bool {
        self.side.has_message()
    }

    /// The number of the domain that was started, on the side of the control domain.
    pub fn side_child(&self) -> Result<granite::abi::DomId, NotPassed> {
        self.side.child_id()
    }

    /// What the other side of `twin` tells.
    pub fn hear(&self) -> Result<Vec<u8>, NotPassed> {
        self.side.hear()
    }
}

/// Modules that have a boot of their own in `twin`, which is to be short.
const PARTS: &[&str] = &[
    "grant",
    "toolstack",
    "link",
    "ring",
    "store",
    "store_paths",
    "store_hostile",
    "store_front",
    "store_back",
];

/// Which cases to run.
#[derive(Debug)]
pub struct Selection<'a> {
    /// Those with one of these words in their names; all if there is no word.
    pub filter: &'a str,
    /// From this place in the table on: those before were run by an earlier boot.
    pub from: usize,
    /// In a guest, which has one grant table: 1, or nothing, for all but the cases of version 2; 2 for those
    /// alone.
    pub version: Option<u32>,
    /// One of [`PARTS`] alone, or all the `rest`; nothing for everything.
    pub part: Option<&'a str>,
}

impl Selection<'_> {
    fn contains(&self, case: &Case, rig: Rig) -> bool {
        let version_2 = case.name.contains("::v2::");
        let version_fits = rig == Rig::Host || version_2 == (self.version == Some(2));
        let part =
            PARTS.iter().find(|part| case.name.split_once("::").is_some_and(|(module, _)| module == **part));
        let part_fits = self.part.is_none_or(|wanted| wanted == part.copied().unwrap_or("rest"));
        case.rigs.contains(&rig) && testing::is_selected(case.name, self.filter) && version_fits && part_fits
    }
}

/// Prints the name of every case, behind each of its rigs.
#[cfg(granite_guest)]
pub fn list(cases: impl Iterator<Item = &'static Case>) -> ExitCode {
    for case in cases {
        for rig in case.rigs.iter().filter(|rig| GUESTS.contains(rig)) {
            let rig = match rig {
                Rig::Host => "host",
                Rig::Solo => "solo",
                Rig::Twin => "twin",
                Rig::Direct => "direct",
            };
            println!("##test case {rig} {}", case.name);
        }
    }
    ExitCode::SUCCESS
}

/// Runs the table. A guest that ends with success has passed or skipped all of it.
pub fn run(
    cases: impl Iterator<Item = &'static Case>,
    context: &Context,
    selection: &Selection<'_>,
) -> ExitCode {
    let mut passed = true;
    let selected = |(_, case): &(usize, &Case)| selection.contains(case, context.rig);
    for (index, (place, case)) in cases.enumerate().filter(selected).enumerate().skip(selection.from) {
        passed &= testing::report(index, case.name, || context.side.run_with_peer(place, case, context));
    }
    if let Err(NotPassed::Fail(reason) | NotPassed::Skip(reason)) = context.side.end() {
        println!("the other side did not end well: {reason}");
        return ExitCode::FAILURE;
    }
    testing::done(passed)
}
