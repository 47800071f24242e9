//! The arguments of `cargo xtask test`.

use std::path::PathBuf;

use lexopt::{Parser, ValueExt};

use super::{Argument, next, number, rig, tool, unexpected};
use crate::error::Result;
use crate::machine::Rig;
use crate::setup::Choice;

/// Every rig used by `test`.
const ALL_RIGS: [Rig; 4] = [Rig::Solo, Rig::Pair, Rig::Direct, Rig::Lab];

/// The arguments of `cargo xtask test`.
#[derive(Clone, Debug)]
pub struct Test {
    /// Whether to run the host's tests.
    pub host: bool,
    /// The rigs to run guests in.
    pub rigs: Vec<Rig>,
    /// The minimum number of vCPUs of the guests.
    pub smp: u32,
    /// The number of rounds; `None` is one round without a progress bar.
    pub repeat: Option<u32>,
    /// The file for the results.
    pub json: Option<PathBuf>,
    /// Selects tests with one of these in their names; all tests if empty.
    pub filter: Vec<String>,
    /// Whether to print the names instead of running the tests.
    pub list: bool,
    /// Whether to run only the quick set.
    pub quick: bool,
    /// The choice of Xen and QEMU.
    pub choice: Choice,
}

impl Default for Test {
    fn default() -> Self {
        Self {
            host: true,
            rigs: ALL_RIGS.to_vec(),
            smp: 1,
            repeat: None,
            json: None,
            filter: Vec::new(),
            list: false,
            quick: false,
            choice: Choice::default(),
        }
    }
}

impl Test {
    /// Returns whether a test with this name is selected.
    pub fn selects(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|part| name.contains(part.as_str()))
    }

    /// Returns whether the host and all rigs are included.
    pub fn is_of_all_rigs(&self) -> bool {
        self.host && self.rigs == ALL_RIGS
    }
}

/// Reads `test`'s arguments. Returns `None` for `--help`.
///
/// # Errors
///
/// If an option is unknown, or a value is bad.
pub fn test(parser: &mut Parser) -> Result<Option<Test>> {
    let mut test = Test::default();
    while let Some(argument) = next(parser)? {
        let Argument::Option(name) = &argument else {
            match argument {
                // The guest's command line separates names by spaces.
                Argument::Word(words) => test.filter.extend(words.split_whitespace().map(str::to_owned)),
                other => return Err(unexpected(other)),
            }
            continue;
        };
        match name.as_str() {
            "help" => return Ok(None),
            "rig" => match parser.value()?.string()?.as_str() {
                "all" => (test.host, test.rigs) = (true, ALL_RIGS.to_vec()),
                "host" => (test.host, test.rigs) = (true, Vec::new()),
                other => (test.host, test.rigs) = (false, vec![rig(other)?]),
            },
            "smp" => test.smp = number(parser, "--smp", 1, 64)?,
            "repeat" => test.repeat = Some(number(parser, "--repeat", 1, 1_000_000)?),
            "list" => test.list = true,
            "quick" => test.quick = true,
            "json" => test.json = Some(parser.value()?.into()),
            _ => tool(parser, &mut test.choice, argument)?,
        }
    }
    test.choice = test.choice.or_environment();
    Ok(Some(test))
}
