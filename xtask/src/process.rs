//! Child processes, none of which outlives xtask.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Kills the child when xtask dies, even if xtask is killed.
#[cfg(target_os = "linux")]
pub fn die_together(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    let parent = std::process::id();
    let set = move || {
        // SAFETY: prctl with these arguments accesses none of our memory.
        let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // If xtask died before the call, the child has another parent and would never get the signal.
        if set != 0 || std::os::unix::process::parent_id() != parent {
            return Err(io::Error::other("xtask is gone"));
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec, and only makes system calls. It takes no lock and, unless it
    // fails, allocates no memory.
    unsafe { command.pre_exec(set) };
}

/// Elsewhere, the kill on drop and the terminal's signals must suffice.
#[cfg(not(target_os = "linux"))]
pub fn die_together(_: &mut Command) {}

/// A child process. Dropping it kills the child and the child's current descendants: the child may be a script.
pub struct Guarded(Child);

impl Guarded {
    /// Takes a child.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Returns the child's output, once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Returns the child's input, once.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    /// Returns whether the child has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        for descendant in descendants(self.0.id()) {
            // SAFETY: sends a signal. The process was a descendant of our child a moment ago.
            unsafe { libc::kill(descendant, libc::SIGKILL) };
        }
        // The child may have ended by itself. Then the kill does no harm, and the wait returns at once.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the descendants of a process, if the system lists them.
pub fn descendants(process: u32) -> Vec<libc::pid_t> {
    let list =
        std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let mut found = Vec::new();
    for child in list.split_whitespace().filter_map(|id| id.parse::<u32>().ok()) {
        found.extend(descendants(child));
        found.extend(libc::pid_t::try_from(child));
    }
    found
}

/// Returns whether a process is running. A zombie, ended but not yet waited for, doesn't count.
pub fn is_alive(id: libc::pid_t) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Returns whether a process runs the same program as this one.
pub fn is_xtask(id: libc::pid_t) -> bool {
    let program =
        |id: &str| std::fs::read_link(format!("/proc/{id}/exe")).ok()?.file_name().map(ToOwned::to_owned);
    let own = program("self");
    own.is_some() && program(&id.to_string()) == own
}

/// How a streamed process ended.
#[derive(Debug)]
pub enum Finish {
    /// It exited by itself.
    Exited(ExitStatus),
    /// It was killed at the deadline.
    Deadline,
    /// It was killed at the request of the reader of its lines.
    Stopped,
}

/// The next step for the process, chosen by the reader of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read the next line.
    Line,
    /// Kill the process.
    Stop,
}

/// Runs a command, passes each line of its output to `line` as it arrives, and kills the command at the deadline.
/// Returns how it ended, and its standard error.
///
/// # Errors
///
/// If it can't be started.
pub fn stream(
    mut command: Command,
    deadline: Option<Duration>,
    mut line: impl FnMut(&str) -> Next,
) -> io::Result<(Finish, String)> {
    die_together(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = Guarded::new(command.spawn()?);
    // Bounded: a fast writer must wait for the reader, not fill memory.
    let (sender, lines) = mpsc::sync_channel(1024);
    if let Some(output) = child.0.stdout.take() {
        thread::spawn(move || send_lines(output, &sender));
    }
    let stderr = child.0.stderr.take().map(|stderr| thread::spawn(move || io::read_to_string(stderr)));

    let finish = loop {
        let received = match deadline {
            // Checked first: even with a timeout of zero, `recv_timeout` returns a line if one is waiting.
            Some(deadline) if started.elapsed() >= deadline => Err(RecvTimeoutError::Timeout),
            Some(deadline) => lines.recv_timeout(deadline.saturating_sub(started.elapsed())),
            None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(text) => {
                if line(&text) == Next::Stop {
                    break Finish::Stopped;
                }
            }
            Err(RecvTimeoutError::Timeout) => break Finish::Deadline,
            Err(RecvTimeoutError::Disconnected) => {
                break end(&mut child.0, deadline.map(|deadline| started + deadline))?;
            }
        }
    };
    drop(child);
    // After a kill, don't wait for standard error: another process may still hold its other end.
    let ended = matches!(finish, Finish::Exited(_));
    let errors = stderr.filter(|_| ended).and_then(|thread| thread.join().ok()).and_then(Result::ok);
    Ok((finish, errors.unwrap_or_default()))
}

/// Waits for a command to end after it has closed its output. It may still run for long.
fn end(child: &mut Child, deadline: Option<Instant>) -> io::Result<Finish> {
    const POLL_INTERVAL: Duration = Duration::from_millis(10);
    let Some(deadline) = deadline else { return Ok(Finish::Exited(child.wait()?)) };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Finish::Exited(status));
        }
        if Instant::now() >= deadline {
            return Ok(Finish::Deadline);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn send_lines(output: ChildStdout, lines: &mpsc::SyncSender<String>) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    while output.read_until(b'\n', &mut bytes).is_ok_and(|count| count != 0) {
        let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
        bytes.clear();
        if lines.send(line).is_err() {
            return; // nobody reads any more
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Finish, Next, stream};
    use std::process::Command;
    use std::time::Duration;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_come_in_order_and_the_status_last() {
        let mut lines = Vec::new();
        let read = |line: &str| {
            lines.push(line.to_owned());
            Next::Line
        };
        let (finish, errors) =
            stream(sh("echo one; echo bad >&2; printf 'two\\r\\nrest'; exit 5"), None, read).unwrap();
        assert_eq!(lines, ["one", "two", "rest"]);
        assert_eq!(errors, "bad\n");
        assert!(matches!(finish, Finish::Exited(status) if status.code() == Some(5)));
    }

    #[test]
    fn a_process_ends_at_its_deadline_or_when_told() {
        let deadline = Some(Duration::from_millis(50));
        let (finish, _) = stream(sh("exec sleep 100"), deadline, |_| Next::Line).unwrap();
        assert!(matches!(finish, Finish::Deadline));
        let (finish, _) = stream(sh("echo x; exec sleep 100"), None, |_| Next::Stop).unwrap();
        assert!(matches!(finish, Finish::Stopped));
    }

    #[test]
    fn a_process_that_closes_its_output_and_goes_on_ends_at_its_deadline() {
        let deadline = Some(Duration::from_millis(50));
        let (finish, _) = stream(sh("exec >&- 2>&-; exec sleep 100"), deadline, |_| Next::Line).unwrap();
        assert!(matches!(finish, Finish::Deadline));
        let deadline = Some(Duration::from_secs(100));
        let (finish, _) = stream(sh("exec >&- 2>&-; sleep 0.1; exit 3"), deadline, |_| Next::Line).unwrap();
        assert!(matches!(finish, Finish::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_flood_of_lines_does_not_move_the_deadline() {
        let deadline = Some(Duration::from_millis(200));
        let (finish, _) = stream(sh("exec yes"), deadline, |_| Next::Line).unwrap();
        assert!(matches!(finish, Finish::Deadline));
    }

    #[test]
    fn a_script_takes_its_children_along() {
        let mut child = 0;
        let note = |line: &str| {
            child = line.parse().unwrap();
            Next::Line
        };
        let deadline = Some(Duration::from_millis(200));
        let (finish, _) = stream(sh("sleep 1000 & echo $!; wait"), deadline, note).unwrap();
        assert!(matches!(finish, Finish::Deadline));
        let ended = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            !super::is_alive(child)
        });
        assert!(ended, "process {child} lives on");
    }
}
