//! `cargo xtask run --rig lab`.

use super::domain::{Domains, Shape};
use super::{Dom0, files, state};
use crate::arguments::Run;
use crate::build;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::screen::Screen;
use crate::setup::provision::Effort;
use crate::setup::{self, Choice};

/// Starts the lab's control domain.
///
/// # Errors
///
/// If QEMU or the packages can't be had, or the control domain doesn't come up.
pub fn open(choice: &Choice) -> Result<Dom0> {
    if choice.xen.is_some() {
        complain!("note: the lab uses a Xen of its own, of its tools' version");
    }
    let qemu = setup::tools(choice, false, Effort::Quick)?.qemu;
    state::start(&qemu, &files::files()?)
}

/// Builds a guest, runs it in the lab, and returns xtask's status.
///
/// # Errors
///
/// If the lab or the image can't be prepared.
pub fn run(arguments: &Run) -> Result<u8> {
    let machine = &arguments.machine;
    if arguments.gdb {
        return Err(Error::new("the rig lab has no --gdb: use solo or direct"));
    }
    let image = build::build(&arguments.program, arguments.optimised)?;
    let module = machine.module.as_deref();
    let mut dom0 = open(&arguments.choice)?;
    let shape = Shape { vcpus: machine.smp, memory: machine.memory, more: arguments.cfg.join("\n") };
    let domains = Domains {
        image: &image,
        line: &arguments.line,
        module,
        shape: &shape,
        count: arguments.guests,
        takes_input: true,
    };
    let mut screen = Screen::new(machine.verbose);
    let boot = domains.run(&mut dom0, arguments.deadline(), &mut |line| screen.show(line))?;
    screen.end(boot.outcome != Outcome::Success);
    if boot.outcome != Outcome::Success {
        complain!("{}", boot.outcome);
    }
    Ok(boot.outcome.exit_code())
}
