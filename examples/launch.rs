//! Starting another domain. The first module is its kernel, any PVH kernel: `cargo xtask run --example launch --module
//! IMAGE -- child="its command line"`. By default it is the image of `examples/hello.rs`.
//!
//! Needs: image hello

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
    let (Some(xen), Some(kernel)) = (platform.xen(), platform.modules().first().copied()) else {
        error!("there is no module to start: cargo xtask run --example launch --module IMAGE");
        return Ok(ExitCode::FAILURE);
    };
    let toolstack = Toolstack::new(xen)?;
    println!("the control interface is that of {}", toolstack.interface().of);
    let command_line = platform.options().get("child").unwrap_or_default();
    let mut child = toolstack.start(&Config { kernel, command_line, memory: 16, ..Config::default() })?;
    println!("domain {} runs", child.id());

    let end = child.wait(Deadline::after(Duration::from_secs(20)));
    for line in child.console().lines()? {
        println!("it said: {line}");
    }
    let reason = end?.reason;
    println!("it ended by {reason}");
    println!("gone: {}", child.destroy(Deadline::after(Duration::from_secs(5)))?);
    Ok(if reason == ShutdownReason::POWEROFF { ExitCode::SUCCESS } else { ExitCode::CHILD_CRASHED })
}
