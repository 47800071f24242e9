//! Guests in the lab. Each is one line of a table: a program, the shape of its domain, and the expected end. After
//! each, nothing may be left of it.

mod guests;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use guests::{GUESTS, Guest};

use super::report::{Entry, Verdict};
use super::{Case, NotPassed, Session, commands, table};
use crate::boot::{Boot, Line};
use crate::build;
use crate::error::Result;
use crate::guest::Program;
use crate::lab::{Census, Domains, Shape, grants_in_use};
use crate::machine::Rig;
use crate::setup::Choice;
use crate::setup::provision::{self, Effort, Set};

/// Runs the table of cases in domains, and then each guest. If the packages can't be had, one test is skipped.
pub fn run(session: &mut Session<'_>) {
    let is_listed = session.listed.is_some();
    let selects = |name: &str| session.arguments.selects(name);
    let is_wanted = session.wants_table()
        || GUESTS.iter().any(|guest| selects(&name(guest)))
        || selects(TYPED)
        || commands::any(Rig::Lab, selects);
    if !is_listed && !is_wanted {
        return;
    }
    if !is_listed && let Err(error) = provision::provide(Set::Lab, Effort::Quick) {
        let (rig, name, duration) = (Rig::Lab.to_string(), "lab::packages".to_owned(), Duration::ZERO);
        let detail = error.to_string().lines().next().unwrap_or_default().to_owned();
        return session.report.add(Entry { rig, name, verdict: Verdict::Skip, detail, duration }, &[]);
    }
    table::run(session, Rig::Lab);
    commands::run(session, Rig::Lab);
    let choice = &session.arguments.choice;
    session.case(Rig::Lab, TYPED, || typed(choice));
    for guest in GUESTS {
        if session.wants(Rig::Lab, &name(guest)) {
            let ran = run_one(session, guest);
            session.set_up(Rig::Lab, &name(guest), ran);
        }
    }
}

const TYPED: &str = "lab::typed_in_the_terminal";

fn name(guest: &Guest) -> String {
    format!("lab::{}", guest.name)
}

fn run_one(session: &mut Session<'_>, guest: &Guest) -> Result<()> {
    let image = match guest.program.strip_prefix("tests/") {
        Some(name) => session.image(name, true)?,
        None => build::build(&Program::Example(guest.program.to_owned()), true)?,
    };
    let shape = Shape { vcpus: guest.vcpus, memory: guest.memory, more: guest.more.to_owned() };
    let domains = Domains {
        image: &image,
        line: guest.line,
        module: None,
        shape: &shape,
        count: guest.count,
        takes_input: false,
    };
    let report = session.report;
    let dom0 = session.lab()?;
    let before = Census::take(dom0)?;
    let mut shown = Vec::new();
    dom0.expect(guest.around.0)?;
    let boot = domains.run_and_keep(dom0, Some(Duration::from_secs(guest.seconds)), &mut |line| {
        if let Line::Guest(text) | Line::Second { text, .. } = line {
            shown.push(text.to_owned());
        }
    })?;
    dom0.expect(guest.around.1)?;
    let grants = grants_in_use(dom0)?;
    let consoles = if guest.has_console { domains.consoles(dom0)? } else { Vec::new() };
    domains.destroy(dom0)?;
    let left = Census::take(dom0)?.difference(&before);
    let detail = wrong(guest, &boot, &shown, &grants)
        .or_else(|| missing(&consoles, &shown))
        .or_else(|| left.map(|left| format!("it leaves {left}")));
    let verdict = if detail.is_none() { Verdict::Pass } else { Verdict::Fail };
    let (rig, name, detail) = (Rig::Lab.to_string(), name(guest), detail.unwrap_or_default());
    report.add(Entry { rig, name, verdict, detail, duration: boot.duration }, &boot.log);
    Ok(())
}

/// Returns a line that is in Xen's log, but not on the guest's console.
fn missing(consoles: &[String], shown: &[String]) -> Option<String> {
    // `shown` has the lines of all guests, with addresses resolved.
    let is_there = |text: &String| {
        let is_it = |line: &str| line == text || !line.is_empty() && text.starts_with(&format!("{line}  "));
        consoles.iter().any(|console| console.lines().any(is_it))
    };
    let text = shown.iter().find(|text| !consoles.is_empty() && !is_there(text))?;
    Some(format!("its console lacks the line {text:?}"))
}

/// Returns what is wrong with a guest's end.
fn wrong(guest: &Guest, boot: &Boot, shown: &[String], grants: &[String]) -> Option<String> {
    let said = boot.outcome.to_string();
    if boot.outcome.exit_code() != guest.status {
        return Some(format!("ended with status {}: {said}", boot.outcome.exit_code()));
    }
    if let Some(grant) = grants.first() {
        return Some(format!("its end leaves a grant in use: {grant}"));
    }
    let has = |text: &&&str| said.contains(**text) || shown.iter().any(|line| line.contains(**text));
    guest.shows.iter().find(|text| !has(text)).map(|text| format!("nothing shows {text:?}"))
}

/// Runs the shell as a user does, and types at it through xtask's own input.
fn typed(choice: &Choice) -> Case {
    let mut command = commands::xtask(choice, &["run", "--rig", "lab", "--example", "shell"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error: std::io::Error| NotPassed::fail(error.to_string());
    let mut child = command.spawn().map_err(failed)?;
    let mut input = child.stdin.take().ok_or_else(|| NotPassed::fail("no input"))?;
    input.write_all(b"help\ngrants\nexit\n").map_err(failed)?;
    drop(input);
    let output = child.wait_with_output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let log = text.lines().map(str::to_owned).collect();
    let shows = [
        "> help",
        "grants  events  mem  time  exit",
        "> grants",
        "references",
        "> exit",
        "granite: end: success",
    ];
    match shows.iter().find(|part| !text.contains(**part)) {
        Some(part) => Err(NotPassed::Fail(format!("the output doesn't show {part:?}"), log)),
        None if output.status.success() => Ok(()),
        None => Err(NotPassed::Fail(format!("ended with {}", output.status), log)),
    }
}
