//! One boot: runs QEMU, reads its output and determines the outcome.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::machine::{self, Machine, Rig};
use crate::outcome::Outcome;
use crate::process::{self, Finish, Next};
use crate::setup::Tools;
use crate::symbols::{self, Symbols};

/// The result of a boot.
#[derive(Debug)]
pub struct Boot {
    /// How it ended.
    pub outcome: Outcome,
    /// How long QEMU ran.
    pub duration: Duration,
    /// Every line of output, with addresses resolved to symbols.
    pub log: Vec<String>,
}

/// A line of output, and its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Printed by Xen.
    Xen(&'a str),
    /// Printed by the guest.
    Guest(&'a str),
    /// Printed by a second domain, and prefixed by Xen with a mark.
    Second {
        /// The domain's number.
        domain: &'a str,
        /// The line without the mark.
        text: &'a str,
    },
}

impl<'a> Line<'a> {
    /// Tells the writer by the line's beginning.
    pub fn of(text: &'a str) -> Self {
        if text.starts_with("(XEN)") {
            Self::Xen(text)
        } else if let Some((mark, text)) = second_domain(text) {
            let domain = mark.trim_start_matches("(d").split(')').next().unwrap_or_default();
            Self::Second { domain, text }
        } else {
            Self::Guest(text)
        }
    }
}

/// Boots an image and passes each line to `show`.
///
/// # Errors
///
/// If the command line can't be made, or QEMU can't be started. Everything after the start is an [`Outcome`].
pub fn boot(
    machine: &Machine,
    tools: &Tools,
    image: &Image,
    command_line: &str,
    deadline: Option<Duration>,
    mut show: impl FnMut(Line<'_>),
) -> Result<Boot> {
    let command = machine.command(tools, &image.stripped, command_line)?;
    if machine.verbose {
        say!("{}", machine::printable(&command, &tools.qemu));
    }
    let mut symbols = None;
    let mut log = Vec::new();
    let mut last_line = None;
    let mut xen_gave_up = None;
    let started = Instant::now();
    let (finish, errors) = process::stream(command, deadline, |text| {
        let (mark, own) = second_domain(text).filter(|_| machine.rig == Rig::Pair).unwrap_or(("", text));
        let text = if symbols::crash_address(own).is_some() {
            let symbols = symbols.get_or_insert_with(|| Symbols::load(&image.path));
            let explained = symbols.as_ref().map(|symbols| symbols.explain(own));
            format!("{mark}{}", explained.as_deref().unwrap_or(own))
        } else {
            text.to_owned()
        };
        show(Line::of(&text));
        if let Some(end) = text.strip_prefix("granite: end: ") {
            last_line = Some(end.to_owned());
        }
        xen_gave_up = xen_gave_up.take().or_else(|| why_xen_gave_up(&text, &log));
        let has_halted =
            machine.timed_by_xen && text.starts_with("(XEN)") && text.contains("Hardware Dom0 halted");
        log.push(text);
        if xen_gave_up.is_some() || has_halted { Next::Stop } else { Next::Line }
    })
    .map_err(|error| Error::new(format!("cannot run {}: {error}", tools.qemu)))?;
    let outcome = match finish {
        Finish::Exited(status) => end(status, &log, last_line.as_deref(), &errors),
        Finish::Deadline => Outcome::Deadline,
        // Without a reason from Xen, it was stopped because the guest halted.
        Finish::Stopped => xen_gave_up.map_or(Outcome::Success, Outcome::Crash),
    };
    Ok(Boot { outcome, duration: started.elapsed(), log })
}

/// Splits a line printed by a second domain into Xen's mark and the text: `(d1) [    1.089967] text`. In `pair`, the
/// second domain runs the same image.
fn second_domain(text: &str) -> Option<(&str, &str)> {
    let digits = text.strip_prefix("(d")?.split_once(')')?.0;
    let (_, own) = text.split_once("] ").filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
    Some((&text[..text.len() - own.len()], own))
}

/// Returns the outcome for a guest after QEMU has exited.
fn end(status: ExitStatus, log: &[String], last_line: Option<&str>, errors: &str) -> Outcome {
    // The first domain reports a second domain's triple fault.
    let reset = status.success().then(|| triple_fault(log)).flatten();
    reset.unwrap_or_else(|| Outcome::read(status, last_line, errors))
}

/// Finds a triple fault in the log. After one, Xen dumps the guest's state; if the guest is the first domain, Xen also
/// resets the machine at once.
fn triple_fault(log: &[String]) -> Option<Outcome> {
    let xens = |part: &'static str| {
        log.iter().filter_map(move |line| line.strip_prefix("(XEN)")?.split_once(part).map(|parts| parts.1))
    };
    xens("Triple fault").next()?;
    // Xen prints the segment with the address, and so identifies the code's owner.
    Some(Outcome::TripleFault(xens("RIP:").next().map(|at| at.trim().to_owned())))
}

/// Returns the reason if Xen is about to give up: it would wait five seconds and then reset the machine.
fn why_xen_gave_up(text: &str, before: &[String]) -> Option<String> {
    let said = text.strip_prefix("(XEN)")?;
    if said.contains("Hardware Dom0 crashed") {
        return Some("the domain reported a crash to Xen, without a message".into());
    }
    if !said.contains("Reboot in five seconds") {
        return None;
    }
    let panic = before.iter().rposition(|line| line.contains("Panic on CPU"));
    let reason = panic.and_then(|at| before.get(at + 1)).and_then(|line| line.split("] ").last());
    Some(format!("Xen itself panicked: {}", reason.unwrap_or("it does not say why")))
}

#[cfg(test)]
mod tests {
    use super::{Line, end, second_domain, triple_fault, why_xen_gave_up};
    use crate::outcome::{Outcome, Wrong};
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn lines_are_told_apart() {
        assert_eq!(Line::of("(XEN) [    0.1] text"), Line::Xen("(XEN) [    0.1] text"));
        assert_eq!(Line::of("hello (XEN)"), Line::Guest("hello (XEN)"));
        assert_eq!(Line::of("(d12) [    1.0] hello"), Line::Second { domain: "12", text: "hello" });
    }

    #[test]
    fn a_second_domain_is_told_by_its_mark() {
        let text = "(d12) [    1.089967]   from 0x201000";
        assert_eq!(second_domain(text), Some(("(d12) [    1.089967] ", "  from 0x201000")));
        for other in ["(XEN) [ 1.0] text", "(d) [1] x", "(dx) [1] x", "(d1) text", "text"] {
            assert_eq!(second_domain(other).filter(|_| other != "(d) [1] x"), None, "{other}");
        }
    }

    #[test]
    fn a_triple_fault_is_what_xen_says_and_nobody_else() {
        let dump = [
            "(XEN) [    2.549985] d0v0 Triple fault - invoking HVM shutdown action 1",
            "(XEN) [    2.551227] RIP:    0008:[<0000000000201693>] handled (benches/events.rs:24)",
        ]
        .map(String::from);
        let at = "0008:[<0000000000201693>] handled (benches/events.rs:24)".to_owned();
        assert_eq!(triple_fault(&dump), Some(Outcome::TripleFault(Some(at))));
        assert_eq!(triple_fault(&dump[..1]), Some(Outcome::TripleFault(None)));
        assert_eq!(triple_fault(&dump[1..]), None);
        let guests = dump.clone().map(|line| line.replacen("(XEN)", "guest:", 1));
        assert_eq!(triple_fault(&guests), None, "anybody can print that");
        let ended = |code: i32, last| end(ExitStatus::from_raw(code << 8), &dump, last, "");
        assert!(matches!(ended(0, None), Outcome::TripleFault(Some(_))));
        let childs = ended(0x23, Some("failure 102"));
        assert_eq!(childs, Outcome::Child(Wrong::Crashed), "the first domain tells of the second's");
    }

    #[test]
    fn xens_last_words_are_understood_and_only_xens() {
        let crash = "(XEN) [ 1.0] Hardware Dom0 crashed: rebooting machine in 5 seconds.";
        assert!(why_xen_gave_up(crash, &[]).is_some());
        assert!(why_xen_gave_up(&crash[6..], &[]).is_none());
        let before =
            ["(XEN) [ 1.0] Panic on CPU 0:", "(XEN) [ 1.0] Could not construct d0"].map(String::from);
        let why = why_xen_gave_up("(XEN) [ 1.0] Reboot in five seconds...", &before).unwrap();
        assert_eq!(why, "Xen itself panicked: Could not construct d0");
    }
}
