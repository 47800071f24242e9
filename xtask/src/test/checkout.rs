//! Unusual checkouts and damaged images.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use object::LittleEndian;
use object::elf::{FileHeader64, SHT_SYMTAB, Sym64};
use object::read::elf::{FileHeader, SectionHeader};

use super::commands::output_of;
use super::{Case, NotPassed, Session};
use crate::error::Error;
use crate::guest::{self, Program};
use crate::image::{self, Unfit};
use crate::machine::Rig;
use crate::setup::Choice;
use crate::{build, paths};

/// Runs all cases.
pub fn run(session: &mut Session<'_>) {
    session.case(Rig::Solo, "image::each_fault_is_found", faults);
    session.case(Rig::Solo, "image::a_build_without_its_flags_is_refused", lost_flags);
    let choice = &session.arguments.choice;
    session.case(Rig::Solo, "run::read_only_checkout", || read_only(choice));
}

pub fn io(error: std::io::Error) -> NotPassed {
    NotPassed::fail(error.to_string())
}

fn set_up(error: Error) -> NotPassed {
    NotPassed::fail(error.to_string())
}

/// Damages a good image in one place at a time.
fn faults() -> Case {
    let image = build::build(&Program::Main, true).map_err(set_up)?;
    let good = fs::read(&image.path).map_err(io)?;
    if let Err(unfit) = image::check(&good) {
        return Err(NotPassed::fail(format!("a good image is refused: {unfit}")));
    }
    let note = find(&good, b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0")?;
    let text_flags = 64 + 4; // of the first program header
    let rodata_name = find(&good, b"\0.rodata\0")? + 1;
    let fninit = find(&good, b"\xfc\x31\xed\xdb\xe3\xe8")? + 3; // of vcpu_entry
    type IsRight = fn(&Unfit) -> bool;
    let damages: [(&str, usize, u8, IsRight); 9] = [
        ("no ELF magic", 0, 0, |unfit| matches!(unfit, Unfit::NotElf)),
        ("a shared object", 16, 3, |unfit| matches!(unfit, Unfit::NotStatic(_))),
        ("another machine", 18, 3, |unfit| matches!(unfit, Unfit::NotStatic(_))),
        ("a note of another owner", note + 12, b'x', |unfit| matches!(unfit, Unfit::NoNote(_))),
        ("a note of another type", note + 8, 17, |unfit| matches!(unfit, Unfit::NoNote(_))),
        ("an entry point in the sky", note + 19, 0x70, |unfit| matches!(unfit, Unfit::BadEntry(_))),
        ("a section that has no place", rodata_name, b'x', |unfit| matches!(unfit, Unfit::Orphan(_))),
        ("an instruction of the x87", fninit + 1, 0xe2, |unfit| matches!(unfit, Unfit::X87(_))),
        ("writable code", text_flags, 7, |unfit| matches!(unfit, Unfit::BadSegment(..))),
    ];
    for (what, at, value, is_right) in damages {
        let mut bad = good.clone();
        bad[at] = value;
        match image::check(&bad) {
            Err(unfit) if is_right(&unfit) => {}
            other => return Err(NotPassed::fail(format!("{what}: {other:?}"))),
        }
    }
    let mut bad = good.clone();
    let symbol = symbol(&good, "long_mode")?;
    bad[symbol + 6..symbol + 8].fill(0); // of no section: somewhere else
    match image::check(&bad) {
        Err(Unfit::Undefined(names)) if names == ["long_mode"] => {}
        other => return Err(NotPassed::fail(format!("a function that isn't there: {other:?}"))),
    }
    for length in [0, 10, 63, 64, 100, 4096, good.len() / 2] {
        if image::check(&good[..length]).is_ok() {
            return Err(NotPassed::fail(format!("cut to {length} bytes it is taken")));
        }
    }
    Ok(())
}

/// Returns the offset of this symbol's table entry in the file.
fn symbol(bytes: &[u8], name: &str) -> Result<usize, NotPassed> {
    let place = || {
        let sections = FileHeader64::<LittleEndian>::parse(bytes).ok()?.sections(LittleEndian, bytes).ok()?;
        let symbols = sections.symbols(LittleEndian, bytes, SHT_SYMTAB).ok()?;
        let table = sections.section(symbols.section()).ok()?.sh_offset(LittleEndian);
        let is_it = |symbol: &Sym64<_>| symbols.symbol_name(LittleEndian, symbol) == Ok(name.as_bytes());
        Some(table as usize + size_of::<Sym64<LittleEndian>>() * symbols.iter().position(is_it)?)
    };
    place().ok_or_else(|| NotPassed::fail(format!("the image has no symbol {name}")))
}

fn find(bytes: &[u8], pattern: &[u8]) -> Result<usize, NotPassed> {
    let at = bytes.windows(pattern.len()).position(|window| window == pattern);
    at.ok_or_else(|| NotPassed::fail("the image has nothing to damage there"))
}

/// A guest built without its flags, as when `RUSTFLAGS` or another folder's configuration removes them: it links, so
/// the check must refuse it.
fn lost_flags() -> Case {
    let mut flags = guest::rustflags().map_err(set_up)?;
    // rustc uses the last one.
    flags.push("-Cno-redzone=no".to_owned());
    const FOLDER: &str = "guest-with-red-zone";
    let mut command = guest::cargo("build", FOLDER, &flags).map_err(set_up)?;
    command.args(["--release", "--quiet", "--bin", "granite"]);
    output_of(command, 0, &[])?;
    let built = paths::target().join(FOLDER).join(guest::TARGET);
    let bytes = fs::read(built.join("release/granite")).map_err(io)?;
    match image::check(&bytes) {
        Err(Unfit::RedZone(accesses)) if !accesses.is_empty() => Ok(()),
        other => Err(NotPassed::fail(format!("{other:?}"))),
    }
}

/// A read-only checkout, built into another folder.
fn read_only(choice: &Choice) -> Case {
    let target = paths::target();
    // The name needs quotes everywhere.
    let copy = target.join("read only, checkout");
    let _cleanup = Writable(copy.clone());
    if copy.exists() {
        make_writable(&copy)?;
        fs::remove_dir_all(&copy).map_err(io)?;
    }
    copy_sources(paths::root(), &copy, &target)?;
    let command = format!("cd '{}' && exec cargo xtask run", copy.display());
    let mut run = if is_root() {
        // Permissions don't stop root. A read-only mount does, in a mount namespace of its own.
        let script = format!(
            "mount --bind '{0}' '{0}' && mount -o remount,bind,ro '{0}' && {command}",
            copy.display()
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", &script]);
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            return Err(NotPassed::Skip("root can't make a mount name space here".into()));
        }
        unshare
    } else {
        shell(&format!("chmod -R a-w '{}'", copy.display()))?;
        let mut sh = Command::new("sh");
        sh.args(["-c", &command]);
        sh
    };
    run.envs(choice.to_environment()).env("CARGO_TARGET_DIR", target.join("read only, build"));
    // Cargo set these for this xtask's checkout.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO"] {
        run.env_remove(name);
    }
    output_of(run, 0, &["Hello from domain 0"]).map(|_| ())
}

/// Makes a folder writable again on drop, for a later clean-up.
struct Writable(PathBuf);

impl Drop for Writable {
    fn drop(&mut self) {
        let _ = make_writable(&self.0);
    }
}

pub fn make_writable(folder: &Path) -> Case {
    shell(&format!("chmod -R u+w '{}'", folder.display()))
}

pub fn shell(script: &str) -> Case {
    let status = Command::new("sh").args(["-c", script]).status().map_err(io)?;
    if status.success() { Ok(()) } else { Err(NotPassed::fail(format!("{script}: {status}"))) }
}

pub fn is_root() -> bool {
    // SAFETY: it takes no arguments and accesses no memory.
    unsafe { libc::geteuid() == 0 }
}

/// Copies a checkout without its history and its build output. The copies keep their mtimes, so that cargo doesn't
/// rebuild unchanged ones.
pub fn copy_sources(from: &Path, to: &Path, target: &Path) -> Case {
    fs::create_dir_all(to).map_err(io)?;
    for entry in fs::read_dir(from).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path == target || entry.file_name() == ".git" || entry.file_name() == "target" {
            continue;
        }
        if entry.file_type().map_err(io)?.is_dir() {
            copy_sources(&path, &place, target)?;
        } else {
            fs::copy(&path, &place).map_err(io)?;
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).map_err(io)?;
            File::open(&place).and_then(|copy| copy.set_modified(modified)).map_err(io)?;
        }
    }
    Ok(())
}
