//! The table of cases (tests/guest) in a guest. If a case ends the guest, the next boot continues after this case.

use std::time::{Duration, Instant};

use super::Session;
use super::report::{Entry, Verdict};
use crate::boot::{self, Boot};
use crate::error::{Error, Result};
use crate::guest;
use crate::image::Image;
use crate::lab::{Domains, Shape};
use crate::machine::{Machine, Rig};
use crate::outcome::Outcome;

/// The timeout of one boot with all its cases.
const DEADLINE: Duration = Duration::from_secs(60);
const MEMORY: u32 = 64;
/// The contents of the guest's module.
const MODULE: &str = "contents-of-the-module";

/// Returns the boots of a rig: the minimum number of vCPUs, and options selecting a part of the table. A domain has one
/// grant table, so the cases of version 2 need a boot of their own.
fn boots(rig: Rig) -> &'static [(u32, &'static str)] {
    match rig {
        Rig::Solo => &[(1, ""), (1, " grants=2"), (4, ""), (4, " grants=2")],
        Rig::Pair => &[
            (1, " part=rest"),
            (1, " part=toolstack"),
            (1, " part=link"),
            (1, " part=grant"),
            (1, " part=grant grants=2"),
            (1, " part=ring"),
            (1, " part=store"),
            (1, " part=store_paths"),
            (1, " part=store_hostile"),
            (1, " part=store_front"),
            (1, " part=store_back"),
        ],
        Rig::Direct => &[(1, "")],
        Rig::Lab => &[(1, ""), (1, " grants=2"), (2, ""), (4, ""), (4, " grants=2")],
    }
}

/// Runs the table in a rig.
pub fn run(session: &mut Session<'_>, rig: Rig) {
    if session.wants_table() {
        let ran = run_all(session, rig);
        session.set_up(rig, "the table", ran);
    }
}

fn run_all(session: &mut Session<'_>, rig: Rig) -> Result<()> {
    let asked = session.arguments.smp;
    // If the user asks for as many vCPUs as the last boots have, these would only repeat the first.
    let boots = boots(rig).iter().filter(|&&(vcpus, _)| vcpus == 1 || vcpus > asked);
    boots.into_iter().try_for_each(|&(vcpus, options)| run_with(session, rig, asked.max(vcpus), options))
}

fn run_with(session: &mut Session<'_>, rig: Rig, smp: u32, options: &str) -> Result<()> {
    let image = session.image("guest", true)?;
    let mut machine = Machine { rig, smp, memory: MEMORY, ..Machine::default() };
    let mut line = format!("rig={rig} probe=\"a,b two words\" mem={MEMORY} smp={smp}");
    if matches!(rig, Rig::Solo | Rig::Lab) {
        let module = image.stripped.with_file_name("module");
        guest::write_whole(&module, MODULE.as_bytes())?;
        machine.module = Some(module);
        line.push_str(&format!(" module={MODULE}"));
    }
    follow(session, &image, &machine, &line, options)
}

/// Prints the selected cases of the selected rigs. One boot lists those of all rigs.
///
/// # Errors
///
/// If the guest can't be built or booted.
pub fn list(session: &mut Session<'_>) -> Result<()> {
    let image = session.image("guest", true)?;
    let tools = session.tools()?;
    let machine = Machine { rig: Rig::Direct, memory: MEMORY, ..Machine::default() };
    let boot = boot::boot(&machine, &tools, &image, "list=1", Some(DEADLINE), |_| {})?;
    if boot.outcome != Outcome::Success {
        return Err(Error::new(format!("the guest that lists its cases: {}", boot.outcome)));
    }
    for line in &boot.log {
        let Some((rig, name)) = line.strip_prefix("##test case ").and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let wanted = session.arguments.rigs.iter().any(|own| own.to_string() == rig);
        if wanted && session.arguments.selects(name) {
            say!("{rig:<6} {name}");
        }
    }
    Ok(())
}

/// Boots a table until it is complete. If a case ends the guest, another boot continues after this case.
pub fn follow(
    session: &mut Session<'_>,
    image: &Image,
    machine: &Machine,
    line: &str,
    options: &str,
) -> Result<()> {
    let (rig, smp) = (machine.rig, machine.smp);
    let filter = session.arguments.filter.join(" ").replace('"', "");
    let mut from = 0;
    loop {
        let line = format!("{line}{options} from={from} filter=\"{filter}\"");
        let mut table = Table::new(rig, smp);
        let report = session.report;
        let mut show = |line: boot::Line<'_>| match line {
            boot::Line::Guest(text) => {
                if let Some(entry) = table.read(text) {
                    let log = std::mem::take(&mut table.log);
                    report.add(entry, &log);
                }
            }
            boot::Line::Second { domain, text } => table.log.push(format!("(d{domain}) {text}")),
            boot::Line::Xen(_) => {}
        };
        let boot = if rig == Rig::Lab {
            let shape = Shape { vcpus: smp, memory: machine.memory, more: String::new() };
            let module = machine.module.as_deref();
            let domains = Domains { image, line: &line, module, shape: &shape, count: 1, takes_input: false };
            domains.run(session.lab()?, Some(DEADLINE), &mut show)?
        } else {
            boot::boot(machine, &session.tools()?, image, &line, Some(DEADLINE), show)?
        };
        if session.arguments.repeat.is_none() {
            session.report.say(&format!(
                "        {rig} smp={smp}{options}: ran for {:.2} s",
                boot.duration.as_secs_f64()
            ));
        }
        match table.end(&boot) {
            End::Complete => return Ok(()),
            End::Lost(entry) => {
                session.report.add(entry, &boot.log);
                return Ok(());
            }
            End::Cut { entry, next } => {
                session.report.add(entry, &table.log);
                from = next;
            }
        }
    }
}

/// The progress of a guest's table, as read from its output.
struct Table {
    rig: Rig,
    smp: u32,
    running: Option<(usize, String, Instant)>,
    failed: bool,
    done: bool,
    /// The lines printed by the running case.
    log: Vec<String>,
}

/// The end of a boot.
enum End {
    /// The table is complete.
    Complete,
    /// The guest ended inside a case. The next boot starts at index `next`, after it.
    Cut { entry: Entry, next: usize },
    /// The guest ended outside a case without completing the table, or with the wrong status.
    Lost(Entry),
}

impl Table {
    fn new(rig: Rig, smp: u32) -> Self {
        Self { rig, smp, running: None, failed: false, done: false, log: Vec::new() }
    }

    /// Reads a line of the guest's output. Returns the result of a case if the line ends one.
    fn read(&mut self, text: &str) -> Option<Entry> {
        let Some(rest) = text.strip_prefix("##test ") else {
            self.log.push(text.to_owned());
            return None;
        };
        let mut words = rest.splitn(3, ' ');
        let word = words.next()?;
        if word == "done" {
            self.done = self.running.is_none();
            return None;
        }
        let index: usize = words.next()?.parse().ok()?;
        let text = words.next().unwrap_or_default();
        if word == "run" {
            let before = self.running.replace((index, text.to_owned(), Instant::now()));
            if before.is_none() {
                self.log.clear();
            }
            return before.map(|(_, name, started)| self.unheard(name, started));
        }
        let verdict = match word {
            "pass" => Verdict::Pass,
            "skip" => Verdict::Skip,
            _ => Verdict::Fail,
        };
        self.failed |= verdict == Verdict::Fail;
        let (running, name, started) = self.running.take()?;
        if running != index {
            return Some(self.unheard(name, started));
        }
        Some(self.entry(name, verdict, text.to_owned(), started.elapsed()))
    }

    /// Returns the entry of a case without a verdict: the next case began first, or the verdict named another case. The
    /// case may have printed over its own verdict.
    fn unheard(&self, name: String, started: Instant) -> Entry {
        self.entry(name, Verdict::Crash, "its end was not heard".into(), started.elapsed())
    }

    fn end(&mut self, boot: &Boot) -> End {
        let verdict = if boot.outcome == Outcome::Deadline { Verdict::Timeout } else { Verdict::Crash };
        let detail = boot.outcome.to_string();
        if let Some((index, name, started)) = self.running.take() {
            let entry = self.entry(name, verdict, detail, started.elapsed());
            return End::Cut { entry, next: index + 1 };
        }
        let expected = if self.failed { Outcome::Failure } else { Outcome::Success };
        if self.done && boot.outcome == expected {
            return End::Complete;
        }
        End::Lost(self.entry("the guest around the table".into(), verdict, detail, boot.duration))
    }

    fn entry(&self, mut name: String, verdict: Verdict, detail: String, duration: Duration) -> Entry {
        if self.smp > 1 {
            name.push_str(&format!(" smp={}", self.smp));
        }
        Entry { rig: self.rig.to_string(), name, verdict, detail, duration }
    }
}

#[cfg(test)]
mod tests {
    use super::{Boot, Duration, End, Outcome, Rig, Table, Verdict};

    fn read(lines: &[&str], outcome: Outcome) -> (Vec<(String, Verdict)>, End) {
        let mut table = Table::new(Rig::Solo, 1);
        let entries = lines.iter().filter_map(|line| table.read(line));
        let entries = entries.map(|entry| (entry.name, entry.verdict)).collect();
        let end = table.end(&Boot { outcome, duration: Duration::ZERO, log: Vec::new() });
        (entries, end)
    }

    #[test]
    fn cases_are_counted_and_the_end_must_fit() {
        let lines = [
            "noise",
            "##test run 0 a",
            "text",
            "##test pass 0",
            "##test run 1 b",
            "##test fail 1 x:1: y",
            "##test done",
        ];
        let (entries, end) = read(&lines, Outcome::Failure);
        assert_eq!(entries, [("a".into(), Verdict::Pass), ("b".into(), Verdict::Fail)]);
        assert!(matches!(end, End::Complete));
        assert!(matches!(read(&lines, Outcome::Success).1, End::Lost(_)), "a failure and success");
        assert!(matches!(read(&lines[..4], Outcome::Success).1, End::Lost(_)), "no last word");
        assert!(matches!(read(&[], Outcome::Success).1, End::Lost(_)), "silence is no pass");
    }

    #[test]
    fn a_case_whose_end_is_not_heard_has_crashed() {
        let lines = ["##test run 0 a", "text##test pass 0", "##test run 1 b", "##test pass 2", "##test done"];
        let (entries, end) = read(&lines, Outcome::Success);
        assert_eq!(entries, [("a".into(), Verdict::Crash), ("b".into(), Verdict::Crash)]);
        assert!(matches!(end, End::Complete));
    }

    #[test]
    fn a_case_that_ends_the_guest_is_named_and_stepped_over() {
        let lines = ["##test run 4 a", "##test pass 4", "##test run 5 b", "last words"];
        for (outcome, verdict) in [
            (Outcome::Crash("panic".into()), Verdict::Crash),
            (Outcome::Deadline, Verdict::Timeout),
            (Outcome::Success, Verdict::Crash),
        ] {
            let End::Cut { entry, next } = read(&lines, outcome).1 else { panic!("not cut") };
            assert_eq!((entry.name.as_str(), entry.verdict, next), ("b", verdict, 6));
        }
    }
}
