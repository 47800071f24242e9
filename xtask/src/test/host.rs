//! The host's tests: runs `cargo test` and reads its output line by line.

use std::process::Command;
use std::time::Duration;

use super::report::{Entry, Verdict};
use super::{Session, list};
use crate::error::{Error, Result};
use crate::process::{self, Finish, Next};
use crate::{paths, setup};

/// The timeout of one `cargo test`, including the build.
const DEADLINE: Duration = Duration::from_secs(1200);

/// Runs the unit tests, the tests of `tests/` and, except in the quick set, the documentation's examples. With a
/// filter, builds only the test programs with a possible match.
pub fn run(session: &mut Session<'_>) {
    if session.listed.is_some() {
        return;
    }
    let arguments = session.arguments;
    if arguments.filter.is_empty() {
        let mut command = cargo_test();
        command
            .args(["--workspace", "--all-features", "--no-fail-fast", "--target-dir"])
            .arg(paths::target());
        if arguments.quick {
            command.arg("--tests");
        }
        with_headers(&mut command);
        let ran = listen(session, command, "", &[]);
        return session.set_up("host", "the host's tests", ran);
    }
    let mut suites = list::suites(arguments);
    // Two packages may have a file of tests with the same name: one `cargo test` runs both.
    suites.sort_by_key(|suite| (suite.is_library, &suite.name));
    suites.dedup_by(|one, other| !one.is_library && one.name == other.name);
    for suite in suites.iter().filter(|suite| suite.name != MODELS) {
        let words = words_for(&suite.name, &arguments.filter);
        // The table's harness takes one word at a time; Rust's own takes all.
        let chunk = if suite.name == "guest" { 1 } else { words.len().max(1) };
        let mut chunks: Vec<_> = words.chunks(chunk).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        for words in chunks {
            let mut command = cargo_test();
            command.args(["--all-features", "--no-fail-fast"]);
            if suite.is_library {
                command.args(["--package", &suite.package, "--lib"]);
            } else {
                // Of the workspace, so that dependencies have the same features as in the whole run, and are built once.
                command.args(["--workspace", "--test", &suite.name]);
            }
            command.arg("--target-dir").arg(paths::target());
            with_headers(&mut command);
            let ran = listen(session, command, "", words);
            session.set_up("host", &suite.name, ran);
        }
    }
    for name in &arguments.filter {
        if let Some((package, filter)) = documentation_of(name) {
            let mut command = cargo_test();
            command
                .args(["--package", package, "--all-features", "--doc", "--target-dir"])
                .arg(paths::target());
            let ran = listen(session, command, "", &[filter.to_owned()]);
            session.set_up("host", name, ran);
        }
    }
}

/// Passes the Xen headers to the tests, for comparison with the ABI.
fn with_headers(command: &mut Command) {
    match setup::headers() {
        Ok(headers) => drop(command.env("GRANITE_XEN_HEADERS", headers)),
        Err(error) => complain!("note: no Xen headers to compare with: {error}"),
    }
}

/// Splits the name of a documentation example, such as `granite::doc::src/lib.rs`, into the package and the rest.
pub fn documentation_of(name: &str) -> Option<(&'static str, &str)> {
    let packages = [("granite_core::doc", "granite-core"), ("granite::doc", "granite")];
    packages.into_iter().find_map(|(prefix, package)| {
        let rest = name.strip_prefix(prefix)?;
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix("::")? };
        Some((package, rest))
    })
}

/// Returns whether a name belongs to the optimised table.
pub fn is_optimised(name: &str) -> bool {
    name.starts_with(OPTIMISED)
}

/// Runs the table again, optimised like a guest: that build has no overflow checks.
pub fn run_optimised(session: &mut Session<'_>) {
    let filter = &session.arguments.filter;
    let asked = filter.iter().any(|name| is_optimised(name));
    if session.listed.is_some() || !(filter.is_empty() || asked) {
        return;
    }
    let mut command = cargo_test();
    command.args(["--package", "granite", "--test", "guest", "--release", "--no-fail-fast", "--target-dir"]);
    command.arg(paths::target());
    let names: Vec<_> = filter.iter().map(|name| name.trim_start_matches(OPTIMISED).to_owned()).collect();
    let ran = listen(session, command, OPTIMISED, &words_for("guest", &names));
    session.set_up("host", "the optimised table", ran);
}

/// The prefix of names in the optimised table.
const OPTIMISED: &str = "release::";
/// The name of the suite with the models.
const MODELS: &str = "models";

/// Runs the loom models.
pub fn run_models(session: &mut Session<'_>) {
    if session.listed.is_some() || !list::suites(session.arguments).iter().any(|suite| suite.name == MODELS) {
        return;
    }
    let mut command = cargo_test();
    as_models(&mut command, "loom");
    let words = words_for(MODELS, &session.arguments.filter);
    let ran = listen(session, command, "", &words);
    session.set_up("host", "the models", ran);
}

/// Returns the filter for a suite's own program, without the suite's name, unknown to the program. Empty, to select
/// all tests, if a word of the filter is part of the suite's name.
fn words_for(suite: &str, filter: &[String]) -> Vec<String> {
    if filter.iter().any(|word| suite.contains(word.trim_end_matches(':'))) {
        return Vec::new();
    }
    let prefix = format!("{suite}::");
    filter.iter().map(|word| word.strip_prefix(&prefix).unwrap_or(word).to_owned()).collect()
}

/// Returns a `cargo test` run by a shell with stderr merged into stdout, to keep cargo's messages and the tests' in
/// order.
pub fn cargo_test() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]);
    command.arg(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg("test").current_dir(paths::root());
    command
}

/// Makes `cargo test` build and run the models, in this subfolder of the target folder.
pub fn as_models(command: &mut Command, folder: &str) {
    command
        .args(["--package", "granite-core", "--test", "models"])
        // Most of the time is spent in builds: leave out what only a debugger needs.
        .args(["--config", "profile.dev.opt-level=1", "--config", "profile.dev.debug=false"])
        .arg("--target-dir")
        .arg(paths::target().join(folder))
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg\x1fgranite_loom")
        .env_remove("RUSTFLAGS");
}

/// Runs `cargo test` for the tests with one of these words in their names. Reports each test by `build`, its suite and
/// its name.
///
/// # Errors
///
/// If cargo can't be started.
pub fn listen(session: &Session<'_>, mut command: Command, build: &str, words: &[String]) -> Result<()> {
    command.arg("--").args(words);
    let mut suite = String::new();
    let mut failed = false;
    let mut log = Vec::new();
    let (finish, _) = process::stream(command, Some(DEADLINE), |line| {
        log.push(line.to_owned());
        if let Some(name) = suite_of(line) {
            suite = name;
        } else if let Some((name, verdict, detail)) = verdict_of(line) {
            failed |= verdict == Verdict::Fail;
            let name = format!("{build}{suite}::{name}");
            let (rig, detail, duration) = ("host".into(), detail.to_owned(), Duration::ZERO);
            session.report.add(Entry { rig, name, verdict, detail, duration }, &[]);
        } else if line.trim_start().starts_with("Compiling") {
            session.report.say(line);
        }
        Next::Line
    })
    .map_err(|error| Error::new(format!("cannot run cargo test: {error}")))?;

    let (verdict, detail) = match finish {
        Finish::Exited(status) if status.success() && !failed => return Ok(()),
        Finish::Exited(status) if status.success() => {
            (Verdict::Fail, "a test failed, and cargo says success".into())
        }
        Finish::Exited(status) => (Verdict::Fail, status.to_string()),
        Finish::Deadline | Finish::Stopped => {
            (Verdict::Timeout, format!("still running after {} s", DEADLINE.as_secs()))
        }
    };
    if !failed || verdict == Verdict::Timeout {
        // No test failed: the build did, or the test program died.
        let entry = Entry {
            rig: "host".into(),
            name: "cargo test".into(),
            verdict,
            detail,
            duration: Duration::ZERO,
        };
        session.report.add(entry, &log);
        return Ok(());
    }
    for line in log.iter().skip_while(|line| !line.starts_with("failures:")) {
        session.report.say(&format!("    | {line}"));
    }
    Ok(())
}

/// Returns the name of the test program announced by a line of cargo's output.
fn suite_of(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package}::doc"));
    }
    let path = line.strip_prefix("Running ")?.rsplit_once('(')?.1.strip_suffix(')')?;
    let file = path.rsplit('/').next()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _)| name).to_owned())
}

/// Returns a test's name, verdict and detail from a line of the test harness.
fn verdict_of(line: &str) -> Option<(&str, Verdict, &str)> {
    let (name, end) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let (verdict, detail) = match end.split_once(", ").unwrap_or((end, "")) {
        ("ok", _) => (Verdict::Pass, ""),
        ("FAILED", _) => (Verdict::Fail, "see below"),
        ("ignored", reason) => (Verdict::Skip, reason),
        _ => return None,
    };
    Some((name.trim_end(), verdict, detail))
}

#[cfg(test)]
mod tests {
    use super::{Verdict, documentation_of, suite_of, verdict_of, words_for};

    #[test]
    fn suites_are_named_by_their_files() {
        let line = "     Running unittests src/lib.rs (target/debug/deps/granite-31480eeaeb28a615)";
        assert_eq!(suite_of(line).as_deref(), Some("granite"));
        assert_eq!(suite_of("   Doc-tests granite").as_deref(), Some("granite::doc"));
        assert_eq!(suite_of("   Compiling granite v0.1.0 (/x)"), None);
    }

    #[test]
    fn ends_of_tests_are_understood() {
        let end = |line| verdict_of(line).map(|(name, verdict, _)| (name, verdict));
        assert_eq!(end("test a::b ... ok"), Some(("a::b", Verdict::Pass)));
        assert_eq!(end("test a::b      ... ok"), Some(("a::b", Verdict::Pass)));
        assert_eq!(end("test a::b ... FAILED"), Some(("a::b", Verdict::Fail)));
        assert_eq!(end("test a::b ... ignored, needs apt"), Some(("a::b", Verdict::Skip)));
        assert_eq!(end("test result: ok. 1 passed"), None);
    }

    #[test]
    fn a_name_as_it_is_printed_selects_its_test() {
        let words = |suite, name: &str| words_for(suite, &[name.to_owned()]);
        assert_eq!(words("models", "models::loom::ring::x"), ["loom::ring::x"]);
        assert_eq!(words("models", "loom::ring"), ["loom::ring"]);
        assert!(words("models", "models").is_empty());
        assert!(words("models", "mod").is_empty());
        assert_eq!(documentation_of("granite::doc::src/lib.rs"), Some(("granite", "src/lib.rs")));
        assert_eq!(documentation_of("granite::doc"), Some(("granite", "")));
        assert_eq!(documentation_of("granite::grant"), None);
        assert_eq!(documentation_of("granite::documents"), None);
    }
}
