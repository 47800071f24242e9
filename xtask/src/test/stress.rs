//! The freelist and the grant table under several vCPUs: boots tests/stress.rs and prints its counters.

use std::time::Duration;

use super::Session;
use super::report::{Entry, Verdict};
use crate::boot::{self, Line};
use crate::error::Result;
use crate::machine::{Machine, Rig};
use crate::outcome::Outcome;

/// The boots: the number of vCPUs, and whether they run in parallel or in turns. The test is about the parallel boots.
/// But in these, QEMU now and then loses the state of vCPU 0 (an FXRSTOR in Xen is enough: docs/field-notes.md).
/// The guest then ends in a triple fault. So a parallel boot is repeated after a triple fault, and after no other
/// failure. A boot in turns is never repeated.
const BOOTS: [(u32, bool); 4] = [(2, false), (2, true), (4, false), (4, true)];
/// The timeout of a boot, far longer than it needs.
const DEADLINE: Duration = Duration::from_secs(180);
/// The maximum number of attempts if QEMU keeps losing a boot.
const ATTEMPTS: u32 = 3;

pub fn run(session: &mut Session<'_>) {
    let ran = run_all(session);
    session.set_up(Rig::Solo, "stress", ran);
}

fn run_all(session: &mut Session<'_>) -> Result<()> {
    for (smp, parallel) in BOOTS {
        let name = format!("stress::{smp}_vcpus_{}", if parallel { "at_once" } else { "in_turns" });
        if !session.wants(Rig::Solo, &name) {
            continue;
        }
        let image = session.image("stress", true)?;
        let tools = session.tools()?;
        let machine = Machine { smp, parallel, ..Machine::default() };
        let (mut counters, mut attempt) = (Vec::new(), 1);
        let boot = loop {
            counters.clear();
            let boot = boot::boot(&machine, &tools, &image, "", Some(DEADLINE), |line| {
                if let Line::Guest(text) = line
                    && text.starts_with("stress: ")
                {
                    counters.push(text.to_owned());
                }
            })?;
            let lost = parallel && matches!(boot.outcome, Outcome::TripleFault(_));
            if !lost || attempt == ATTEMPTS {
                break boot;
            }
            session.report.say(&format!("        {name}, attempt {attempt} of {ATTEMPTS}: {}", boot.outcome));
            attempt += 1;
        };
        counters.iter().for_each(|text| session.report.say(&format!("        {text}")));
        let (verdict, detail) = match &boot.outcome {
            // Success also requires both lines of counters.
            Outcome::Success if counters.len() == 2 => (Verdict::Pass, String::new()),
            Outcome::Deadline => (Verdict::Timeout, boot.outcome.to_string()),
            outcome => (Verdict::Fail, outcome.to_string()),
        };
        let entry = Entry { rig: Rig::Solo.to_string(), name, verdict, detail, duration: boot.duration };
        session.report.add(entry, &boot.log);
    }
    Ok(())
}
