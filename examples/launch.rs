//! Starts another domain. The first module is its kernel, any PVH kernel:
//! `cargo xtask run --example launch --module IMAGE -- child="its command line"`. By default it is the image of
//! `examples/hello.rs`.

#![no_std]
#![no_main]

use core::time::Duration;

use granite::abi::sched::ShutdownReason;
use granite::prelude::*;
use granite::time::Deadline;
use granite::toolstack::{Config, Toolstack, ToolstackError};

granite::entry!(main, options = ["child"]);

fn main(platform: &'static Platform) -> ExitCode {
    match launch(platform) {
        Ok(code) => code,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn launch(platform: &Platform) -> Result<ExitCode, ToolstackError> {
    let Some(xen) = platform.xen() else { return Ok(ExitCode::FAILURE) };
    let toolstack = Toolstack::new(xen)?;
    let Some(kernel) = platform.modules().first().copied() else {
        error!("there is no module to start: cargo xtask run --example launch --module IMAGE");
        return Ok(ExitCode::FAILURE);
    };
    println!("the control interface is that of {}", toolstack.interface().of);
    let command_line = platform.options().get("child").unwrap_or_default();
    let mut child = toolstack.start(&Config { kernel, command_line, memory: 16, ..Config::default() })?;
    println!("domain {} runs", child.id());

    let end = child.wait(Deadline::after(Duration::from_secs(20)));
    let lines = child.console().lines()?;
    lines.iter().for_each(|line| println!("it said: {line}"));
    let failed = lines.iter().any(|line| line.starts_with("granite: end: failure"));
    let reason = match end {
        Ok(end) => end.reason,
        Err(ToolstackError::StillRunning) => return Ok(ExitCode::CHILD_TIMED_OUT),
        Err(error) => return Err(error),
    };
    println!("it ended by {reason}");
    println!("gone: {}", child.destroy(Deadline::after(Duration::from_secs(5)))?);
    Ok(match reason {
        ShutdownReason::POWEROFF => ExitCode::SUCCESS,
        _ if failed => ExitCode::CHILD_FAILED,
        _ => ExitCode::CHILD_CRASHED,
    })
}
