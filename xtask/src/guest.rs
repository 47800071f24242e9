//! Builds guests. This is the only module that knows their compiler flags.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::paths;
use crate::project::project;

/// A program of the package, to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// `src/main.rs`.
    Main,
    /// `examples/NAME.rs`.
    Example(String),
    /// A test image.
    Test(String),
    /// An image for measurements.
    Bench(String),
}

impl Program {
    /// Returns cargo's kind of target, and the target's name.
    ///
    /// # Errors
    ///
    /// If the package has no such program.
    pub fn target(&self) -> Result<(&'static str, &str)> {
        Ok(match self {
            Self::Main => ("bin", project()?.main()?),
            Self::Example(name) => {
                let examples = project()?.examples();
                if !examples.contains(name) {
                    let there_are = if examples.is_empty() { "none".to_owned() } else { examples.join(", ") };
                    return Err(Error::new(format!("there is no example {name}\nthere are: {there_are}")));
                }
                ("example", name)
            }
            Self::Test(name) => ("test", name),
            Self::Bench(name) => ("bench", name),
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("src/main.rs"),
            Self::Example(name) => write!(f, "example {name}"),
            Self::Test(name) => write!(f, "test image {name}"),
            Self::Bench(name) => write!(f, "benchmark {name}"),
        }
    }
}

/// The compiler flags of a guest, without the application's own configurations.
const RUSTFLAGS: &[&str] = &[
    "--cfg=granite_guest",
    // The crate getrandom gets its random numbers from Granite.
    "--cfg=getrandom_backend=\"custom\"",
    "-Cpanic=abort",
    // An interrupt may come at any instruction; see ARCHITECTURE.md.
    "-Cno-redzone=yes",
    "-Crelocation-model=static",
    // Crash reports walk the frame pointers.
    "-Cforce-frame-pointers=yes",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none",
    // The file needs no padding to pages, because loaders copy.
    "-Clink-arg=-Wl,-z,max-page-size=16",
    // Granite's build script puts this file into a folder on the linker's search path.
    "-Clink-arg=-Tgranite.ld",
];

/// Returns the compiler flags of a guest. [`cargo`] replaces any flags from the user's configuration with these, since
/// a guest built with other flags would boot and then fail in odd ways; image.rs checks the result. Configurations
/// (`cfg`) requested in `RUSTFLAGS` or the manifest are kept.
///
/// # Errors
///
/// If cargo can't read the manifest.
pub fn rustflags() -> Result<Vec<String>> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (encoded, plain) = (variable("CARGO_ENCODED_RUSTFLAGS"), variable("RUSTFLAGS"));
    let given: Vec<_> = encoded.split('\x1f').chain(plain.split_whitespace()).collect();
    let asked = cfgs_in(&given).into_iter().chain(project()?.cfgs());
    Ok(RUSTFLAGS
        .iter()
        .map(|flag| (*flag).to_owned())
        .chain(asked.map(|cfg| format!("--cfg={cfg}")))
        .collect())
}

/// Returns the configurations among a compiler's flags.
fn cfgs_in(flags: &[&str]) -> Vec<String> {
    let mut flags = flags.iter();
    let mut found = Vec::new();
    while let Some(flag) = flags.next() {
        let cfg = match flag.strip_prefix("--cfg") {
            Some("") => flags.next().copied(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        found.extend(cfg.map(str::to_owned));
    }
    found
}

/// The target of a guest. It is the host's, but naming it keeps the flags from build scripts and procedural macros.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The folder of guest builds, inside the target folder.
pub const FOLDER: &str = "guest";

/// Returns a `cargo` command for the guest, with these flags. It builds in `folder`, inside the target folder.
///
/// # Errors
///
/// If cargo can't read the manifest.
pub fn cargo(subcommand: &str, folder: &str, rustflags: &[String]) -> Result<Command> {
    let project = project()?;
    let name = project.name();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(paths::root())
        .args([subcommand, "--package", name, "--target", TARGET, "--target-dir"])
        .arg(paths::target().join(folder))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        // The profiles are the package's own, but keep their symbols: image.rs finds functions by name.
        .args(["--config", "profile.release.strip=\"none\"", "--config", "profile.dev.strip=\"none\""]);
    if let Some(kibibytes) = project.stack() {
        command.env("GRANITE_STACK_KIB", kibibytes.to_string());
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Writes a file atomically: a concurrent reader sees either the old or the new contents.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let half = path.with_extension(format!("{}.half", std::process::id()));
    fs::write(&half, bytes).context("writing", &half)?;
    fs::rename(&half, path).context("writing", path)
}

#[cfg(test)]
mod tests {
    use super::cfgs_in;

    #[test]
    fn configurations_are_found_among_flags() {
        let flags = ["-O", "--cfg", "a", "--cfg=b=\"c\"", "-Cpanic=unwind", "--cfg"];
        assert_eq!(cfgs_in(&flags), ["a", "b=\"c\""]);
    }
}
