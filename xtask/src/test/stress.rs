//! The freelist and the grant table under several vCPUs (tests/stress.rs), which tells its counters.

use std::time::Duration;

use super::Session;
use super::report::{Entry, Verdict};
use crate::boot::{self, Line};
use crate::error::Result;
use crate::machine::{Machine, Rig};
use crate::outcome::Outcome;

/// How many vCPUs each boot has.
const VCPUS: [u32; 2] = [2, 4];
/// How long one may take: far longer than it does.
const DEADLINE: Duration = Duration::from_secs(180);

pub fn run(session: &mut Session<'_>) -> Result<()> {
    for smp in VCPUS {
        let name = format!("stress::{smp}_vcpus");
        if !session.selects(&name) {
            continue;
        }
        let image = session.image("stress", true)?;
        let tools = session.tools()?;
        // What it is about is vCPUs that run at the same time.
        let machine = Machine { smp, parallel: true, ..Machine::default() };
        let mut counters = Vec::new();
        let boot = boot::boot(&machine, &tools, &image, "", Some(DEADLINE), |line| {
            if let Line::Guest(text) = line
                && text.starts_with("stress: ")
            {
                counters.push(text.to_owned());
            }
        })?;
        counters.iter().for_each(|text| session.report.say(&format!("        {text}")));
        let (verdict, detail) = match &boot.outcome {
            // Its counters are the second signal: a success without them is none.
            Outcome::Success if counters.len() == 2 => (Verdict::Pass, String::new()),
            Outcome::Deadline => (Verdict::Timeout, boot.outcome.to_string()),
            outcome => (Verdict::Fail, outcome.to_string()),
        };
        let entry = Entry { rig: Rig::Solo.to_string(), name, verdict, detail, duration: boot.duration };
        session.report.add(entry, &boot.log);
    }
    Ok(())
}
