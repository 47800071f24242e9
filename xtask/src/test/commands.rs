//! xtask as a user runs it: each case is a command line, the expected exit status, and the expected output.

use std::process::{Command, Stdio};

use super::{Case, NotPassed, Session};
use crate::machine::Rig;
use crate::project::{Project, project};
use crate::setup::Choice;

/// One command line.
struct Use {
    rig: Rig,
    name: &'static str,
    arguments: &'static str,
    status: u8,
    /// The texts expected in the output.
    shows: &'static [&'static str],
}

const fn solo(
    name: &'static str,
    arguments: &'static str,
    status: u8,
    shows: &'static [&'static str],
) -> Use {
    Use { rig: Rig::Solo, name, arguments, status, shows }
}

const fn direct(
    name: &'static str,
    arguments: &'static str,
    status: u8,
    shows: &'static [&'static str],
) -> Use {
    Use { rig: Rig::Direct, name, arguments, status, shows }
}

const fn pair(
    name: &'static str,
    arguments: &'static str,
    status: u8,
    shows: &'static [&'static str],
) -> Use {
    Use { rig: Rig::Pair, name, arguments, status, shows }
}

const fn lab(name: &'static str, arguments: &'static str, status: u8, shows: &'static [&'static str]) -> Use {
    Use { rig: Rig::Lab, name, arguments, status, shows }
}

const USES: &[Use] = &[
    lab(
        "run::in_the_lab",
        "run --rig lab --example hello",
        0,
        &["hello from domain", "granite: end: success"],
    ),
    lab("run::two_in_the_lab", "run --rig lab --example hello --guests 2", 0, &["(d1) hello", "(d2) hello"]),
    lab(
        "run::maxmem_in_the_lab",
        "run --rig lab --example grants --cfg maxmem=256",
        0,
        &["granite: end: success"],
    ),
    lab("lab::log", "lab log", 0, &["(XEN)"]),
    lab(
        "run::refused_in_the_lab",
        "run --rig lab --example hello --cfg =",
        2,
        &["xl did not create the guest"],
    ),
    lab(
        "run::demo_in_the_lab",
        "run --rig lab --module README.md -- path=map",
        0,
        &[
            "the option path has no effect in one domain",
            "copy, solo",
            "every byte was right, and nothing leaked",
        ],
    ),
    lab(
        "run::pair_in_the_lab",
        "run --rig lab --example pair",
        1,
        &["only Xen's control domain can start others"],
    ),
    lab("run::cfg_elsewhere", "run --cfg maxmem=256", 2, &["add --rig lab"]),
    lab("run::gdb_in_the_lab", "run --rig lab --gdb", 2, &["the rig lab has no --gdb"]),
    lab("lab::shell_of_dom0", "lab shell", 0, &[]),
    lab(
        "run::two_refused_in_the_lab",
        "run --rig lab --example hello --guests 2 --cfg =",
        2,
        &["xl did not create the guest"],
    ),
    lab("run::nothing_typed", "run --rig lab --example shell --timeout 3", 124, &["help lists the commands"]),
    lab("lab::no_word", "lab", 2, &["lab needs a word"]),
    lab("lab::help", "lab --help", 0, &["cargo xtask lab shell|log|stop"]),
    pair(
        "demo::well",
        "run",
        0,
        &[
            "Hello from domain 0 on Xen",
            "Hello from domain 1 on Xen",
            "map: granted to domain 0: a ring of 64 slots; its disk: 2048 sectors",
            "persistent: mapped the ring of domain 1: 64 slots",
            "copy:  3072 of 3072 KiB",
            "notifications  grants at peak  hypercalls/request",
            "reads and writes: 0 references leaked, 0 in quarantine; 504 of 504 free",
            "every byte was right, and nothing leaked",
        ],
    ),
    pair("demo::several_vcpus", "run --rig pair --smp 4", 0, &["every byte was right, and nothing leaked"]),
    pair(
        "demo::of_a_file",
        "run --module README.md -- path=copy",
        0,
        &["sectors, read-only", "every byte was right, and nothing leaked"],
    ),
    pair("demo::version_2", "run -- grants=2 path=map", 0, &["every byte was right, and nothing leaked"]),
    pair(
        "demo::child_crashes",
        "run -- child=crash",
        6,
        &["(d1) granite: panic at src/demo", "(src/demo/child.rs:", "the second domain crashed"],
    ),
    pair("demo::child_hangs", "run -- child=hang", 7, &["the second domain timed out"]),
    pair("demo::child_fails", "run -- child=fail", 5, &["the second domain reported a failure"]),
    pair(
        "pair::well",
        "run --example pair",
        0,
        &[
            "Hello from domain 0, the parent",
            "Hello from domain 1, the child of domain 0",
            "granted to domain 1: grant",
            "it says Ok(\"from the parent\")",
            "the child wrote: Ok(\"from the child\")",
            "0 in use (0 in quarantine)",
        ],
    ),
    pair(
        "pair::child_crashes",
        "run --example pair -- child=crash",
        6,
        &["(d1) granite: panic at examples/pair.rs", "(examples/pair.rs:", "the second domain crashed"],
    ),
    pair(
        "pair::child_hangs",
        "run --example pair -- child=hang",
        7,
        &["the child was still running at the deadline", "the second domain timed out"],
    ),
    pair(
        "pair::child_fails",
        "run --example pair -- child=fail",
        5,
        &["(d1) granite: end: failure 3", "the second domain reported a failure"],
    ),
    pair(
        "pair::several_vcpus",
        "run --example pair --smp 4",
        0,
        &["the child wrote: Ok(\"from the child\")"],
    ),
    pair(
        "pair::in_the_other_rig",
        "run --rig solo --example pair",
        1,
        &["the image for the child is missing"],
    ),
    pair("pair::former_name_of_the_rig", "run --rig twin --example hello", 0, &["hello from domain 0"]),
    pair(
        "pair::launch",
        "run --example launch",
        0,
        &["it said: hello from domain 1", "it ended by poweroff"],
    ),
    pair(
        "pair::launch_no_kernel",
        "run --example launch --module README.md",
        1,
        &["the kernel is not a complete ELF image"],
    ),
    pair(
        "pair::ring_echo",
        "run --example ring_echo",
        0,
        &["sent 10000 words and received them back", "returned 10000 words"],
    ),
    pair("pair::async_disk", "run --example async_disk", 0, &["wrote and read 200 blocks", "ms passed"]),
    pair(
        "bench::of_the_store",
        "bench --rig pair",
        0,
        &["persistent 32 at once", "ok   wanted: at most 0.1 hypercalls of both"],
    ),
    pair("pair::async", "run --example async", 0, &["event 5 by port", "5 events in 5 rounds"]),
    solo("run::template", "run", 0, &["Hello from domain 0 on Xen 4.", "1 vCPU, 64 MiB"]),
    solo("demo::solo", "run --rig solo", 0, &["(solo)", "every byte was right, and nothing leaked"]),
    solo("demo::solo_of_a_file", "run --rig solo --module README.md", 0, &["(solo)", "nothing leaked"]),
    solo(
        "run::verbose",
        "run --verbose",
        0,
        &["KiB stripped", "memory: 64 MiB", "QEMU ran for", "-kernel", "(XEN)"],
    ),
    solo(
        "run::panic",
        "run -- panic",
        3,
        &["panic at src/main.rs", "(src/main.rs:", "Xen's log:\n(XEN)", "crashed: panic"],
    ),
    solo("run::fail", "run -- fail", 1, &["granite: end: failure 1", "the guest reported a failure"]),
    solo("run::unoptimised", "run --dev", 0, &["Hello from domain 0 on Xen 4."]),
    solo("run::smp", "run --smp 4", 0, &["4 vCPU"]),
    solo("run::memory_4", "run --mem 4", 0, &["4 MiB of memory"]),
    solo("run::memory_8", "run --mem 8", 0, &["8 MiB of memory"]),
    solo("run::memory_16", "run --mem 16", 0, &["16 MiB of memory"]),
    solo("run::memory_too_little", "run --mem 3", 2, &["--mem 3: must be a number from 4"]),
    solo(
        "run::memory_above_4_gib",
        "run --mem 4608 -- log=debug",
        0,
        &["map 0x100000000..", "4608 MiB of memory"],
    ),
    solo("run::log_level", "run -- log=debug", 0, &["[DEBUG granite", "Execute"]),
    solo(
        "run::unknown_option",
        "run -- bogus=1 more",
        0,
        &["option bogus is not declared", "option more is not declared"],
    ),
    solo("run::bad_log_level", "run -- log=loud", 0, &["option log: \"loud\""]),
    solo("run::grants_version_2", "run --example grants -- grants=2", 0, &["version 2: 1 of 64 frames"]),
    solo(
        "run::grants_version_3",
        "run --example grants -- grants=3",
        1,
        &["grant table version 3: it is 1 or 2"],
    ),
    solo("run::grants_version_odd", "run -- grants=odd", 0, &["option grants: \"odd\""]),
    solo(
        "run::no_such_module",
        "run --module no/such/file",
        2,
        &["--module no/such/file: there is no such file"],
    ),
    solo("run::no_such_example", "run --example none", 2, &["there is no example none", "hello"]),
    solo("run::no_such_option", "run --bogus", 2, &["--bogus", "--help"]),
    solo("run::no_such_rig", "run --rig none", 2, &["there is no such rig"]),
    solo(
        "bench::in_guests",
        "bench --rig solo",
        0,
        &[
            "grant a page and end it",
            "ok   wanted: at most 90",
            "map 512 pages",
            " 1 hypercalls",
            "interrupt, to its handler and back",
            "event to oneself, to its handler and back",
            "interrupt of another vCPU, and back",
            "(wanted: at most 230000)",
            "(wanted: at most 65536)",
        ],
    ),
    solo(
        "bench::no_such_rig",
        "bench --rig none",
        2,
        &["--rig none: benchmarks run on host, solo, pair, or all"],
    ),
    solo("bench::help", "bench --help", 0, &["ratios of one run"]),
    solo("run::no_such_command", "fly", 2, &["there is no command fly"]),
    solo(
        "test::unknown_name",
        "test run::hlep",
        2,
        &["no test has \"run::hlep\" in its name", "similar: run::help"],
    ),
    solo(
        "test::two_names",
        "test --rig direct boot::command_line memory::",
        0,
        &["PASS    direct boot::command_line", "PASS    direct memory::", ", 0 failed"],
    ),
    solo(
        "test::two_names_on_the_host",
        "test --rig host guest::boot::domain guest::xen::absent",
        0,
        &["PASS    host   guest::boot::domain", "PASS    host   guest::xen::absent", "2 passed, 0 failed"],
    ),
    solo(
        "test::list",
        "test --rig direct --list",
        0,
        &["direct boot::", "direct die::processor-without-nx", "direct direct::no_xen"],
    ),
    solo("run::help", "run --help", 0, &["--example NAME", "124"]),
    solo("run::debugger_never_comes", "run --gdb --timeout 1", 124, &["gdb -ex 'target remote 127.0.0.1:"]),
    direct("direct::no_xen", "run --rig direct", 4, &["no Xen here", "the guest found no Xen"]),
    direct("direct::memory_16", "run --rig direct --mem 16", 4, &["no Xen here"]),
    direct("direct::unoptimised", "run --rig direct --dev", 4, &["no Xen here"]),
    direct("direct::many_vcpus", "run --rig direct --smp 4", 4, &["no Xen here"]),
];

/// Returns whether a command line of a rig is selected.
pub fn any(rig: Rig, selects: impl Fn(&str) -> bool) -> bool {
    USES.iter().any(|each| each.rig == rig && selects(each.name))
}

/// Runs all cases of a rig.
pub fn run(session: &mut Session<'_>, rig: Rig) {
    let choice = &session.arguments.choice;
    for each in USES.iter().filter(|each| each.rig == rig) {
        session.case(rig, each.name, || {
            let words: Vec<_> = each.arguments.split(' ').collect();
            expect(choice, &words, each.status, each.shows)
        });
    }
    if rig == Rig::Solo {
        let examples = project().map(Project::examples).unwrap_or_default();
        for example in examples {
            session.case(rig, &format!("run::example_{example}"), || {
                expect(choice, &["run", "--example", &example], 0, &["granite: end: success"])
            });
        }
        session.case(rig, "readme::examples", || super::readme::examples(choice));
        session.case(rig, "run::image_size", || image_size(choice));
        session.case(rig, "run::few_lines", || few_lines(choice));
        session.case(rig, "run::kvm", || kvm(choice));
        session.case(rig, "run::quoted_option", || {
            let quoted = ["run", "--", "bogus=two words", "log=debug"];
            expect(
                choice,
                &quoted,
                0,
                &["option bogus is not declared", "command line: bogus=\"two words\" log=debug"],
            )
        });
    }
}

/// Returns a command running xtask with these arguments and the same Xen and QEMU.
pub fn xtask(choice: &Choice, arguments: &[&str]) -> Command {
    // A `cargo test` that runs meanwhile may have put another build in this one's place. This name stays good.
    let mut command = Command::new("/proc/self/exe");
    crate::process::die_together(&mut command);
    command.args(arguments).envs(choice.to_environment()).stdin(Stdio::null());
    command
}

/// Runs xtask, checks its status and its output, and returns the output.
pub fn output_of(mut command: Command, status: u8, shows: &[&str]) -> Result<String, NotPassed> {
    let output = command.output().map_err(|error| NotPassed::fail(error.to_string()))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let fail = |why| Err(NotPassed::Fail(why, text.lines().map(str::to_owned).collect()));
    if output.status.code() != Some(status.into()) {
        return fail(format!("{}, expected {status}", output.status));
    }
    match shows.iter().find(|expected| !text.contains(**expected)) {
        Some(missing) => fail(format!("the output doesn't show \"{missing}\"")),
        None => Ok(text),
    }
}

/// Runs xtask and checks its status and its output.
pub fn expect(choice: &Choice, arguments: &[&str], status: u8, shows: &[&str]) -> Case {
    output_of(xtask(choice, arguments), status, shows).map(|_| ())
}

/// The image of `hello` stays small: the starting point of an application should not be a burden.
fn image_size(choice: &Choice) -> Case {
    const MAX_KIB: f64 = 120.0;
    let text = output_of(xtask(choice, &["run", "--verbose", "--example", "hello"]), 0, &["KiB stripped"])?;
    let size =
        text.lines().find_map(|line| line.strip_prefix("image: ")?.split(' ').next()?.parse::<f64>().ok());
    match size {
        Some(size) if size <= MAX_KIB => Ok(()),
        Some(size) => Err(NotPassed::fail(format!("{size} KiB are more than {MAX_KIB}"))),
        None => Err(NotPassed::fail("no size was told")),
    }
}

/// A successful run shows only the guest's lines, and those of a second domain once.
fn few_lines(choice: &Choice) -> Case {
    for (arguments, max) in [(&["run", "--example", "hello"][..], 3), (&["run"], 32)] {
        let mut command = xtask(choice, arguments);
        command.stderr(Stdio::null());
        let text = output_of(command, 0, &["granite: end: success"])?;
        let lines = text.lines().count();
        if lines > max || text.contains("(XEN)") {
            return Err(NotPassed::Fail(format!("{lines} lines"), text.lines().map(str::to_owned).collect()));
        }
    }
    let text = output_of(xtask(choice, &["run", "--", "child=crash"]), 6, &["Xen's log:"])?;
    let reports = text.matches("granite: panic at").count();
    if reports == 1 { Ok(()) } else { Err(NotPassed::fail(format!("{reports} reports of one crash"))) }
}

/// If KVM can run Xen, the guest runs. If not, the error says so.
fn kvm(choice: &Choice) -> Case {
    let usable = crate::machine::check_kvm("/dev/kvm".as_ref(), "/sys/module".as_ref()).is_ok();
    let arguments = ["run", "--accel", "kvm"];
    if usable {
        expect(choice, &arguments, 0, &["Hello from"])
    } else {
        expect(choice, &arguments, 2, &["leave out --accel kvm"])
    }
}
