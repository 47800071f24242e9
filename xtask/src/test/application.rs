//! The tests of an application: `cargo test` on the host, and each `tests/NAME.rs` with `granite::tests!` in a guest.

use cargo_metadata::TargetKind;

use super::{Session, host, table};
use crate::build;
use crate::error::{Error, Result};
use crate::guest::Program;
use crate::machine::{Machine, Rig};
use crate::paths;
use crate::project::project;

/// Runs the selected tests.
///
/// # Errors
///
/// If the project's metadata can't be read, or there is no guest to boot and the host's tests aren't selected.
pub fn run(session: &mut Session<'_>) -> Result<()> {
    let images = project()?.guests(&TargetKind::Test);
    let rigs = rigs(session, &images)?;
    if session.arguments.host && session.arguments.repeat.is_none() {
        let mut command = host::cargo_test();
        command.args(["--no-fail-fast", "--target-dir"]).arg(paths::target());
        let ran = host::listen(session, command, "", &session.arguments.filter);
        session.set_up("host", "the host's tests", ran);
    }
    for _ in 0..session.arguments.repeat.unwrap_or(1) {
        for name in &images {
            for &rig in &rigs {
                let ran = boot(session, name, rig);
                session.set_up(rig, name, ran);
            }
        }
        session.report.round_ends();
    }
    Ok(())
}

/// Returns the rigs to test guests in: `solo`, unless the user names one.
fn rigs(session: &Session<'_>, images: &[String]) -> Result<Vec<Rig>> {
    let asked = &session.arguments.rigs;
    if images.is_empty() && !session.arguments.host {
        return Err(Error::new("no tests/NAME.rs has granite::tests![...], so there is nothing to boot"));
    }
    // More than one rig means all of them: the user has not chosen one.
    Ok(if asked.len() > 1 { vec![Rig::Solo] } else { asked.clone() })
}

fn boot(session: &mut Session<'_>, name: &str, rig: Rig) -> Result<()> {
    let image = build::build(&Program::Test(name.to_owned()), true)?;
    let smp = session.arguments.smp;
    let machine = Machine { rig, smp, ..Machine::default() };
    let line = format!("rig={rig} smp={smp}");
    table::follow(session, &image, &machine, &line, "")
}
