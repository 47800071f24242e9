//! Guests that must die (tests/die.rs), each in a boot of its own: by the right status, and with a report that
//! says what happened.

use std::time::Duration;

use super::Session;
use super::report::{Entry, Verdict};
use crate::boot::{self, Boot};
use crate::error::Result;
use crate::machine::{Machine, Rig};
use crate::outcome::Outcome;

/// One death.
struct Death {
    case: &'static str,
    /// xtask's status for it.
    status: u8,
    /// What the log must show.
    shows: &'static [&'static str],
    /// How long it may take: the hanging one must be ended.
    seconds: u64,
}

const CRASH: u8 = 3;
const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const DEADLINE: u8 = 124;

const DEATHS: &[Death] = &[
    death(
        "panic",
        CRASH,
        &["panic at tests/die.rs", "number is 3", "inner_function (tests/die.rs:", "outer_function"],
    ),
    death("panic-in-panic", CRASH, &["another crash (panic) while reporting the first"]),
    death(
        "null",
        CRASH,
        &["exception 14, page fault (#PF)", "address 0x10: a null pointer", "rip 0", "(tests/die.rs:"],
    ),
    death("unmapped", CRASH, &["error code 0x2, address 0x700000000000: write to a page that isn't mapped"]),
    death("write-to-code", CRASH, &["page fault (#PF)", ": not writable"]),
    death("run-data", CRASH, &["page fault (#PF)", ": not executable"]),
    death(
        "stack-overflow",
        CRASH,
        &["page fault (#PF)", "the boot stack overflowed", "descend (tests/die.rs:"],
    ),
    death("invalid-opcode", CRASH, &["exception 6, invalid opcode (#UD)", "invalid_opcode (tests/die.rs:"]),
    death("double-fault", CRASH, &["exception 8, double fault (#DF)"]),
    death("triple-fault", CRASH, &["case=triple-fault"]),
    death("heap-exhaustion", CRASH, &["memory allocation of 1048576 bytes failed"]),
    death("wrong-exit", FAILURE, &["granite: end: failure 7"]),
    death("open-line", SUCCESS, &["no end of line", "granite: end: success"]),
    Death { case: "hang", status: DEADLINE, shows: &[], seconds: 4 },
];

const fn death(case: &'static str, status: u8, shows: &'static [&'static str]) -> Death {
    Death { case, status, shows, seconds: 30 }
}

pub fn run(session: &mut Session<'_>) -> Result<()> {
    for death in DEATHS {
        let name = format!("die::{}", death.case);
        if !session.selects(&name) {
            continue;
        }
        let image = session.image("die")?;
        let tools = session.tools()?;
        let machine = Machine { smp: session.arguments.smp, ..Machine::default() };
        let line = format!("case={}", death.case);
        let deadline = Some(Duration::from_secs(death.seconds));
        let mut boot = boot::boot(&machine, &tools, &image, &line, deadline, |_| {})?;
        boot.log.push(format!("command line: {line}"));
        let wrong = what_is_wrong(death, &boot);
        let verdict = match (&wrong, &boot.outcome) {
            (None, _) => Verdict::Pass,
            (Some(_), Outcome::Deadline) => Verdict::Timeout,
            (Some(_), _) => Verdict::Fail,
        };
        let (rig, detail) = (machine.rig.to_string(), wrong.unwrap_or_default());
        session.report.add(Entry { rig, name, verdict, detail, duration: boot.duration }, &boot.log);
    }
    Ok(())
}

/// A processor without no-execute pages: the guest must say so in 32-bit code, before there is anything else.
pub fn too_old(session: &mut Session<'_>) -> Result<()> {
    const OLD: Death = Death {
        case: "no-nx",
        status: 2,
        shows: &["this processor lacks long mode or no-execute pages", "granite: end: cannot-start"],
        seconds: 30,
    };
    let name = "boot::processor_without_no_execute".to_owned();
    if !session.selects(&name) {
        return Ok(());
    }
    let image = session.image("die")?;
    let tools = session.tools()?;
    let machine = Machine { rig: Rig::Direct, cpu: "qemu64,-nx", ..Machine::default() };
    let boot = boot::boot(&machine, &tools, &image, "", Some(Duration::from_secs(OLD.seconds)), |_| {})?;
    let wrong = what_is_wrong(&OLD, &boot);
    let verdict = if wrong.is_none() { Verdict::Pass } else { Verdict::Fail };
    let (rig, detail) = (machine.rig.to_string(), wrong.unwrap_or_default());
    session.report.add(Entry { rig, name, verdict, detail, duration: boot.duration }, &boot.log);
    Ok(())
}

fn what_is_wrong(death: &Death, boot: &Boot) -> Option<String> {
    let status = boot.outcome.exit_code();
    if status != death.status {
        return Some(format!("status {status}, expected {}: {}", death.status, boot.outcome));
    }
    let missing = death.shows.iter().find(|text| !boot.log.iter().any(|line| line.contains(*text)));
    missing.map(|text| format!("the log doesn't show \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::{Boot, DEATHS, Duration, Outcome, what_is_wrong};

    #[test]
    fn a_death_of_another_kind_is_a_failure() {
        let panic = &DEATHS[0];
        let boot = |outcome, lines: &[&str]| Boot {
            outcome,
            duration: Duration::ZERO,
            log: lines.iter().map(|&line| line.to_owned()).collect(),
        };
        let crash = || Outcome::Crash("panic".into());
        assert_eq!(what_is_wrong(panic, &boot(crash(), panic.shows)), None);
        assert!(what_is_wrong(panic, &boot(Outcome::Success, panic.shows)).is_some());
        assert!(what_is_wrong(panic, &boot(crash(), &panic.shows[1..])).is_some());
    }
}
