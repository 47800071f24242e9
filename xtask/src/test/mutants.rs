//! Do the models notice? Each case takes one ordering, fence or tag out of a copy of the sources, and wants a
//! model to fail.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Case, NotPassed, Session, host};
use crate::error::{Context, Result};
use crate::paths;

/// What is taken out: the case's name, a file, and two texts, of which the first is in it once.
type Mutant = (&'static str, &'static str, &'static str, &'static str);

const BITS: &str = "src/grant/freelist/bits.rs";
const LIST: &str = "src/grant/freelist/mod.rs";
const MANY: &str = "src/grant/freelist/many.rs";
const WAITERS: &str = "src/grant/freelist/waiters.rs";
const ENTRY: &str = "src/grant/entry.rs";
const RING: &str = "src/ring/mod.rs";

const MUTANTS: &[Mutant] = &[
    ("insert_without_release", BITS, "Ordering::Release); // insert", "Ordering::Relaxed);"),
    ("take_without_acquire", BITS, "Ordering::Acquire) & wanted; // take", "Ordering::Relaxed) & wanted;"),
    (
        "take_what_another_took",
        BITS,
        "word.fetch_and(!wanted, Ordering::Acquire) & wanted; // take",
        "{ word.fetch_and(!wanted, Ordering::Acquire); wanted };",
    ),
    ("take_gives_up", BITS, "        // Other vCPUs took all of them meanwhile.", "        return 0;"),
    ("run_not_put_back", BITS, "                self.insert_word(index, taken);", ""),
    (
        "run_put_back_in_part",
        BITS,
        "                self.insert(range.start..(index * BITS).max(range.start));",
        "",
    ),
    ("shortage_without_fence", WAITERS, "fence(Ordering::SeqCst); // declare_scarce", ""),
    ("wake_without_fence", WAITERS, "fence(Ordering::SeqCst); // wake_if_scarce", ""),
    (
        "wait_before_it_is_known",
        WAITERS,
        "        self.waiters.add(waker);\n        self.declare_scarce();",
        "        self.declare_scarce();\n        self.waiters.add(waker);",
    ),
    (
        "shortage_ended_too_late",
        WAITERS,
        "        self.scarce.store(0, Ordering::Relaxed);\n        self.waiters.wake_all();",
        "        self.waiters.wake_all();\n        self.scarce.store(0, Ordering::Relaxed);",
    ),
    ("exhausted_without_a_second_look", LIST, "first.or_else(again).map(", "first.map("),
    ("free_wakes_no_one", LIST, "self.wake_if_scarce(); // free", ""),
    ("flush_wakes_no_one", LIST, "self.wake_if_scarce(); // flush", ""),
    ("growth_wakes_no_one", LIST, "self.wake_if_scarce(); // grow", ""),
    ("many_wake_no_one", MANY, "self.flush(); // and wakes", ""),
    ("run_wakes_no_one", MANY, "self.wake_if_scarce(); // run", ""),
    ("publish_without_release", ENTRY, "Ordering::Release); // publish", "Ordering::Relaxed);"),
    ("end_access_without_acquire", ENTRY, "Ordering::Acquire, // end_access", "Ordering::Relaxed,"),
    ("end_access_v2_without_fence", ENTRY, "fence(Ordering::SeqCst); // end_access, version 2", ""),
    (
        "end_access_v2_not_restored",
        ENTRY,
        "self.word().store(word, Ordering::Release); // end_access, version 2: restored",
        "",
    ),
    ("make_readonly_without_acquire", ENTRY, "Ordering::Acquire, // make_readonly", "Ordering::Relaxed, //"),
    ("make_readonly_v2_without_fence", ENTRY, "fence(Ordering::SeqCst); // make_readonly, version 2", ""),
    (
        "make_readonly_v2_not_restored",
        ENTRY,
        "self.word().store(word, Ordering::Release); // make_readonly, version 2: restored",
        "",
    ),
    ("make_writable_without_release", ENTRY, "Ordering::Release); // make_writable", "Ordering::Relaxed);"),
    ("withdraw_without_acquire", ENTRY, "Ordering::Acquire, // withdraw", "Ordering::Relaxed,"),
    ("ring_publish_without_release", RING, "Ordering::Release); // publish", "Ordering::Relaxed);"),
    ("ring_publish_without_fence", RING, "fence(Ordering::SeqCst); // publish", ""),
    ("ring_look_without_acquire", RING, "Ordering::Acquire); // look", "Ordering::Relaxed);"),
    ("ring_arm_without_fence", RING, "fence(Ordering::SeqCst); // arm", ""),
];

/// What a build of the models reads.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "linker.ld",
    "rust-toolchain.toml",
    "boot",
    "src",
    "tests",
    "benches",
    "examples",
    "xtask",
];

pub fn run(session: &mut Session<'_>) {
    for mutant in MUTANTS {
        session.case("host", &format!("models::loom::mutant::{}", mutant.0), || noticed(mutant));
    }
}

fn noticed(&(_, file, before, after): &Mutant) -> Case {
    let tree = paths::target().join("mutants").join("tree");
    let source = prepare(&tree, file).map_err(|error| NotPassed::fail(error.to_string()))?;
    let path = tree.join(file);
    if source.matches(before).count() != 1 {
        return Err(NotPassed::fail(format!(
            "{file} does not have {before:?} once: mend the table of mutants"
        )));
    }
    fs::write(&path, source.replace(before, after)).map_err(|error| NotPassed::fail(error.to_string()))?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg("test").current_dir(&tree);
    // In a folder of its own: cargo takes what was built of the copy for what was built of the original.
    host::as_models(&mut command, "mutants/target");
    let output = command.output();
    // The tree is as it was before the next mutant is tried.
    let restored = fs::write(&path, source);
    let output = output.and_then(|output| restored.map(|()| output));
    let output = output.map_err(|error| NotPassed::fail(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("test result: FAILED") {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).lines().rev().take(20).map(str::to_owned).collect();
    Err(NotPassed::Fail("no model fails without it".into(), log))
}

/// Copies the sources, but for files that are the same, and gives the text of `file`.
fn prepare(tree: &Path, file: &str) -> Result<String> {
    fs::create_dir_all(tree).context("making", tree)?;
    for name in SOURCES {
        copy(&paths::root().join(name), &tree.join(name))?;
    }
    let path = paths::root().join(file);
    fs::read_to_string(&path).context("reading", &path)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to).context("making", to)?;
        // What was moved away since the last copy would be there twice.
        for entry in fs::read_dir(to).context("reading", to)? {
            let old = entry.context("reading", to)?;
            let gone = !from.join(old.file_name()).exists();
            if gone && old.path().is_dir() {
                fs::remove_dir_all(old.path()).context("removing", &old.path())?;
            } else if gone {
                fs::remove_file(old.path()).context("removing", &old.path())?;
            }
        }
        for entry in fs::read_dir(from).context("reading", from)? {
            let name = entry.context("reading", from)?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let bytes = fs::read(from).context("reading", from)?;
    // Unchanged, it keeps its time, and cargo what it built of it.
    if fs::read(to).is_ok_and(|old| old == bytes) {
        Ok(())
    } else {
        fs::write(to, bytes).context("writing", to)
    }
}
