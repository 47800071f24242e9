//! Guests in the lab. Each is one line of a table: a program, the shape of its domain, and the expected end. After
//! each, nothing may be left of it.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

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

/// One run.
struct Guest {
    name: &'static str,
    /// An example, or a program of `tests/` with `tests/` before its name.
    program: &'static str,
    line: &'static str,
    vcpus: u32,
    memory: u32,
    /// Further lines of the configuration.
    more: &'static str,
    count: u32,
    /// xtask's exit status for it.
    status: u8,
    /// The texts expected in the log, or in xtask's own message about the outcome.
    shows: &'static [&'static str],
    /// The timeout in seconds.
    seconds: u64,
    /// Whether its console shows what it prints.
    has_console: bool,
    /// Commands in the control domain, before it is created and after its end.
    around: (&'static str, &'static str),
}

const fn guest(
    name: &'static str,
    program: &'static str,
    line: &'static str,
    status: u8,
    shows: &'static [&'static str],
) -> Guest {
    Guest {
        name,
        program,
        line,
        vcpus: 1,
        memory: 64,
        more: "",
        count: 1,
        status,
        shows,
        seconds: 60,
        has_console: true,
        around: ("true", "true"),
    }
}

macro_rules! ten {
    ($text:expr) => {
        concat!($text, $text, $text, $text, $text, $text, $text, $text, $text, $text)
    };
}

/// A command line with its last option after the first 900 bytes.
const LONG: &str = concat!(ten!(ten!("log=info ")), "case=wrong-exit");

const SUCCESS: &[&str] = &["granite: end: success"];

const GUESTS: &[Guest] = &[
    guest("hello", "hello", "", 0, &["hello from domain", "granite: end: success"]),
    Guest { memory: 16, ..guest("of_16_mib", "hello", "", 0, SUCCESS) },
    Guest { vcpus: 4, ..guest("of_4_vcpus", "async", "", 0, SUCCESS) },
    Guest { count: 3, ..guest("three_at_once", "hello", "", 0, SUCCESS) },
    guest("grants", "grants", "", 0, SUCCESS),
    guest("grants_version_2", "grants", "grants=2", 0, SUCCESS),
    Guest { more: "max_grant_frames=1", ..guest("1_grant_frame", "grants", "", 0, SUCCESS) },
    Guest { more: "max_grant_frames=4", ..guest("4_grant_frames", "grants", "", 0, SUCCESS) },
    Guest { more: "max_grant_frames=512", ..guest("512_grant_frames", "grants", "", 0, SUCCESS) },
    Guest { more: "max_event_channels=32", ..guest("32_event_channels", "hello", "", 0, SUCCESS) },
    Guest { vcpus: 2, seconds: 180, ..guest("stress", "tests/stress", "", 0, &["stress: "]) },
    guest("fails", "tests/die", "case=wrong-exit", 1, &["granite: end: failure 7"]),
    guest(
        "panics",
        "tests/die",
        "case=panic",
        3,
        &["panic at tests/die.rs", "outer_function (tests/die.rs:"],
    ),
    guest("faults", "tests/die", "case=null", 3, &["page fault (#PF)", "(tests/die.rs:"]),
    Guest {
        vcpus: 4,
        ..guest("panics_elsewhere", "tests/die", "case=panic-elsewhere", 3, &["the panic of vCPU 2"])
    },
    guest("faults_three_times", "tests/die", "case=triple-fault", 3, &["the guest crashed: a triple fault"]),
    Guest { seconds: 4, ..guest("hangs", "tests/die", "case=hang", 124, &["here it hangs"]) },
    Guest {
        more: "cpuid = \"host,nx=0\"",
        has_console: false,
        ..guest("processor_without_nx", "hello", "", 2, &["lacks long mode or no-execute pages"])
    },
    guest("line_of_1000_bytes", "tests/die", LONG, 1, &["granite: end: failure 7"]),
    Guest {
        memory: 100_000,
        has_console: false,
        ..guest("too_large", "hello", "", 2, &["xl did not create the guest", "libxl"])
    },
    Guest {
        more: "vcpus = = 1",
        has_console: false,
        ..guest("bad_configuration", "hello", "", 2, &["xl did not create the guest"])
    },
    // An operator types at its console. The terminal must stay open until the guest has read.
    Guest {
        around: (
            "(until t=$(xenstore-read /local/domain/$(xl domid guest1)/console/tty) && [ -n \"$t\" ]; do usleep 50000; done; \
             (printf 'help\\rmem\\r'; sleep 1; printf 'bad\\nexit\\n'; sleep 5) > $t) > /dev/null 2>&1 &",
            "true",
        ),
        ..guest(
            "shell",
            "shell",
            "",
            0,
            &[
                "grants  events  mem  time  exit",
                "KiB free",
                "there is no command bad",
                "granite: end: success",
            ],
        )
    },
    // The cases of grants print more than the console's buffer holds. The daemon is stopped as soon as it has opened a
    // terminal for the guest, because `xl` waits for that.
    Guest {
        around: (
            "(until xenstore-ls /local/domain | grep -q 'tty = \"/dev/pts'; do usleep 10000; done; \
             killall -STOP xenconsoled) > /dev/null 2>&1 &",
            "killall -CONT xenconsoled",
        ),
        has_console: false,
        ..guest("console_that_nobody_reads", "tests/guest", "rig=lab filter=grant::v1::", 0, &["##test done"])
    },
];

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
        Some("die") => session.image("die", true)?,
        Some(name) => build::build(&Program::Test(name.to_owned()), true)?,
        None => build::build(&Program::Example(guest.program.to_owned()), true)?,
    };
    let shape = Shape { vcpus: guest.vcpus, memory: guest.memory, more: guest.more.to_owned() };
    let domains = Domains {
        image: &image,
        line: guest.line,
        module: None,
        shape: &shape,
        count: guest.count,
        types: false,
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
