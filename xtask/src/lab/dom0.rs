//! A running control domain: a QEMU with Xen and Linux, whose init runs commands.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::files::Files;
use super::folder::Folder;
use super::lines::{Lines, wait};
use super::machine::{self, TAG};
use super::qmp::Qmp;
use super::shell;
use crate::error::{Context, Error, Result};
use crate::machine::quoted;
use crate::process::{self, Guarded};
use crate::setup::Qemu;

/// The folder's place in the control domain.
pub const SHARED: &str = "/mnt";
/// The timeout of a boot.
const BOOT: Duration = Duration::from_secs(120);
/// The timeout for QEMU to open its sockets.
const START: Duration = Duration::from_secs(20);

/// Where a control domain starts from.
#[derive(Clone, Copy, Debug)]
pub enum From<'a> {
    /// Its boot.
    Boot,
    /// A state saved in this file.
    State(&'a Path),
}

/// A line of output, without its end.
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// Of the machine's console: Xen's, with those of the guests and of Linux.
    Console(&'a str),
    /// Of the command.
    Command(&'a str),
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// With this status.
    Exited(u8),
    /// It was still running at the deadline.
    Deadline,
}

/// A running control domain. Dropping it ends the machine.
pub struct Dom0 {
    // Fields are dropped in this order: the machine ends before its folder is deleted.
    machine: Guarded,
    /// Whether the agent waits for a command.
    is_idle: bool,
    console: Lines<ChildStdout>,
    /// The input of the machine's console. Xen passes it to Linux.
    keyboard: ChildStdin,
    /// Whether xtask's own input goes there.
    is_typing: bool,
    agent: Lines<UnixStream>,
    qmp: Qmp,
    folder: Folder,
}

impl Dom0 {
    /// Starts a control domain, and waits until it takes commands.
    ///
    /// # Errors
    ///
    /// If QEMU can't be started, or the control domain doesn't come up; the text has its output.
    pub fn start(qemu: &Qemu, files: &Files, from: From<'_>) -> Result<Self> {
        let folder = Folder::new()?;
        let mut command = machine::command(qemu, files, folder.path())?;
        if let From::State(state) = from {
            command.arg("-incoming").arg(format!("exec:cat {}", quoted(&state.to_string_lossy())));
        }
        process::die_together(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.spawn().map_err(|error| Error::new(format!("cannot run {qemu}: {error}")))?;
        let mut machine = Guarded::new(child);
        let streams = machine.stdout().zip(machine.stdin());
        let (console, keyboard) = streams.ok_or_else(|| Error::new("QEMU has no console"))?;
        let agent = connect(&folder.path().join("agent"), &mut machine)?;
        let qmp = Qmp::new(connect(&folder.path().join("qmp"), &mut machine)?)?;
        let log = shell::log_file()?;
        let log = fs::File::create(&log).context("writing", &log)?;
        let (console, agent) = (Lines::new(console, Some(log))?, Lines::new(agent, None)?);
        let (is_idle, is_typing) = (true, false);
        let mut this = Self { machine, is_idle, console, keyboard, is_typing, agent, qmp, folder };
        match from {
            From::Boot => this.booted()?,
            From::State(_) => this.restored()?,
        }
        Ok(this)
    }

    fn booted(&mut self) -> Result<()> {
        let mut log = Vec::new();
        let up = self.listen(Some(Instant::now() + BOOT), &mut |output| {
            let (Output::Console(line) | Output::Command(line)) = output;
            log.push(line.to_owned());
        })?;
        if up == Some(Message::Up) {
            return Ok(());
        }
        Err(Error::new(format!("the lab's control domain doesn't come up:\n{}", log.join("\n"))))
    }

    fn restored(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        // QEMU stops with a state that was saved while it was stopped.
        while self.qmp.execute("query-status", json!({}))?["status"] == "inmigrate" {
            if Instant::now() > deadline {
                return Err(Error::new("QEMU doesn't restore the saved control domain"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.qmp.execute("cont", json!({}))?;
        // The saved state has no mounted folder: QEMU can't save one.
        self.expect(&format!("mount -t 9p -o trans=virtio,version=9p2000.L {TAG} {SHARED}"))
    }

    /// Saves the state of the machine in a file, and stops it.
    ///
    /// # Errors
    ///
    /// If QEMU can't save it.
    pub fn save(mut self, file: &Path) -> Result<()> {
        // Stop it first: QEMU misses some of the changes made by a running machine (docs/field-notes.md).
        self.qmp.execute("stop", json!({}))?;
        let uri = format!("exec:cat > {}", quoted(&file.to_string_lossy()));
        self.qmp.execute("migrate", json!({ "uri": uri }))?;
        let deadline = Instant::now() + BOOT;
        loop {
            let status = self.qmp.execute("query-migrate", json!({}))?;
            match status["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(Error::new(format!("saving {}: {status}", file.display())));
                }
                _ if Instant::now() > deadline => {
                    return Err(Error::new(format!("saving {}: QEMU doesn't end it", file.display())));
                }
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Returns it, if it takes a command now.
    pub fn if_usable(mut self) -> Option<Self> {
        (self.is_idle && !self.machine.has_ended()).then_some(self)
    }

    /// Returns the folder shared with the control domain, where it is [`SHARED`].
    pub fn shared(&self) -> PathBuf {
        self.folder.path().join(TAG)
    }

    /// Runs a command in the control domain's shell, and passes on each line of output.
    ///
    /// # Errors
    ///
    /// If the control domain is gone.
    pub fn run(
        &mut self,
        command: &str,
        deadline: Option<Duration>,
        show: &mut dyn FnMut(Output<'_>),
    ) -> Result<Finish> {
        if command.contains('\n') {
            return Err(Error::new("a command for the lab is one line"));
        }
        self.is_idle = false;
        self.agent.send(&format!("{command}\n"))?;
        match self.listen(deadline.map(|after| Instant::now() + after), show)? {
            Some(Message::End(status)) => {
                self.is_idle = true;
                Ok(Finish::Exited(status))
            }
            Some(other) => Err(Error::new(format!("the lab's control domain has started anew: {other:?}"))),
            None => Ok(Finish::Deadline),
        }
    }

    /// As [`run`](Self::run), and meanwhile passes xtask's own input on to the console of Linux, `/dev/hvc0`.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_with_input(
        &mut self,
        command: &str,
        deadline: Option<Duration>,
        show: &mut dyn FnMut(Output<'_>),
    ) -> Result<Finish> {
        self.is_typing = true;
        let finish = self.run(command, deadline, show);
        self.is_typing = false;
        finish
    }

    /// Passes some of xtask's input on. At its end, stops.
    fn pass_input(&mut self) -> Result<()> {
        // Xen keeps at most 128 bytes until Linux reads them.
        let mut bytes = [0; 64];
        // SAFETY: the call writes at most as many bytes as the array has.
        let count = unsafe { libc::read(libc::STDIN_FILENO, bytes.as_mut_ptr().cast(), bytes.len()) };
        match usize::try_from(count) {
            Ok(count) if count > 0 => {
                let failed = |error| Error::new(format!("the lab's machine: {error}"));
                self.keyboard.write_all(&bytes[..count]).map_err(failed)?;
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => self.is_typing = false,
        }
        Ok(())
    }

    /// Runs a command without interest in its output.
    ///
    /// # Errors
    ///
    /// If it fails, or the control domain is gone; the text has its output.
    pub fn expect(&mut self, command: &str) -> Result<()> {
        self.output(command).map(drop)
    }

    /// Runs a command, and returns its output.
    ///
    /// # Errors
    ///
    /// If it fails, or the control domain is gone; the text has its output.
    pub fn output(&mut self, command: &str) -> Result<String> {
        let mut text = String::new();
        let finish = self.run(command, Some(BOOT), &mut |output| {
            if let Output::Command(line) = output {
                text.push_str(line);
                text.push('\n');
            }
        })?;
        if finish == Finish::Exited(0) {
            return Ok(text);
        }
        Err(Error::new(format!("in the lab, {command}: {finish:?}\n{}", text.trim_end())))
    }

    /// Passes on the console's lines for as long as they come, at most for this time.
    ///
    /// # Errors
    ///
    /// If the control domain is gone.
    pub fn drain(&mut self, within: Duration, mut is_last: impl FnMut(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut found = false;
        while !found && Instant::now() < deadline {
            wait(&[self.console.file()], deadline.saturating_duration_since(Instant::now()))?;
            self.console.read(|line| found |= is_last(line))?;
        }
        Ok(())
    }

    /// Reads both streams until the agent's next message, or until the deadline.
    fn listen(
        &mut self,
        deadline: Option<Instant>,
        show: &mut dyn FnMut(Output<'_>),
    ) -> Result<Option<Message>> {
        loop {
            let timeout = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(1),
            };
            if deadline.is_some() && timeout.is_zero() {
                return Ok(None);
            }
            let mut files = vec![self.console.file(), self.agent.file()];
            if self.is_typing {
                files.push(libc::STDIN_FILENO);
            }
            if wait(&files, timeout)?.contains(&libc::STDIN_FILENO) {
                self.pass_input()?;
            }
            self.console.read(|line| show(Output::Console(line)))?;
            let mut message = None;
            self.agent.read(|line| match Message::read(line) {
                Some(read) => message = Some(read),
                None => show(Output::Command(line)),
            })?;
            if message.is_some() {
                // The machine printed these lines before the message, so they are here by now.
                self.console.read(|line| show(Output::Console(line)))?;
                return Ok(message);
            }
        }
    }
}

/// A message of the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Message {
    /// It takes commands.
    Up,
    /// It can't.
    Failed,
    /// A command ended, with this status.
    End(u8),
}

impl Message {
    fn read(line: &str) -> Option<Self> {
        let text = line.strip_prefix("##lab ")?;
        match text.split_once(' ').unwrap_or((text, "")) {
            ("up", _) => Some(Self::Up),
            ("failed", _) => Some(Self::Failed),
            ("end", status) => status.parse().ok().map(Self::End),
            _ => None,
        }
    }
}

/// Connects to a socket that QEMU is about to open.
fn connect(path: &Path, machine: &mut Guarded) -> Result<UnixStream> {
    let deadline = Instant::now() + START;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(_) if machine.has_ended() => {
                return Err(Error::new("QEMU ended at its start; can it share folders (virtfs)?"));
            }
            Err(error) if Instant::now() > deadline => return Err(Error::io("connecting to", path, &error)),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn messages_are_told_from_output() {
        assert_eq!(Message::read("##lab up"), Some(Message::Up));
        assert_eq!(Message::read("##lab failed xenstored"), Some(Message::Failed));
        assert_eq!(Message::read("##lab end 139"), Some(Message::End(139)));
        for other in ["lab end 0", "##lab end", "##lab end 256", "##lab ends 1", " ##lab up"] {
            assert_eq!(Message::read(other), None, "{other}");
        }
    }
}
