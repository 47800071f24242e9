//! Tests of a running xtask: a debugger attaches, two xtasks run at once, xtask is killed.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::commands::{output_of, xtask};
use super::{Case, NotPassed, Session};
use crate::machine::Rig;
use crate::process;
use crate::setup::Choice;

/// The timeout for a connection to QEMU, and for its end.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs all cases.
pub fn run(session: &mut Session<'_>) {
    let choice = &session.arguments.choice;
    session.case(Rig::Solo, "run::debugger", || debugger(choice));
    session.case(Rig::Solo, "run::two_at_once", || two_at_once(choice));
    session.case(Rig::Solo, "run::nobody_reads", || nobody_reads(choice));
    for (name, signal) in [("kill", libc::SIGKILL), ("interrupt", libc::SIGINT), ("terminate", libc::SIGTERM)]
    {
        session.case(Rig::Solo, &format!("run::qemu_dies_with_xtask_on_{name}"), || {
            dies_together(choice, signal)
        });
    }
}

/// An xtask with a QEMU waiting for a debugger.
struct Waiting {
    child: Child,
    port: u16,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It has usually ended already, as most cases expect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn io(error: std::io::Error) -> NotPassed {
    NotPassed::fail(error.to_string())
}

impl Waiting {
    fn start(choice: &Choice) -> Result<Self, NotPassed> {
        let mut command = xtask(choice, &["run", "--gdb", "--timeout", "60"]);
        // A shell's background jobs ignore SIGINT, and their children inherit that.
        // SAFETY: between fork and exec this calls `signal` alone, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            })
        };
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(io)?;
        let mut this = Self { child, port: 0 };
        let output = this.child.stdout.as_mut().ok_or_else(|| NotPassed::fail("no output"))?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(io)?;
        let port = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split('\'').next()?.parse().ok());
        this.port = port.ok_or_else(|| NotPassed::fail(format!("no port in: {line}")))?;
        Ok(this)
    }

    fn connect(&self) -> Result<TcpStream, NotPassed> {
        let started = Instant::now();
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => return Ok(stream),
                Err(error) if started.elapsed() > TIMEOUT => return Err(io(error)),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// A debugger attaches and continues: the guest runs to its end.
fn debugger(choice: &Choice) -> Case {
    let mut waiting = Waiting::start(choice)?;
    let mut stream = waiting.connect()?;
    stream.write_all(b"$c#63").map_err(io)?; // the remote protocol's "continue"
    let status = waiting.child.wait().map_err(io)?;
    if status.success() { Ok(()) } else { Err(NotPassed::fail(format!("ended with {status}"))) }
}

fn two_at_once(choice: &Choice) -> Case {
    // Two different images, so that both are also built at once.
    let other =
        xtask(choice, &["run", "--example", "hello"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut other = other.map_err(io)?;
    let first = output_of(xtask(choice, &["run"]), 0, &["Hello from domain 0"]);
    let second = other.wait().map_err(io)?;
    first?;
    if second.success() { Ok(()) } else { Err(NotPassed::fail(format!("the other ended with {second}"))) }
}

/// With stdout and stderr closed by the reader, the guest still runs to its end, and the status is the guest's.
fn nobody_reads(choice: &Choice) -> Case {
    let mut command = xtask(choice, &["run", "--", "fail"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(io)?;
    drop((child.stdout.take(), child.stderr.take()));
    let status = child.wait().map_err(io)?;
    if status.code() == Some(1) { Ok(()) } else { Err(NotPassed::fail(format!("ended with {status}"))) }
}

/// A signal to xtask ends its QEMU, too.
fn dies_together(choice: &Choice, signal: i32) -> Case {
    let mut waiting = Waiting::start(choice)?;
    drop(waiting.connect()?); // QEMU is up
    let children = process::descendants(waiting.child.id());
    if children.is_empty() {
        return Err(NotPassed::fail("xtask has no child"));
    }
    let id = i32::try_from(waiting.child.id()).map_err(|error| NotPassed::fail(error.to_string()))?;
    // SAFETY: this sends a signal to our child. We have not waited for it yet, so the process ID is still its own.
    unsafe { libc::kill(id, signal) };
    let status = waiting.child.wait().map_err(io)?;
    if status.code().is_some() {
        return Err(NotPassed::fail(format!("the signal did not end xtask: {status}")));
    }
    let started = Instant::now();
    while let Some(alive) = children.iter().find(|child| process::is_alive(**child)) {
        if started.elapsed() > TIMEOUT {
            return Err(NotPassed::fail(format!("QEMU, process {alive}, lives on")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
