//! `cargo xtask test`. For an application: its own tests. For Granite: the host's tests, the table of cases in guests,
//! the crash tests, xtask's own commands, and an application made from the template.

mod application;
mod checkout;
mod commands;
mod deaths;
mod host;
mod lab;
mod list;
mod live;
mod mutants;
mod names;
mod readme;
mod report;
mod stress;
mod table;
mod template;
mod timing;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::arguments::Test;
use crate::build;
use crate::error::{Context, Error, Result};
use crate::guest::Program;
use crate::image::Image;
use crate::lab::Dom0;
use crate::machine::Rig;
use crate::paths;
use crate::setup::provision::Effort;
use crate::setup::{self, Tools};

use report::{Entry, Report, Verdict};
use timing::Timing;

/// The result of a case written as a function.
type Case = std::result::Result<(), NotPassed>;

/// Why a case didn't pass.
#[derive(Debug)]
enum NotPassed {
    /// It can't run here; the text is the reason.
    Skip(String),
    /// The reason, and the output.
    Fail(String, Vec<String>),
}

impl NotPassed {
    fn fail(why: impl Into<String>) -> Self {
        Self::Fail(why.into(), Vec::new())
    }
}

/// The arguments and results shared by the tests, with the tools and images prepared so far.
struct Session<'a> {
    arguments: &'a Test,
    report: &'a Report,
    tools: Option<Tools>,
    lab: Option<Dom0>,
    images: HashMap<(&'static str, bool), Image>,
    /// The names of the cases, if they are listed instead of run.
    listed: Option<Vec<String>>,
}

/// A group of tests. Groups can run at the same time.
type Group = fn(&mut Session<'_>);

/// The maximum number of groups at a time: more would need the memory of more guests.
const WORKERS: usize = 2;

/// Runs the tests, and returns xtask's status.
///
/// # Errors
///
/// If the filter matches no test, two options contradict each other, or the results can't be written.
pub fn test(arguments: &Test) -> Result<u8> {
    if arguments.repeat.is_some() && arguments.rigs.is_empty() {
        return Err(Error::new("--repeat boots guests, and --rig host has none\nleave one of the two out"));
    }
    if arguments.list {
        return list::list(arguments);
    }
    list::check_filter(arguments)?;
    if let Some(path) = &arguments.json {
        // Before the tests, to find out early if the file isn't writable.
        std::fs::write(path, "").context("writing", path)?;
    }
    let report = Report::new(arguments.repeat);
    let started = Instant::now();
    let timing = Timing::of(arguments);
    if let Some(timing) = &timing {
        say!("{}", timing.forecast());
    }
    if !paths::is_granite() {
        application::run(&mut Session::new(arguments, &report))?;
    } else if mutants::is_asked_for(&arguments.filter) {
        mutants::run_bugs(&mut Session::new(arguments, &report));
    } else {
        of_granite(arguments, &report);
    }
    if let Some(path) = &arguments.json {
        report.write_json(path)?;
    }
    let status = report.finish(&arguments.filter.join(" "));
    if let Some(timing) = timing.filter(|_| status == 0) {
        timing.remember(started.elapsed());
    }
    Ok(status)
}

/// Runs Granite's own tests: groups at the same time, or one after another with `--repeat`.
fn of_granite(arguments: &Test, report: &Report) {
    if let Some(rounds) = arguments.repeat {
        let mut session = Session::new(arguments, report);
        for _ in 0..rounds {
            guest_groups(arguments).for_each(|group| group(&mut session));
            report.round_ends();
        }
        return;
    }
    let groups: Vec<_> = host_groups(arguments).chain(guest_groups(arguments)).collect();
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, |processors| processors.get().min(WORKERS));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut session = Session::new(arguments, report);
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    group(&mut session);
                }
            });
        }
    });
}

/// Returns the groups without a guest.
fn host_groups(arguments: &Test) -> impl Iterator<Item = Group> {
    let all: &[Group] = match (arguments.host, arguments.quick) {
        (false, _) => &[],
        (true, true) => &[host::run],
        (true, false) => &[host::run, mutants::run, host::run_models, host::run_optimised, check],
    };
    all.iter().copied()
}

fn check(session: &mut Session<'_>) {
    let choice = &session.arguments.choice;
    session.case("host", "check", || commands::expect(choice, &["check"], 0, &[]));
}

/// Returns the groups with guests, in the order of the rigs.
fn guest_groups(arguments: &Test) -> impl Iterator<Item = Group> {
    arguments.rigs.iter().flat_map(|rig| {
        let all: &[Group] = match (rig, arguments.quick) {
            (Rig::Solo, true) => &[|session| table::run(session, Rig::Solo)],
            (Rig::Solo, false) => &[
                template::run,
                |session| table::run(session, Rig::Solo),
                |session| deaths::run(session, Rig::Solo),
                |session| commands::run(session, Rig::Solo),
                stress::run,
                live::run,
                checkout::run,
            ],
            (Rig::Pair, true) => &[|session| table::run(session, Rig::Pair)],
            (Rig::Pair, false) => &[
                |session| table::run(session, Rig::Pair),
                |session| deaths::run(session, Rig::Pair),
                |session| commands::run(session, Rig::Pair),
            ],
            (Rig::Lab, true) => &[],
            (Rig::Lab, false) => &[lab::run],
            (Rig::Direct, true) => &[|session| table::run(session, Rig::Direct)],
            (Rig::Direct, false) => &[
                |session| table::run(session, Rig::Direct),
                |session| deaths::run(session, Rig::Direct),
                |session| commands::run(session, Rig::Direct),
            ],
        };
        all.iter().copied()
    })
}

impl<'a> Session<'a> {
    fn new(arguments: &'a Test, report: &'a Report) -> Self {
        Self { arguments, report, tools: None, lab: None, images: HashMap::new(), listed: None }
    }

    /// Returns whether to run a case now. If the cases are only listed, records a selected one and returns false.
    fn wants(&mut self, rig: impl ToString, name: &str) -> bool {
        let selected = self.arguments.selects(name);
        match &mut self.listed {
            Some(listed) => {
                if selected {
                    listed.push(format!("{:<6} {name}", rig.to_string()));
                }
                false
            }
            None => selected,
        }
    }

    /// Returns whether to run the table of cases in guests.
    fn wants_table(&self) -> bool {
        self.listed.is_none() && list::suites(self.arguments).iter().any(|suite| suite.name == "guest")
    }

    /// Reports a failure if a group couldn't run.
    fn set_up(&self, rig: impl ToString, group: &str, result: Result<()>) {
        if let Err(error) = result {
            let (rig, name, detail) = (rig.to_string(), group.to_owned(), error.to_string());
            let duration = Duration::ZERO;
            self.report.add(Entry { rig, name, verdict: Verdict::Fail, detail, duration }, &[]);
        }
    }

    /// Runs a case written as a function, if it is selected.
    fn case(&mut self, rig: impl ToString, name: &str, run: impl FnOnce() -> Case) {
        let rig = rig.to_string();
        if !self.wants(&rig, name) {
            return;
        }
        let started = Instant::now();
        let (verdict, detail, log) = match run() {
            Ok(()) => (Verdict::Pass, String::new(), Vec::new()),
            Err(NotPassed::Skip(reason)) => (Verdict::Skip, reason, Vec::new()),
            Err(NotPassed::Fail(why, log)) => (Verdict::Fail, why, log),
        };
        let (name, duration) = (name.to_owned(), started.elapsed());
        self.report.add(Entry { rig, name, verdict, detail, duration }, &log);
    }

    /// Returns Xen and QEMU, found once.
    fn tools(&mut self) -> Result<Tools> {
        if let Some(tools) = &self.tools {
            return Ok(tools.clone());
        }
        let needs_xen = self.arguments.rigs.iter().any(|rig| rig.has_xen());
        let tools = setup::tools(&self.arguments.choice, needs_xen, Effort::Quick)?;
        Ok(self.tools.insert(tools).clone())
    }

    /// Returns the lab's control domain, started once. If it has ended, it is started again.
    fn lab(&mut self) -> Result<&mut Dom0> {
        let dom0 = match self.lab.take().and_then(Dom0::if_usable) {
            Some(dom0) => dom0,
            None => crate::lab::open(&self.arguments.choice)?,
        };
        Ok(self.lab.insert(dom0))
    }

    /// Returns a test image, built once.
    fn image(&mut self, name: &'static str, optimised: bool) -> Result<Image> {
        if let Some(image) = self.images.get(&(name, optimised)) {
            return Ok(image.clone());
        }
        let image = build::build(&Program::Test(name.to_owned()), optimised)?;
        Ok(self.images.entry((name, optimised)).or_insert(image).clone())
    }
}
