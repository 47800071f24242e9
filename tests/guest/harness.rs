//! Running the table, and telling `cargo xtask test` of it: a line before each case and one after, so that a
//! crash has a name.

use alloc::string::String;

use granite::println;
use granite::rt::{ExitCode, Platform};

/// Where the table runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rig {
    /// A process on the host.
    Host,
    /// The control domain of Xen.
    Solo,
    /// QEMU without Xen.
    Direct,
}

/// The rigs that have a machine of their own.
pub const GUESTS: &[Rig] = &[Rig::Solo, Rig::Direct];
/// All of them.
pub const ALL: &[Rig] = &[Rig::Host, Rig::Solo, Rig::Direct];

/// One case.
#[derive(Debug)]
pub struct Case {
    /// Its module and name.
    pub name: &'static str,
    /// Where it can run.
    pub rigs: &'static [Rig],
    /// What it does.
    pub run: fn(&Context) -> Result<(), NotPassed>,
}

/// What a case is given.
#[derive(Debug)]
pub struct Context {
    /// Where it runs.
    pub rig: Rig,
    platform: Option<&'static Platform>,
}

impl Context {
    /// The guest's platform; on the host the case is skipped.
    pub fn platform(&self) -> Result<&'static Platform, NotPassed> {
        self.platform.ok_or_else(|| NotPassed::Skip("there is no platform on the host".into()))
    }
}

/// Why a case didn't pass.
#[derive(Debug)]
pub enum NotPassed {
    /// It can't be run here.
    Skip(String),
    /// It was, and something was wrong.
    Fail(String),
}

/// Ends the case as failed unless a condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr $(, $($message:tt)+)?) => {{
        let holds: bool = $condition;
        if !holds {
            #[allow(unused_mut, unused_assignments, reason = "without a message it stays")]
            let mut detail = alloc::string::String::new();
            $(detail = alloc::format!(": {}", format_args!($($message)+));)?
            return Err($crate::harness::NotPassed::Fail(alloc::format!(
                "{}:{}: {}{detail}", file!(), line!(), stringify!($condition)
            )));
        }
    }};
}

/// Ends the case as failed unless two values are the same.
#[macro_export]
macro_rules! check_same {
    ($left:expr, $right:expr) => {{
        let (left, right) = (&$left, &$right);
        $crate::check!(left == right, "{left:?} and {right:?}");
    }};
}

/// Which cases to run.
#[derive(Debug)]
pub struct Selection<'a> {
    /// Those with this in their names.
    pub filter: &'a str,
    /// From this place in the table on: those before were run by an earlier boot.
    pub from: usize,
    /// In a guest, which has one grant table: 1, or nothing, for all but the cases of version 2; 2 for those
    /// alone.
    pub version: Option<u32>,
}

impl Selection<'_> {
    fn contains(&self, case: &Case, rig: Rig) -> bool {
        let version_2 = case.name.contains("::v2::");
        let version_fits = rig == Rig::Host || version_2 == (self.version == Some(2));
        case.rigs.contains(&rig) && case.name.contains(self.filter) && version_fits
    }
}

/// Runs the table. A guest that ends with success has passed or skipped all of it.
pub fn run(
    cases: impl Iterator<Item = &'static Case>,
    rig: Rig,
    platform: Option<&'static Platform>,
    selection: &Selection<'_>,
) -> ExitCode {
    let context = Context { rig, platform };
    let mut failed = false;
    let selected = |case: &&Case| selection.contains(case, rig);
    for (index, case) in cases.filter(selected).enumerate().skip(selection.from) {
        println!("##test run {index} {}", case.name);
        match (case.run)(&context) {
            Ok(()) => println!("##test pass {index}"),
            Err(NotPassed::Skip(reason)) => println!("##test skip {index} {reason}"),
            Err(NotPassed::Fail(reason)) => {
                failed = true;
                println!("##test fail {index} {reason}");
            }
        }
    }
    println!("##test done");
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
