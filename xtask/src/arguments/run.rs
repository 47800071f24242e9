//! The arguments of `cargo xtask run`.

use std::io::IsTerminal;
use std::time::Duration;

use lexopt::{Parser, ValueExt};

use super::{Argument, file, next, number, rig, tool, unexpected};
use crate::error::{Error, Result};
use crate::guest::Program;
use crate::machine::{Accelerator, MIN_MEMORY, Machine, Rig};
use crate::project::project;
use crate::setup::Choice;

/// The arguments of `cargo xtask run`.
#[derive(Debug)]
pub struct Run {
    /// The program to build.
    pub program: Program,
    /// Whether to build it optimised.
    pub optimised: bool,
    /// The machine to boot it on.
    pub machine: Machine,
    /// Whether to wait for a debugger.
    pub gdb: bool,
    /// The timeout: zero for no limit, `None` for the default.
    pub timeout: Option<Duration>,
    /// The choice of Xen and QEMU.
    pub choice: Choice,
    /// The guest's command line.
    pub line: String,
    /// Further lines of the guest's configuration in the lab.
    pub cfg: Vec<String>,
    /// The number of guests in the lab.
    pub guests: u32,
}

/// The default timeout, without `--timeout`. On a terminal there is no limit: a server runs until Ctrl-C.
pub const TIMEOUT: Duration = Duration::from_secs(60);

impl Run {
    /// Returns the timeout to use; `None` for no limit.
    pub fn deadline(&self) -> Option<Duration> {
        let unlimited = self.gdb || std::io::stdout().is_terminal();
        let default = (!unlimited).then_some(TIMEOUT);
        self.timeout.or(default).filter(|timeout| !timeout.is_zero())
    }
}

/// Reads `run`'s arguments. Returns `None` for `--help`.
///
/// # Errors
///
/// If an option is unknown, a value is bad, or the project's metadata can't be read.
pub fn run(parser: &mut Parser) -> Result<Option<Run>> {
    let (mut program, mut named) = (None, None);
    let mut run = Run {
        program: Program::Main,
        optimised: true,
        machine: Machine::default(),
        gdb: false,
        timeout: None,
        choice: Choice::default(),
        line: String::new(),
        cfg: Vec::new(),
        guests: 1,
    };
    while let Some(argument) = next(parser)? {
        let Argument::Option(name) = &argument else {
            let Argument::Rest(line) = argument else { return Err(unexpected(argument)) };
            run.line = line;
            continue;
        };
        match name.as_str() {
            "help" => return Ok(None),
            "example" => program = Some(Program::Example(parser.value()?.string()?)),
            "rig" => named = Some(rig(&parser.value()?.string()?)?),
            "smp" => run.machine.smp = number(parser, "--smp", 1, 64)?,
            "mem" => run.machine.memory = number(parser, "--mem", MIN_MEMORY, 1 << 20)?,
            "module" => run.machine.module = Some(file(parser, "--module")?),
            "timeout" => {
                run.timeout = Some(Duration::from_secs(number(parser, "--timeout", 0, 86_400)?.into()))
            }
            "accel" => run.machine.accelerator = accelerator(&parser.value()?.string()?)?,
            "gdb" => run.gdb = true,
            "cfg" => run.cfg.push(parser.value()?.string()?),
            "guests" => run.guests = number(parser, "--guests", 1, 8)?,
            "dev" => run.optimised = false,
            "verbose" => run.machine.verbose = true,
            _ => tool(parser, &mut run.choice, argument)?,
        }
    }
    run.program = program.unwrap_or(Program::Main);
    let needed = project()?.needs(&run.program)?.rig.as_deref().map(rig).transpose()?;
    run.machine.rig = named.or(needed).unwrap_or(run.machine.rig);
    if (!run.cfg.is_empty() || run.guests > 1) && run.machine.rig != Rig::Lab {
        return Err(Error::new("--cfg and --guests are for guests in the lab\nadd --rig lab"));
    }
    run.choice = run.choice.or_environment();
    Ok(Some(run))
}

fn accelerator(name: &str) -> Result<Accelerator> {
    match name {
        "tcg" => Ok(Accelerator::Tcg),
        "kvm" => Ok(Accelerator::Kvm),
        other => Err(Error::new(format!("--accel {other}: it is tcg or kvm"))),
    }
}
