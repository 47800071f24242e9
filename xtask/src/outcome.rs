//! The outcome of a boot, and xtask's exit status.

use std::fmt;
use std::process::ExitStatus;

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest reported success, on the console and through QEMU's status.
    Success,
    /// The guest's application returned a failure.
    Failure,
    /// The guest reported a problem with a domain started by it.
    Child(Wrong),
    /// The guest found no Xen.
    NoXen,
    /// The guest could not start on this machine.
    CannotStart,
    /// The guest crashed: how.
    Crash(String),
    /// Xen saw a triple fault of the guest, at this address if Xen reported one.
    TripleFault(Option<String>),
    /// The guest was still running at the deadline.
    Deadline,
    /// QEMU itself failed: its error output.
    Qemu(String),
    /// `xl` did not create the domain: what it printed.
    Refused(String),
}

/// A problem with a second domain. The numbers are those in the guest's src/rt/exit.rs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It reported a failure.
    Failed = 101,
    /// It crashed.
    Crashed = 102,
    /// It didn't end, or didn't answer.
    TimedOut = 103,
}

impl Wrong {
    fn of(code: &str) -> Option<Self> {
        let is_it = |wrong: &Self| code.parse() == Ok(*wrong as u8);
        [Self::Failed, Self::Crashed, Self::TimedOut].into_iter().find(is_it)
    }
}

impl Outcome {
    /// Returns xtask's own status.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::CannotStart | Self::Qemu(_) | Self::Refused(_) => 2,
            Self::Crash(_) | Self::TripleFault(_) => 3,
            Self::NoXen => 4,
            Self::Child(Wrong::Failed) => 5,
            Self::Child(Wrong::Crashed) => 6,
            Self::Child(Wrong::TimedOut) => 7,
            Self::Deadline => 124,
        }
    }

    /// Reads QEMU's status and the guest's last line; the two must agree. QEMU's `isa-debug-exit` returns `2c + 1` for
    /// the `c` from `End::debug_exit_code` in the guest's src/rt/exit.rs.
    pub fn read(status: ExitStatus, last_line: Option<&str>, qemu_errors: &str) -> Self {
        let (said, outcome) = match status.code() {
            Some(0x21) => ("success", Self::Success),
            Some(0x23) => ("failure", Self::Failure),
            Some(0x25) => ("panic", Self::Crash("panic".into())),
            Some(0x27) => ("exception", Self::Crash("exception".into())),
            Some(0x29) => ("no-xen", Self::NoXen),
            Some(0x2b) => ("cannot-start", Self::CannotStart),
            // QEMU returns 0 when the machine resets.
            Some(0) => return Self::Crash("the machine was reset, as after a triple fault".into()),
            Some(1) => return Self::Qemu(qemu_errors.trim().to_owned()),
            _ => return Self::Crash(format!("QEMU ended with {status}: {}", qemu_errors.trim())),
        };
        let mut words = last_line.unwrap_or_default().split_whitespace();
        match words.next() {
            Some(word) if word == said => words.next().and_then(Wrong::of).map_or(outcome, Self::Child),
            Some(word) => Self::Crash(format!("the guest's status says {said}, its last line {word}")),
            None => Self::Crash(format!("the guest's status says {said}, but it printed no last line")),
        }
    }

    /// Reads the reason of a domain's shutdown, as Xen has it (`sched.h`), and the domain's last line. The two must
    /// agree: poweroff for success, crash for everything else.
    pub fn of_domain(reason: u32, last_line: Option<&str>) -> Self {
        const POWEROFF: u32 = 0;
        const REBOOT: u32 = 1;
        const CRASH: u32 = 3;
        let mut words = last_line.unwrap_or_default().split_whitespace();
        match (reason, words.next()) {
            (POWEROFF, Some("success")) => Self::Success,
            (CRASH, Some("failure")) => words.next().and_then(Wrong::of).map_or(Self::Failure, Self::Child),
            (CRASH, Some("no-xen")) => Self::NoXen,
            (CRASH, Some("cannot-start")) => Self::CannotStart,
            (CRASH, Some(word @ ("panic" | "exception"))) => Self::Crash(word.to_owned()),
            (CRASH, None) => Self::Crash("the domain crashed without a last line".into()),
            (REBOOT, None) => Self::TripleFault(None),
            (reason, word) => Self::Crash(format!(
                "the domain's shutdown has reason {reason}, its last line is {}",
                word.unwrap_or("missing")
            )),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Failure => f.write_str("the guest reported a failure"),
            Self::Child(Wrong::Failed) => f.write_str("the second domain reported a failure"),
            Self::Child(Wrong::Crashed) => f.write_str("the second domain crashed"),
            Self::Child(Wrong::TimedOut) => f.write_str("the second domain timed out"),
            Self::NoXen => f.write_str("the guest found no Xen"),
            Self::CannotStart => f.write_str("the guest could not start"),
            Self::Crash(how) => write!(f, "the guest crashed: {how}"),
            Self::TripleFault(None) => f.write_str("the guest crashed: a triple fault"),
            Self::TripleFault(Some(at)) => write!(f, "the guest crashed: a triple fault at {at}"),
            Self::Deadline => f.write_str("the guest was still running at the deadline"),
            Self::Qemu(text) => write!(f, "QEMU failed: {text}"),
            Self::Refused(text) => write!(f, "xl did not create the guest:\n{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;
    use granite::rt::{End, ExitCode};
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn read(code: i32, last_line: Option<&str>) -> u8 {
        Outcome::read(ExitStatus::from_raw(code << 8), last_line, "").exit_code()
    }

    #[test]
    fn success_needs_both_signals() {
        assert_eq!(read(33, Some("success")), 0);
        assert_eq!(read(33, None), 3);
        assert_eq!(read(33, Some("failure 1")), 3);
        assert_eq!(read(0, Some("success")), 3, "a reset is never a success");
    }

    #[test]
    fn the_guest_writes_what_is_read_here() {
        let ends = [
            (End::Exit(ExitCode::SUCCESS), 0),
            (End::Exit(ExitCode::FAILURE), 1),
            (End::Exit(ExitCode::CHILD_FAILED), 5),
            (End::Exit(ExitCode::CHILD_CRASHED), 6),
            (End::Exit(ExitCode::CHILD_TIMED_OUT), 7),
            (End::Panic, 3),
            (End::Exception, 3),
            (End::NoXen, 4),
            (End::CannotStart, 2),
        ];
        for (end, status) in ends {
            let code = i32::try_from(end.debug_exit_code()).unwrap();
            assert_eq!(read(2 * code + 1, Some(&end.to_string())), status, "{end}");
        }
    }

    #[test]
    fn every_end_has_its_status() {
        assert_eq!(read(35, Some("failure 7")), 1);
        assert_eq!(read(37, Some("panic")), 3);
        assert_eq!(read(39, Some("exception")), 3);
        assert_eq!(read(41, Some("no-xen")), 4);
        assert_eq!(read(43, Some("cannot-start")), 2);
        assert_eq!(read(1, None), 2);
        assert_eq!(Outcome::read(ExitStatus::from_raw(9), None, "").exit_code(), 3, "killed by a signal");
    }
}
