//! `cargo xtask test --list`, and the error for a filter without a match.

use std::process::Command;
use std::sync::OnceLock;

use super::names::{self, Names};
use super::report::Report;
use super::{Session, guest_groups, host, host_groups, mutants, table};
use crate::arguments::Test;
use crate::error::{Context, Error, Result};
use crate::paths;
use crate::project::{Project, Suite, project};

/// Returns the suites with their tests' names, read once.
fn known() -> &'static [(Suite, Names)] {
    static KNOWN: OnceLock<Vec<(Suite, Names)>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let suites = project().map(Project::suites).unwrap_or_default().into_iter();
        suites.map(|suite| (suite.clone(), Names::of(&suite))).collect()
    })
}

/// Returns xtask's own cases in all rigs, each as its rig followed by its name.
fn own_cases() -> &'static [String] {
    static CASES: OnceLock<Vec<String>> = OnceLock::new();
    CASES.get_or_init(|| {
        if !paths::is_granite() {
            return Vec::new();
        }
        let (all, report) = (Test::default(), Report::new(None));
        let mut session = Session { listed: Some(Vec::new()), ..Session::new(&all, &report) };
        host_groups(&all).chain(guest_groups(&all)).for_each(|group| group(&mut session));
        session.listed.unwrap_or_default()
    })
}

/// Returns the name of one of xtask's own cases, without its rig.
fn name_of(case: &str) -> &str {
    case.split_once(' ').map_or(case, |(_, name)| name.trim_start())
}

/// Returns the suites with a test of this name. If neither a suite nor xtask's own cases have it, returns the suites
/// with a possible match, because names made by macros are guessed.
fn suites_with(name: &str) -> Vec<&'static Suite> {
    let with = |has: &dyn Fn(&Names) -> bool| -> Vec<_> {
        known().iter().filter(|(_, names)| has(names)).map(|(suite, _)| suite).collect()
    };
    let sure = with(&|names| names.have(name));
    if !sure.is_empty() || own_cases().iter().any(|case| name_of(case).contains(name)) {
        return sure;
    }
    with(&|names| names.can_have(name))
}

/// Returns the suites with a test possibly selected by the arguments.
pub fn suites(arguments: &Test) -> Vec<&'static Suite> {
    if arguments.filter.is_empty() {
        return known().iter().map(|(suite, _)| suite).collect();
    }
    let mut suites: Vec<_> = arguments.filter.iter().flat_map(|name| suites_with(name)).collect();
    suites.sort_by_key(|suite| (&suite.package, &suite.name));
    suites.dedup();
    suites
}

/// Refuses a filter without a possible match, before any build.
///
/// # Errors
///
/// If a word of the filter matches no test; the error suggests similar names.
pub fn check_filter(arguments: &Test) -> Result<()> {
    for name in &arguments.filter {
        let is_known = own_cases().iter().any(|case| name_of(case).contains(name.as_str()))
            || mutants::is_asked_for(std::slice::from_ref(name))
            || host::documentation_of(name).is_some()
            || host::is_optimised(name)
            || !suites_with(name).is_empty();
        if is_known {
            continue;
        }
        let own = own_cases().iter().map(|case| name_of(case));
        let all = own.chain(known().iter().flat_map(|(_, names)| names.all()));
        let similar = match &names::suggestions(name, all)[..] {
            [] => String::new(),
            similar => format!("similar: {}\n", similar.join(", ")),
        };
        return Err(Error::new(format!(
            "no test has \"{name}\" in its name\n{similar}all names: cargo xtask test --list"
        )));
    }
    Ok(())
}

/// Prints every test selected by the arguments: its rig, then its name.
///
/// # Errors
///
/// If a test program can't be built, or the guest listing its cases can't be booted.
pub fn list(arguments: &Test) -> Result<u8> {
    if arguments.host {
        let mut command = host::cargo_test();
        command.args(["--workspace", "--all-features", "--quiet", "--target-dir"]).arg(paths::target());
        print(arguments, command)?;
        if paths::is_granite() && !arguments.quick {
            let mut command = host::cargo_test();
            host::as_models(&mut command, "loom");
            print(arguments, command)?;
        }
    }
    for case in own_cases() {
        let rig = case.split(' ').next().unwrap_or_default();
        let is_wanted =
            rig == "host" && arguments.host || arguments.rigs.iter().any(|own| own.to_string() == rig);
        if is_wanted && arguments.selects(name_of(case)) {
            say!("{case}");
        }
    }
    if paths::is_granite() {
        table::list(&mut Session::new(arguments, &Report::new(None)))?;
    }
    Ok(0)
}

/// Prints the selected tests of a `cargo test`.
fn print(arguments: &Test, mut command: Command) -> Result<()> {
    command.args(["--", "--list"]);
    let output = command.output().context("running", "cargo test".as_ref())?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(Error::new(format!("cargo test --list: {}\n{text}", output.status)));
    }
    for name in text.lines().filter_map(|line| line.strip_suffix(": test")) {
        if arguments.selects(name) {
            say!("host   {name}");
        }
    }
    Ok(())
}
