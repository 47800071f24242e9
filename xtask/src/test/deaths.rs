//! The crash tests (tests/die.rs), each in its own boot. The guest must end with the right status, and its report must
//! name the cause.

use std::time::Duration;

use super::Session;
use super::report::{Entry, Verdict};
use crate::boot::{self, Boot};
use crate::error::Result;
use crate::machine::{Machine, Rig};
use crate::outcome::Outcome;

/// One crash test.
struct Death {
    case: &'static str,
    /// The rig to boot it in.
    rig: Rig,
    /// The processor model, if not the usual one.
    cpu: Option<&'static str>,
    /// The minimum number of vCPUs; the session's number applies if it is higher.
    smp: u32,
    /// Whether to build it optimised.
    optimised: bool,
    /// xtask's exit status for it.
    status: u8,
    /// The texts expected in the log, or in xtask's own message about the outcome.
    shows: &'static [&'static str],
    /// The timeout in seconds: xtask must end the hanging guest.
    seconds: u64,
}

const CRASH: u8 = 3;
const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const CANNOT_START: u8 = 2;
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
    death(
        "unmapped-again",
        CRASH,
        &["it was mapped", "address 0x5ffffffff000: read of a page that isn't mapped"],
    ),
    death("write-to-code", CRASH, &["page fault (#PF)", ": not writable"]),
    death("run-data", CRASH, &["page fault (#PF)", ": not executable"]),
    death(
        "stack-overflow",
        CRASH,
        &["page fault (#PF)", "the boot stack overflowed", "descend (tests/die.rs:"],
    ),
    death("invalid-opcode", CRASH, &["exception 6, invalid opcode (#UD)", "invalid_opcode (tests/die.rs:"]),
    death("double-fault", CRASH, &["exception 8, double fault (#DF)"]),
    death("triple-fault", CRASH, &["the guest crashed: a triple fault", "triple_fault (tests/die.rs:"]),
    death(
        "heap-exhaustion",
        CRASH,
        &["memory allocation of 1048576 bytes failed", "exhaust_the_heap (tests/die.rs:"],
    ),
    Death {
        smp: 4,
        ..death("vcpus-end", SUCCESS, &["all but the first have ended", "granite: end: success"])
    },
    death("wrong-exit", FAILURE, &["granite: end: failure 7"]),
    death("open-line", SUCCESS, &["no end of line", "granite: end: success"]),
    death("nmi", CRASH, &["exception 2, non-maskable interrupt"]),
    Death {
        smp: 4,
        ..death("panic-elsewhere", CRASH, &["panic at tests/die.rs", "the panic of vCPU 2", "from 0x"])
    },
    Death { smp: 4, ..death("panic-everywhere", CRASH, &["panic at tests/die.rs", "the panic of vCPU"]) },
    Death {
        smp: 2,
        ..death("stack-overflow-elsewhere", CRASH, &["the vCPU stack overflowed on vCPU 1", "descend"])
    },
    Death { seconds: 4, ..death("hang", DEADLINE, &["here it hangs"]) },
    Death { optimised: false, ..death("panic", CRASH, &["panic at tests/die.rs", "inner_function"]) },
    Death { optimised: false, ..death("stack-overflow", CRASH, &["the boot stack overflowed"]) },
    death("reserved-references", SUCCESS, &["version 2: [", "granite: end: success"]),
    // A domain with half of the memory named by its map.
    Death {
        rig: Rig::Pair,
        ..death(
            "less-memory",
            SUCCESS,
            &["it said: it used 3", "it ended by poweroff", "granite: end: success"],
        )
    },
    // The 32-bit entry code detects this, before the rest of the kernel runs.
    Death {
        rig: Rig::Direct,
        cpu: Some("qemu64,-nx"),
        ..death(
            "processor-without-nx",
            CANNOT_START,
            &["lacks long mode or no-execute pages", "granite: end: cannot-start"],
        )
    },
];

const fn death(case: &'static str, status: u8, shows: &'static [&'static str]) -> Death {
    Death { case, rig: Rig::Solo, cpu: None, smp: 1, optimised: true, status, shows, seconds: 30 }
}

pub fn run(session: &mut Session<'_>, rig: Rig) {
    let ran = run_all(session, rig);
    session.set_up(rig, "the deaths", ran);
}

fn run_all(session: &mut Session<'_>, rig: Rig) -> Result<()> {
    for death in DEATHS.iter().filter(|death| death.rig == rig) {
        let name = format!("die::{}{}", death.case, if death.optimised { "" } else { "_unoptimised" });
        if !session.wants(rig, &name) {
            continue;
        }
        let image = session.image("die", death.optimised)?;
        let tools = session.tools()?;
        let usual = Machine { rig, smp: session.arguments.smp, ..Machine::default() };
        let machine = Machine { cpu: death.cpu.unwrap_or(usual.cpu), smp: usual.smp.max(death.smp), ..usual };
        let line = format!("case={}", death.case);
        let deadline = Some(Duration::from_secs(death.seconds));
        let boot = boot::boot(&machine, &tools, &image, &line, deadline, |_| {})?;
        let wrong = what_is_wrong(death, &boot);
        let verdict = match (&wrong, &boot.outcome) {
            (None, _) => Verdict::Pass,
            (Some(_), Outcome::Deadline) => Verdict::Timeout,
            (Some(_), _) => Verdict::Fail,
        };
        let (rig, detail) = (rig.to_string(), wrong.unwrap_or_default());
        session.report.add(Entry { rig, name, verdict, detail, duration: boot.duration }, &boot.log);
    }
    Ok(())
}

fn what_is_wrong(death: &Death, boot: &Boot) -> Option<String> {
    let status = boot.outcome.exit_code();
    if status != death.status {
        return Some(format!("status {status}, expected {}: {}", death.status, boot.outcome));
    }
    let end = boot.outcome.to_string();
    let is_shown = |text: &str| boot.log.iter().chain([&end]).any(|line| line.contains(text));
    let reports = boot.log.iter().filter(|line| line.contains("granite: panic at")).count();
    if reports > 1 {
        return Some(format!("{reports} reports of panics, where one counts"));
    }
    let missing = death.shows.iter().find(|text| !is_shown(text));
    missing.map(|text| format!("\"{text}\" is not shown"))
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
