//! `cargo xtask check`: automatic checks of the code's form.

mod layers;
mod licences;
mod uses;

use std::process::Command;

use cargo_metadata::TargetKind;

use crate::error::{Error, Result};
use crate::project::project;
use crate::{guest, paths};

/// Runs every check, also after a failed one, and returns xtask's status.
///
/// # Errors
///
/// If a check can't be run.
pub fn check() -> Result<u8> {
    let mut failed = Vec::new();
    let mut step = |name: &'static str, passed: bool| {
        say!("{} {name}", if passed { "PASS   " } else { "FAIL   " });
        if !passed {
            failed.push(name);
        }
    };
    step("formatting", formatting()?);
    step(
        "clippy, host",
        cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny", "warnings"])?,
    );
    step("clippy, guest", clippy_guest()?);
    step("documentation", documentation()?);
    step("licences", found_nothing(&licences::unknown()?));
    if paths::is_granite() {
        step("layers", found_nothing(&layers::violations(&paths::root().join("src"))?));
        step("layers of core", found_nothing(&layers::violations(&paths::root().join("core/src"))?));
    }
    if failed.is_empty() {
        return Ok(0);
    }
    complain!("failed: {}", failed.join(", "));
    Ok(1)
}

fn found_nothing(findings: &[String]) -> bool {
    findings.iter().for_each(|finding| say!("{finding}"));
    findings.is_empty()
}

fn run(mut command: Command) -> Result<bool> {
    let status = command.status().map_err(|error| Error::new(format!("cannot run cargo: {error}")))?;
    Ok(status.success())
}

/// Returns a cargo command for the host, with the target folder of `cargo test`.
fn host(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(paths::root()).env("CARGO_TARGET_DIR", paths::target());
    Ok(command)
}

fn cargo(arguments: &[&str]) -> Result<bool> {
    run(host(arguments)?)
}

/// Checks the packages of this checkout. `--all` would include their path dependencies, with other rules.
fn formatting() -> Result<bool> {
    let mut command = host(&["fmt", "--check"])?;
    for name in project()?.members() {
        command.args(["--package", name]);
    }
    run(command)
}

/// Checks the code built only for a guest: the entry point, the panic handler, the bodies of the tests.
fn clippy_guest() -> Result<bool> {
    let project = project()?;
    let mut command = guest::cargo("clippy", guest::FOLDER, &guest::rustflags()?)?;
    command.args(["--release", "--bins", "--all-features"]);
    if project.has_library() {
        command.arg("--lib");
    }
    if !project.examples().is_empty() {
        command.arg("--examples");
    }
    for (option, kind) in [("--test", TargetKind::Test), ("--bench", TargetKind::Bench)] {
        for name in project.guests(&kind) {
            command.args([option, &name]);
        }
    }
    command.args(["--", "--deny", "warnings"]);
    run(command)
}

fn documentation() -> Result<bool> {
    let mut command = host(&["doc", "--workspace", "--no-deps", "--document-private-items"])?;
    command.env("RUSTDOCFLAGS", "--deny warnings");
    run(command)
}
