//! A small command line at the console of a domU. In a terminal: `cargo xtask run --rig lab --example shell`.

#![no_std]
#![no_main]

use granite::driver::console::{Input, InputError};
use granite::prelude::*;
use granite::time::wall_clock;

granite::entry!(main);

fn main(platform: &'static Platform) -> ExitCode {
    match talk(platform) {
        // The control domain has no such console.
        Err(InputError::NoConsole) => {
            println!("{}", InputError::NoConsole);
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn talk(platform: &'static Platform) -> Result<(), InputError> {
    let mut input = Input::take()?;
    println!("domain {} on Xen {}; help lists the commands", platform.dom_id(), platform.xen_version());
    let mut buffer = [0; 80];
    loop {
        print!("> ");
        match input.read_line(&mut buffer, Deadline::NEVER)?.trim() {
            "" => {}
            "help" => println!("grants  events  mem  time  exit"),
            "grants" => match platform.grants() {
                Ok(grants) => println!("{}", grants.stats()),
                Err(error) => println!("{error}"),
            },
            "events" => println!("{} events of this console", input.events()),
            "mem" => println!("{} of {} KiB free", platform.free_memory() / 1024, platform.memory() / 1024),
            "time" => match wall_clock() {
                Some(time) => println!("{} s since 1970", time.as_secs()),
                None => println!("there is no clock"),
            },
            "exit" => return Ok(()),
            other => println!("there is no command {other}; help lists them"),
        }
    }
}
