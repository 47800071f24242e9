//! `cargo xtask bench`.

use std::process::Command;
use std::time::Duration;

use crate::arguments::Bench;
use crate::boot::{self, Line};
use crate::error::{Error, Result};
use crate::guest::{self, Program};
use crate::machine::{Machine, Rig};
use crate::outcome::Outcome;
use crate::setup::provision::Effort;
use crate::{paths, setup};

/// Counting instructions takes Xen itself ten times as long.
const DEADLINE: Duration = Duration::from_secs(300);

/// Measures, and gives xtask's status.
///
/// # Errors
///
/// If it doesn't come to measuring.
pub fn bench(arguments: &Bench) -> Result<u8> {
    let mut code = 0;
    if arguments.host {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["bench", "--package", "granite", "--bench", "freelist"]);
        command.current_dir(paths::root()).env("CARGO_TARGET_DIR", paths::target());
        let status = command.status().map_err(|error| Error::new(format!("cannot run cargo: {error}")))?;
        code = code.max(u8::from(!status.success()));
    }
    if !arguments.rigs.is_empty() {
        code = code.max(in_guests(arguments)?);
    }
    Ok(code)
}

/// What is booted in each rig: an image, with so many vCPUs.
const GUESTS: &[(Rig, &str, u32)] = &[
    (Rig::Solo, "instructions", 1),
    (Rig::Solo, "events", 1),
    (Rig::Solo, "events", 2),
    (Rig::Twin, "store", 1),
];

fn in_guests(arguments: &Bench) -> Result<u8> {
    let tools = setup::tools(&arguments.choice, true, Effort::Quick)?;
    let mut code = 0;
    for &(rig, name, smp) in GUESTS.iter().filter(|(rig, ..)| arguments.rigs.contains(rig)) {
        let image = guest::build(&Program::Bench(name), true)?;
        // QEMU can count the instructions of one processor.
        let machine = Machine { rig, counted: smp == 1, smp, ..Machine::default() };
        let what = if machine.counted {
            "instructions counted (this takes some seconds)"
        } else {
            "ticks of the host"
        };
        say!("{name}, {smp} vCPU, {what}:");
        let show = |line: Line<'_>| {
            // The second domain has nothing to say.
            if let Line::Guest(text) = line
                && !text.starts_with("(d")
            {
                line.print();
            }
        };
        let boot = boot::boot(&machine, &tools, &image, "", Some(DEADLINE), show)?;
        if boot.outcome != Outcome::Success {
            complain!("{}", boot.outcome);
        }
        code = code.max(boot.outcome.exit_code());
    }
    Ok(code)
}
