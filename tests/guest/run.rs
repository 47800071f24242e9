//! Running the table in a guest. It prints a line before each case and one after, so that a crash has a name.

use granite::println;
use granite::rt::ExitCode;
use granite::testing;

use crate::harness::{Case, Context, GUESTS, NotPassed, Rig};

/// Modules that have a boot of their own in `pair`, which is to be short.
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
        let version_fits = version_2 == (self.version == Some(2));
        let part =
            PARTS.iter().find(|part| case.name.split_once("::").is_some_and(|(module, _)| module == **part));
        let part_fits = self.part.is_none_or(|wanted| wanted == part.copied().unwrap_or("rest"));
        case.rigs.contains(&rig) && testing::is_selected(case.name, self.filter) && version_fits && part_fits
    }
}

/// Prints the name of every case, behind each of its rigs.
pub fn list(cases: impl Iterator<Item = &'static Case>) -> ExitCode {
    for case in cases {
        for rig in case.rigs.iter().filter(|rig| GUESTS.contains(rig)) {
            let rig = match rig {
                Rig::Host => "host",
                Rig::Solo => "solo",
                Rig::Pair => "pair",
                Rig::Direct => "direct",
                Rig::Lab => "lab",
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
