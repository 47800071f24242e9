//! Building a guest: the one place that knows its compiler flags.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::image::{self, Image};
use crate::paths;

/// Which of the package's programs to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// `src/main.rs`.
    Template,
    /// `examples/NAME.rs`.
    Example(String),
    /// A test image.
    Test(&'static str),
    /// An image that measures.
    Bench(&'static str),
}

impl Program {
    /// What cargo calls it: the kind of target and its name.
    fn target(&self) -> (&'static str, &str) {
        match self {
            Self::Template => ("bin", "granite"),
            Self::Example(name) => ("example", name),
            Self::Test(name) => ("test", name),
            Self::Bench(name) => ("bench", name),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template => f.write_str("src/main.rs"),
            Self::Example(name) => write!(f, "example {name}"),
            Self::Test(name) => write!(f, "test image {name}"),
            Self::Bench(name) => write!(f, "benchmark {name}"),
        }
    }
}

/// How a guest is compiled. `cargo` puts these in place of anything that the user's configuration says, since
/// a guest built with other flags would boot and then fail in odd ways; image.rs checks the result.
pub fn rustflags() -> Vec<String> {
    let script = paths::root().join("linker.ld");
    [
        "--cfg=granite_guest",
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
        // The file needs no padding to pages: loaders copy.
        "-Clink-arg=-Wl,-z,max-page-size=16",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("-Clink-arg=-T{}", script.display())])
    .collect()
}

/// The target of a guest. It is named although it is the host's, to keep the flags from build scripts and
/// procedural macros.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where guests are built, in the target folder.
pub const FOLDER: &str = "guest";

/// A `cargo` command for the guest, with these flags, that builds in this folder of the target folder.
pub fn cargo(subcommand: &str, folder: &str, rustflags: &[String]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(paths::root())
        .args([subcommand, "--package", "granite", "--target", TARGET, "--target-dir"])
        .arg(paths::target().join(folder))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        // The profiles are the package's own, with symbols: image.rs looks at functions by their names.
        .args(["--config", "profile.release.strip=\"none\"", "--config", "profile.dev.strip=\"none\""]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Builds a program, checks the finished image, and writes the stripped form beside it.
///
/// # Errors
///
/// If it can't be built or isn't fit to boot.
pub fn build(program: &Program, optimised: bool) -> Result<Image> {
    if let Program::Example(name) = program
        && !examples().contains(name)
    {
        return Err(Error::new(format!("there is no example {name}\nthere are: {}", examples().join(", "))));
    }
    let mut command = cargo("build", FOLDER, &rustflags());
    let (kind, name) = program.target();
    command.arg(format!("--{kind}")).args([name, "--message-format", "json-render-diagnostics"]);
    if optimised {
        command.arg("--release");
    }
    if let Some(feature) = Needs::of(program).feature {
        command.args(["--features", &feature]);
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::new(format!("cannot run cargo: {error}")))?;
    if !output.status.success() {
        return Err(Error::new(format!("{program} does not build")));
    }
    let path = executable(&String::from_utf8_lossy(&output.stdout), kind, name)
        .ok_or_else(|| Error::new(format!("cargo built {program} and did not say where")))?;
    let bytes = fs::read(&path).context("reading", &path)?;
    image::check(&bytes).map_err(|error| Error::new(format!("{program} is not fit to boot: {error}")))?;
    let stripped = path.with_extension("stripped");
    write_whole(&stripped, &image::strip(&bytes))?;
    Ok(Image { path, stripped })
}

/// Writes a file so that whoever reads it at the same time sees the old contents or the new, and no half.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let half = path.with_extension(format!("{}.half", std::process::id()));
    fs::write(&half, bytes).context("writing", &half)?;
    fs::rename(&half, path).context("writing", path)
}

/// The names of the examples.
pub fn examples() -> Vec<String> {
    let entries = fs::read_dir(paths::root().join("examples")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// What a program needs beside Xen, by its own word: lines `//! Needs: rig RIG`, `//! Needs: image EXAMPLE` (as its first
/// module), `//! Needs: feature FEATURE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A rig other than the usual one.
    pub rig: Option<String>,
    /// The image of an example, as a module.
    pub image: Option<String>,
    /// A feature of the package.
    pub feature: Option<String>,
}

impl Needs {
    /// What a program says that it needs.
    pub fn of(program: &Program) -> Self {
        let path = match program {
            Program::Template => "src/main.rs".to_owned(),
            Program::Example(name) => format!("examples/{name}.rs"),
            Program::Test(_) | Program::Bench(_) => return Self::default(),
        };
        // One that isn't there is told of when it is built.
        Self::read(&fs::read_to_string(paths::root().join(path)).unwrap_or_default())
    }

    fn read(source: &str) -> Self {
        let need = |what: &str| {
            let value =
                |line: &str| Some(line.strip_prefix("//! Needs: ")?.strip_prefix(what)?.trim().to_owned());
            source.lines().find_map(value)
        };
        Self { rig: need("rig "), image: need("image "), feature: need("feature ") }
    }
}

/// The path of an executable in cargo's messages. A test image has the package's program built too, in either
/// order, so the target is looked for by kind and name.
fn executable(messages: &str, kind: &str, name: &str) -> Option<PathBuf> {
    const KEY: &str = "\"executable\":\"";
    let target = [format!("\"kind\":[\"{kind}\"]"), format!("\"name\":\"{name}\"")];
    let is_it = |line: &&str| line.contains(KEY) && target.iter().all(|part| line.contains(part));
    let value = messages.lines().find(is_it)?.split_once(KEY)?.1;
    let mut path = String::new();
    let mut characters = value.chars();
    loop {
        match characters.next()? {
            '"' => return Some(path.into()),
            '\\' => path.push(characters.next()?),
            character => path.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Needs, executable};
    use std::path::PathBuf;

    #[test]
    fn examples_say_what_they_need() {
        let needs = Needs::read("//! Text.\n//! Needs: rig twin\n//! Needs: image hello\nfn main() {}");
        assert_eq!((needs.rig.as_deref(), needs.image.as_deref()), (Some("twin"), Some("hello")));
        assert_eq!(Needs::read("//! Needs nothing"), Needs::default());
    }

    #[test]
    fn the_executable_is_found_among_the_messages_in_any_order() {
        let messages = [
            r#"{"target":{"kind":["lib"],"name":"granite"},"executable":null}"#,
            r#"{"target":{"kind":["test"],"name":"guest"},"executable":"/a \"b\"/guest","fresh":true}"#,
            r#"{"target":{"kind":["bin"],"name":"granite"},"executable":"/a/granite","fresh":true}"#,
        ];
        for messages in [messages.join("\n"), messages.into_iter().rev().collect::<Vec<_>>().join("\n")] {
            assert_eq!(executable(&messages, "test", "guest"), Some(PathBuf::from("/a \"b\"/guest")));
            assert_eq!(executable(&messages, "bin", "granite"), Some(PathBuf::from("/a/granite")));
            assert_eq!(executable(&messages, "test", "die"), None);
        }
    }
}
