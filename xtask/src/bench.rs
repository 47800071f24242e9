//! `cargo xtask bench`.

use std::process::Command;
use std::time::Duration;

use cargo_metadata::TargetKind;

use crate::arguments::Bench;
use crate::boot::{self, Line};
use crate::error::{Context, Error, Result};
use crate::guest::Program;
use crate::image::Image;
use crate::machine::{Machine, Rig};
use crate::outcome::Outcome;
use crate::project::project;
use crate::setup::Tools;
use crate::setup::provision::Effort;
use crate::{build, paths, setup};

/// With instruction counting, Xen itself runs ten times slower.
const DEADLINE: Duration = Duration::from_secs(300);

/// The benches run on the host: package, bench, cargo profile, and a description of the build.
const ON_THE_HOST: &[(&str, &str, &str, &str)] = &[
    ("granite-core", "freelist", "bench", "for speed"),
    ("granite-core", "freelist", "release", "as guests are built"),
    ("granite", "heap", "bench", "for speed"),
];

/// Runs the benches, and returns xtask's status.
///
/// # Errors
///
/// If no measurement can be started.
pub fn bench(arguments: &Bench) -> Result<u8> {
    if !paths::is_granite() {
        return of_an_application(arguments);
    }
    let mut code = 0;
    if arguments.host {
        for (package, bench, profile, how) in ON_THE_HOST {
            say!("{bench}, {how}:");
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.args(["bench", "--package", package, "--bench", bench, "--profile", profile]);
            command.current_dir(paths::root()).env("CARGO_TARGET_DIR", paths::target());
            let status =
                command.status().map_err(|error| Error::new(format!("cannot run cargo: {error}")))?;
            code = code.max(u8::from(!status.success()));
        }
    }
    if !arguments.rigs.is_empty() {
        code = code.max(in_guests(arguments)?);
    }
    Ok(code)
}

/// Boots each `benches/NAME.rs` with `granite::entry!`, with the time-stamp counter counting instructions.
fn of_an_application(arguments: &Bench) -> Result<u8> {
    let benches = project()?.guests(&TargetKind::Bench);
    if benches.is_empty() {
        return Err(Error::new(
            "no benches/NAME.rs has granite::entry!, so there is nothing to measure\n\
             a bench is a program with [[bench]] and harness = false in Cargo.toml",
        ));
    }
    let tools = setup::tools(&arguments.choice, true, Effort::Quick)?;
    let mut code = 0;
    for name in benches {
        let image = build::build(&Program::Bench(name.clone()), true)?;
        say!("{name}, 1 vCPU, a tick of the time-stamp counter is an instruction (this takes some seconds):");
        let machine = Machine { counted: true, ..Machine::default() };
        code = code.max(measure(&machine, &tools, &image)?);
    }
    Ok(code)
}

/// Boots an image, and shows its output.
fn measure(machine: &Machine, tools: &Tools, image: &Image) -> Result<u8> {
    let show = |line: Line<'_>| {
        // The first domain prints the figures of both.
        if let Line::Guest(text) = line {
            say!("{text}");
        }
    };
    let boot = boot::boot(machine, tools, image, "", Some(DEADLINE), show)?;
    if boot.outcome != Outcome::Success {
        complain!("{}", boot.outcome);
    }
    Ok(boot.outcome.exit_code())
}

/// The guests booted in each rig: rig, image, number of vCPUs.
const GUESTS: &[(Rig, &str, u32)] = &[
    (Rig::Solo, "instructions", 1),
    (Rig::Solo, "events", 1),
    (Rig::Solo, "events", 2),
    (Rig::Pair, "store", 1),
];

fn in_guests(arguments: &Bench) -> Result<u8> {
    let tools = setup::tools(&arguments.choice, true, Effort::Quick)?;
    let mut code = 0;
    for &(rig, name, smp) in GUESTS.iter().filter(|(rig, ..)| arguments.rigs.contains(rig)) {
        let image = build::build(&Program::Bench(name.to_owned()), true)?;
        // QEMU can count the instructions of only one processor.
        let machine = Machine { rig, counted: smp == 1, smp, ..Machine::default() };
        let what = if machine.counted {
            "instructions counted (this takes some seconds)"
        } else {
            "ticks of the host"
        };
        say!("{name}, {smp} vCPU, {what}:");
        code = code.max(measure(&machine, &tools, &image)?);
    }
    if arguments.rigs.contains(&Rig::Solo) {
        code = code.max(life(&tools)?);
    }
    Ok(code)
}

/// Maximum number of instructions in the life of the smallest application, and of bytes in its image.
const LIFE: u64 = 230_000;
const IMAGE: u64 = 64 << 10;

/// Measures the cost of the smallest application: from Xen's last message before the application's first instruction to
/// Xen's message about its halt. Traps to Xen are included.
fn life(tools: &Tools) -> Result<u8> {
    let image = build::build(&Program::Example("hello".into()), true)?;
    let machine = Machine { counted: true, timed_by_xen: true, ..Machine::default() };
    say!("the life of examples/hello, 1 vCPU, instructions counted (this takes some seconds):");
    let boot = boot::boot(&machine, tools, &image, "", Some(DEADLINE), |_| ())?;
    if boot.outcome != Outcome::Success {
        complain!("{}", boot.outcome);
        return Ok(boot.outcome.exit_code());
    }
    let stamp =
        |message: &str| boot.log.iter().find(|line| line.contains(message)).and_then(|line| xens_stamp(line));
    let (Some(begun), Some(ended)) = (stamp("init memory"), stamp("Hardware Dom0 halted")) else {
        return Err(Error::new("Xen's log doesn't show the guest's start and end"));
    };
    let bytes = std::fs::metadata(&image.stripped).context("looking at", &image.stripped)?.len();
    for (what, is, max) in
        [("instructions", ended.wrapping_sub(begun), LIFE), ("bytes of image", bytes, IMAGE)]
    {
        let verdict = if is <= max { "ok  " } else { "MISS" };
        say!("{verdict} {is} {what} (wanted: at most {max})");
    }
    Ok(0)
}

/// Parses the time of a message from Xen, in ticks: `(XEN) [000000012d5f7a31] text`.
fn xens_stamp(line: &str) -> Option<u64> {
    let stamp = line.strip_prefix("(XEN) [")?.split_once(']')?.0;
    u64::from_str_radix(stamp.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::xens_stamp;

    #[test]
    fn stamps_are_hexadecimal_ticks() {
        assert_eq!(xens_stamp("(XEN) [000000000000ff10] Freed 656kB init memory"), Some(0xff10));
        assert_eq!(xens_stamp("(XEN) [    1.031449] Freed"), None);
        assert_eq!(xens_stamp("guest: (XEN) [10]"), None);
    }
}
