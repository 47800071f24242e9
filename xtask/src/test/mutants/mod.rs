//! Mutation tests: each mutant changes a copy of the sources in one place, and a test must fail.

mod code;
mod models;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::{Case, NotPassed, Session, host};
use crate::error::{Context, Result};
use crate::paths;

/// A change: the case's name, a file, a text found once in the file, and its replacement.
type Mutant = (&'static str, &'static str, &'static str, &'static str);

/// The tests expected to fail.
enum Check {
    /// The host's tests with this in their names.
    Host(&'static str),
    /// The tests of a rig (first) with this in their names (second).
    Rig(&'static str, &'static str),
}

/// The prefix of the bugs' names.
const BUGS: &str = "mutants";

/// Returns whether the filter names bugs. Then no other test runs.
pub fn is_asked_for(filter: &[String]) -> bool {
    filter.iter().any(|name| name.starts_with(BUGS))
}

/// The files and folders read by a build.
const SOURCES: &[&str] = &[
    ".cargo",
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "linker.ld",
    "rust-toolchain.toml",
    "boot",
    "src",
    "tests",
    "benches",
    "examples",
    "core",
    "template",
    "xtask",
];

/// Tries the mutants of the modelled code: orderings, fences and second checks. Part of every full run.
pub fn run(session: &mut Session<'_>) {
    for (mutant, model) in models::MUTANTS {
        session.case("host", &format!("models::loom::mutant::{}", mutant.0), || {
            let mut command = cargo("test");
            // In its own target folder: cargo would confuse the builds of the copy and the original.
            host::as_models(&mut command, "mutants/target");
            command.args(["--", "--exact", model]);
            noticed(mutant, command)
        });
    }
}

/// Tries the bugs of [`code`]. They run only if selected by name, since each needs a build.
pub fn run_bugs(session: &mut Session<'_>) {
    for (mutant, check) in code::BUGS {
        let rig = match check {
            Check::Host(_) => "host",
            Check::Rig(rig, _) => rig,
        };
        session.case(rig, &format!("{BUGS}::{}", mutant.0), || noticed(mutant, command(check)));
    }
}

fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand);
    command
}

fn command(check: &Check) -> Command {
    let target = paths::target().join("mutants/code");
    match check {
        Check::Host(filter) => {
            let mut command = cargo("test");
            command.args(["--package", "granite", "--package", "granite-core", "--lib"]);
            command.args(["--test", "guest", "--test", "ring", "--target-dir"]);
            command.arg(target).args(["--", filter]);
            command
        }
        Check::Rig(rig, filter) => {
            let mut command = cargo("run");
            command.args(["--package", "granite-xtask", "--", "test", "--rig", rig, filter, "--smp", "4"]);
            command.env("CARGO_TARGET_DIR", target);
            command
        }
    }
}

fn noticed(&(_, file, before, after): &Mutant, mut command: Command) -> Case {
    let tree = paths::target().join("mutants").join("tree");
    let source = prepare(&tree, file).map_err(|error| NotPassed::fail(error.to_string()))?;
    let path = tree.join(file);
    if source.matches(before).count() != 1 {
        return Err(NotPassed::fail(format!(
            "{file} does not have {before:?} once: mend the table of mutants"
        )));
    }
    fs::write(&path, source.replace(before, after)).map_err(|error| NotPassed::fail(error.to_string()))?;
    // The child must not use this run's source folder.
    let output = command.env_remove("CARGO_MANIFEST_DIR").current_dir(&tree).output();
    // Restore the tree for the next mutant.
    let restored = fs::write(&path, source);
    let output = output.and_then(|output| restored.map(|()| output));
    let output = output.map_err(|error| NotPassed::fail(error.to_string()))?;
    if has_failed_test(&output) {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).lines().rev().take(20).map(str::to_owned).collect();
    let why = if output.status.success() { "no test fails with it" } else { "no test ran with it" };
    Err(NotPassed::Fail(why.into(), log))
}

/// Returns whether a test failed or died. A failed build doesn't count.
fn has_failed_test(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stdout);
    let is_failure = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        line.starts_with("test result: FAILED")
            || ["FAIL", "CRASH", "TIMEOUT"].contains(&word) && !line.contains("does not build")
    };
    // Cargo reports a panic of the table, or a signal. (`cargo run` also reports any nonzero status of xtask, but with
    // another message.)
    let errors = String::from_utf8_lossy(&output.stderr);
    let has_died = errors.contains("error: test failed, to rerun pass");
    !output.status.success() && (text.lines().any(is_failure) || has_died)
}

/// Copies the sources, except unchanged files, and returns the text of `file`.
fn prepare(tree: &Path, file: &str) -> Result<String> {
    fs::create_dir_all(tree).context("making", tree)?;
    for name in SOURCES {
        copy(&paths::root().join(name), &tree.join(name))?;
    }
    let path = paths::root().join(file);
    fs::read_to_string(&path).context("reading", &path)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to).context("making", to)?;
        // Remove files moved or deleted since the last copy.
        for entry in fs::read_dir(to).context("reading", to)? {
            let old = entry.context("reading", to)?;
            let gone = !from.join(old.file_name()).exists();
            if gone && old.path().is_dir() {
                fs::remove_dir_all(old.path()).context("removing", &old.path())?;
            } else if gone {
                fs::remove_file(old.path()).context("removing", &old.path())?;
            }
        }
        for entry in fs::read_dir(from).context("reading", from)? {
            let name = entry.context("reading", from)?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let bytes = fs::read(from).context("reading", from)?;
    // Skip an unchanged file: its mtime, and so cargo's cache, stay valid.
    if fs::read(to).is_ok_and(|old| old == bytes) {
        Ok(())
    } else {
        fs::write(to, bytes).context("writing", to)
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, code, models};
    use crate::arguments::Test;
    use crate::paths;
    use crate::test::list;

    #[test]
    fn each_text_that_is_changed_is_in_its_file_once() {
        let bugs = code::BUGS.iter().map(|(mutant, _)| mutant);
        let is_wrong = |&&(_, file, before, _): &&super::Mutant| {
            let text = std::fs::read_to_string(paths::root().join(file)).unwrap_or_default();
            text.matches(before).count() != 1
        };
        let models = models::MUTANTS.iter().map(|(mutant, _)| mutant);
        let wrong: Vec<_> = models.chain(bugs).filter(is_wrong).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn each_bug_has_tests_that_can_notice_it() {
        for (mutant, check) in code::BUGS {
            let (Check::Host(filter) | Check::Rig(_, filter)) = check;
            let arguments = Test { filter: vec![(*filter).to_owned()], ..Test::default() };
            assert!(list::check_filter(&arguments).is_ok(), "{}: {filter}", mutant.0);
        }
    }
}
