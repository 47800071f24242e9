//! `cargo xtask lab`: a shell in a control domain, the log of the last one, and the end of others.

use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use super::dom0::{Finish, Output};
use super::folder;
use super::run::open;
use crate::error::{Context, Result};
use crate::paths;
use crate::setup::Choice;

/// Reads commands from standard input, and runs each in a control domain of its own, until the input ends.
///
/// # Errors
///
/// If the lab can't be prepared, or the control domain ends.
pub fn shell(choice: &Choice) -> Result<u8> {
    let mut dom0 = open(choice)?;
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        say!("the lab's control domain: xl, xenstore-ls, lsevtchn and busybox's commands; Ctrl-D ends it");
    }
    let mut status = 0;
    loop {
        if is_terminal {
            print!("dom0# ");
            let _ = std::io::stdout().flush();
        }
        let mut line = String::new();
        let count = std::io::stdin().lock().read_line(&mut line);
        if count.context("reading", "standard input".as_ref())? == 0 {
            return Ok(status);
        }
        let finish = dom0.run(line.trim(), None, &mut |output| match output {
            Output::Console(text) | Output::Command(text) => say!("{text}"),
        })?;
        status = if let Finish::Exited(status) = finish { status } else { status };
    }
}

/// Returns the file with the console's lines of the last control domain.
///
/// # Errors
///
/// If there is no place for a cache.
pub fn log_file() -> Result<PathBuf> {
    Ok(paths::cache()?.join("lab/console.log"))
}

/// Prints the console's lines of the last control domain.
///
/// # Errors
///
/// If there is none.
pub fn log() -> Result<u8> {
    let file = log_file()?;
    say!("{}", fs::read_to_string(&file).context("reading", &file)?.trim_end());
    Ok(0)
}

/// Ends the other processes with a control domain. The control domains end with them.
pub fn stop() -> u8 {
    let processes = folder::others();
    for &process in &processes {
        // SAFETY: this sends a signal, and accesses no memory.
        unsafe { libc::kill(process, libc::SIGTERM) };
    }
    say!("{} stopped", processes.len());
    0
}
