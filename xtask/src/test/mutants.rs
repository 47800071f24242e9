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

const STACK: &str = "src/grant/freelist/stack.rs";
const CACHE: &str = "src/grant/freelist/cache.rs";
const LIST: &str = "src/grant/freelist/mod.rs";
const WAITERS: &str = "src/grant/freelist/waiters.rs";
const ENTRY: &str = "src/grant/entry.rs";
const RING: &str = "src/ring/mod.rs";

const MUTANTS: &[Mutant] = &[
    ("push_without_release", STACK, "Ordering::Release, // push", "Ordering::Relaxed,"),
    ("pop_without_acquire", STACK, "load(Ordering::Acquire); // pop", "load(Ordering::Relaxed);"),
    ("head_without_tag", STACK, "wrapping_add(1 << BITS)", "wrapping_add(0)"),
    ("spare_without_release", CACHE, "Ordering::AcqRel)) // put_spare", "Ordering::Relaxed))"),
    (
        "steal_without_acquire",
        CACHE,
        "swap(0, Ordering::Acquire)) // take_spare",
        "swap(0, Ordering::Relaxed))",
    ),
    ("growth_without_release", LIST, "Ordering::Release); // grow", "Ordering::Relaxed);"),
    ("wake_without_fence", WAITERS, "fence(Ordering::SeqCst); // wake_if_scarce", ""),
    ("publish_without_release", ENTRY, "Ordering::Release); // publish", "Ordering::Relaxed);"),
    ("end_access_without_acquire", ENTRY, "Ordering::Acquire, // end_access", "Ordering::Relaxed,"),
    ("end_access_v2_without_fence", ENTRY, "fence(Ordering::SeqCst); // end_access, version 2", ""),
    ("ring_publish_without_release", RING, "Ordering::Release); // publish", "Ordering::Relaxed);"),
    ("ring_publish_without_fence", RING, "fence(Ordering::SeqCst); // publish", ""),
    ("ring_look_without_acquire", RING, "Ordering::Acquire); // look", "Ordering::Relaxed);"),
    ("ring_arm_without_fence", RING, "fence(Ordering::SeqCst); // arm", ""),
    ("make_readonly_v2_without_fence", ENTRY, "fence(Ordering::SeqCst); // make_readonly, version 2", ""),
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
