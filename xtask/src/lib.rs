//! `cargo xtask` for Granite and its applications: build, boot, test, deploy. An application's `xtask` is one line:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     granite_xtask::main()
//! }
//! ```

#[macro_use]
mod say;

mod arguments;
mod bench;
mod boot;
mod build;
mod bundle;
mod check;
mod deploy;
mod error;
mod functions;
mod guest;
mod help;
mod hints;
mod image;
mod lab;
mod machine;
mod new;
mod outcome;
mod paths;
mod process;
mod project;
mod redzone;
mod run;
mod screen;
mod setup;
mod symbols;
mod test;
mod x87;

use std::process::ExitCode;

use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt;

use arguments::Lab;
use error::{Error, Result};
use setup::provision::Effort;

/// The status for errors of usage and set-up.
const BAD_USE: u8 = 2;

/// Runs the command on the command line, in Granite's checkout or in an application's.
pub fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain!("error: {error}");
            ExitCode::from(BAD_USE)
        }
    }
}

fn dispatch() -> Result<u8> {
    let mut parser = lexopt::Parser::from_env();
    let command = match parser.next()? {
        None | Some(Short('h') | Long("help")) => {
            return shown(help::MAIN);
        }
        Some(Value(command)) => command.string()?,
        Some(other) => return Err(other.unexpected().into()),
    };
    match command.as_str() {
        "run" => match arguments::run(&mut parser)? {
            Some(arguments) => run::run(&arguments),
            None => shown(help::RUN),
        },
        "test" => match arguments::test(&mut parser)? {
            Some(arguments) => test::test(&arguments),
            None => shown(help::TEST),
        },
        "bench" => match arguments::bench(&mut parser)? {
            Some(arguments) => bench::bench(&arguments),
            None => shown(help::BENCH),
        },
        "build" => match arguments::build(&mut parser)? {
            Some(arguments) => deploy::build(&arguments.program, arguments.optimised),
            None => shown(help::BUILD),
        },
        "image" => match arguments::build(&mut parser)? {
            Some(arguments) => deploy::image(&arguments.program, arguments.path("image")),
            None => shown(help::IMAGE),
        },
        "flags" => match arguments::build(&mut parser)? {
            Some(arguments) => deploy::flags(arguments.path("guest.toml")),
            None => shown(help::FLAGS),
        },
        "new" => match arguments::new(&mut parser)? {
            Some(arguments) => new::new(&arguments.path, arguments.git.as_deref()),
            None => shown(help::NEW),
        },
        "lab" => match arguments::lab(&mut parser)? {
            Some(Lab::Shell(choice)) => lab::shell(&choice),
            Some(Lab::Log) => lab::log(),
            Some(Lab::Stop) => Ok(lab::stop()),
            None => shown(help::LAB),
        },
        "setup" => match arguments::choice(&mut parser)? {
            Some(choice) => {
                let tools = setup::tools(&choice, true, Effort::Thorough)?;
                say!("{}", tools.qemu);
                if let Some(xen) = tools.xen {
                    say!("Xen ({})", xen.path.display());
                }
                Ok(0)
            }
            None => shown(help::SETUP),
        },
        "check" => match arguments::none(&mut parser)? {
            Some(()) => check::check(),
            None => shown(help::CHECK),
        },
        "help" => shown(help::MAIN),
        other => Err(Error::new(format!("there is no command {other}\ntry: cargo xtask --help"))),
    }
}

fn shown(text: &str) -> Result<u8> {
    say!("{}", text.trim_end());
    Ok(0)
}
