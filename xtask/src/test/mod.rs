//! `cargo xtask test`. Of an application: its own tests. Of Granite: the host's tests, the table of cases in guests, the deaths,
//! xtask's own commands, and an application made of the template.

mod application;
mod checkout;
mod commands;
mod deaths;
mod host;
mod live;
mod mutants;
mod report;
mod stress;
mod table;
mod template;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::arguments::Test;
use crate::build;
use crate::error::{Context, Error, Result};
use crate::guest::Program;
use crate::image::Image;
use crate::machine::Rig;
use crate::paths;
use crate::setup::provision::Effort;
use crate::setup::{self, Tools};

use report::{Entry, Report, Verdict};

/// The end of a case that is a function.
type Case = std::result::Result<(), NotPassed>;

/// Why a case didn't pass.
#[derive(Debug)]
enum NotPassed {
    /// It can't be run here.
    Skip(String),
    /// What was wrong, and what there was to see.
    Fail(String, Vec<String>),
}

impl NotPassed {
    fn fail(why: impl Into<String>) -> Self {
        Self::Fail(why.into(), Vec::new())
    }
}

/// What every group of tests needs.
struct Session<'a> {
    arguments: &'a Test,
    report: Report,
    tools: Option<Tools>,
    images: HashMap<(&'static str, bool), Image>,
}

/// Runs the tests, and gives xtask's status.
///
/// # Errors
///
/// If it doesn't come to testing, or the results can't be written.
pub fn test(arguments: &Test) -> Result<u8> {
    if arguments.repeat.is_some() && arguments.rigs.is_empty() {
        return Err(Error::new("--repeat boots guests, and --rig host has none\nleave one of the two out"));
    }
    if let Some(path) = &arguments.json {
        // What can't be written is better known before than after.
        std::fs::write(path, "").context("writing", path)?;
    }
    let mut session =
        Session { arguments, report: Report::new(arguments.repeat), tools: None, images: HashMap::new() };
    if !paths::is_granite() {
        application::run(&mut session)?;
    } else if mutants::is_asked_for(&arguments.filter) {
        mutants::run_bugs(&mut session);
    } else {
        of_granite(&mut session);
    }
    if let Some(path) = &arguments.json {
        session.report.write_json(path)?;
    }
    Ok(session.report.finish(&arguments.filter))
}

/// Runs the tests of Granite's own.
fn of_granite(session: &mut Session<'_>) {
    let arguments = session.arguments;
    if arguments.host && arguments.repeat.is_none() {
        let ran = host::run(session);
        session.set_up("host", "the host's tests", ran);
        mutants::run(session);
        session.case("host", "check", || commands::expect(&arguments.choice, &["check"], 0, &[]));
    }
    for _ in 0..arguments.repeat.unwrap_or(1) {
        for &rig in &arguments.rigs {
            let ran = table::run(session, rig);
            session.set_up(rig, "the table", ran);
            let ran = deaths::run(session, rig);
            session.set_up(rig, "the deaths", ran);
            commands::run(session, rig);
            if rig == Rig::Solo {
                let ran = stress::run(session);
                session.set_up(rig, "stress", ran);
                live::run(session);
                checkout::run(session);
                template::run(session);
            }
        }
        session.report.round_ends();
    }
}

impl Session<'_> {
    /// Whether a test is asked for.
    fn selects(&self, name: &str) -> bool {
        name.contains(&self.arguments.filter)
    }

    /// Counts what kept a whole group of tests from running as a failure.
    fn set_up(&mut self, rig: impl ToString, group: &str, result: Result<()>) {
        if let Err(error) = result {
            let (rig, name, detail) = (rig.to_string(), group.to_owned(), error.to_string());
            let duration = Duration::ZERO;
            self.report.add(Entry { rig, name, verdict: Verdict::Fail, detail, duration }, &[]);
        }
    }

    /// Runs a case that is a function, if it is asked for.
    fn case(&mut self, rig: impl ToString, name: &str, run: impl FnOnce() -> Case) {
        if !self.selects(name) {
            return;
        }
        let started = Instant::now();
        let (verdict, detail, log) = match run() {
            Ok(()) => (Verdict::Pass, String::new(), Vec::new()),
            Err(NotPassed::Skip(reason)) => (Verdict::Skip, reason, Vec::new()),
            Err(NotPassed::Fail(why, log)) => (Verdict::Fail, why, log),
        };
        let (rig, name, duration) = (rig.to_string(), name.to_owned(), started.elapsed());
        self.report.add(Entry { rig, name, verdict, detail, duration }, &log);
    }

    /// Xen and QEMU.
    fn tools(&mut self) -> Result<Tools> {
        if let Some(tools) = &self.tools {
            return Ok(tools.clone());
        }
        let needs_xen = self.arguments.rigs.iter().any(|rig| rig.has_xen());
        let tools = setup::tools(&self.arguments.choice, needs_xen, Effort::Quick)?;
        Ok(self.tools.insert(tools).clone())
    }

    /// A test image, built once.
    fn image(&mut self, name: &'static str, optimised: bool) -> Result<Image> {
        if let Some(image) = self.images.get(&(name, optimised)) {
            return Ok(image.clone());
        }
        let image = build::build(&Program::Test(name.to_owned()), optimised)?;
        Ok(self.images.entry((name, optimised)).or_insert(image).clone())
    }
}
