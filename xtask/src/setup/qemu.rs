//! QEMU: an installed one, one named by the user, or one unpacked from packages.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::process;

/// The oldest supported QEMU: older ones lack fixes to AMD's virtualisation. The tests run with 7.2.
const OLDEST: (u32, u32) = (6, 2);
const PROGRAM: &str = "qemu-system-x86_64";

/// A QEMU able to run Xen.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    version: String,
}

impl fmt::Display for Qemu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = self.arguments.iter().map(Path::new).find(|path| path.ends_with(PROGRAM));
        write!(f, "QEMU {} ({})", self.version, binary.unwrap_or(&self.program).display())
    }
}

impl Qemu {
    /// Returns the QEMU named by the user.
    ///
    /// # Errors
    ///
    /// If it can't be run, is too old, or can't emulate the features Xen needs.
    pub fn named(program: &Path) -> Result<Self> {
        Self::bare(program.to_owned()).probed()
    }

    /// Returns the QEMU on the search path, if it is usable. An unusable one is reported and skipped.
    pub fn installed() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let program =
            std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|file| file.is_file())?;
        match Self::bare(program).probed() {
            Ok(qemu) => Some(qemu),
            Err(error) => {
                complain!("note: the installed QEMU is not used: {error}");
                None
            }
        }
    }

    /// Returns the QEMU in an unpacked file system, run with the loader and libraries of that file system.
    ///
    /// # Errors
    ///
    /// As [`named`](Self::named).
    pub fn unpacked(root: &Path) -> Result<Self> {
        Self::in_root(root).probed()
    }

    /// Returns the same QEMU without probing it again; `version` is the earlier result of [`version`](Self::version).
    pub fn known(root: &Path, version: &str) -> Self {
        Self { version: version.to_owned(), ..Self::in_root(root) }
    }

    /// Returns the version reported by QEMU.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn bare(program: PathBuf) -> Self {
        Self { program, arguments: Vec::new(), environment: Vec::new(), version: String::new() }
    }

    fn in_root(root: &Path) -> Self {
        let program = root.join("usr/bin").join(PROGRAM);
        // Avoid lib64's link: it is absolute and leads to the host's files.
        let libraries = ["lib", "usr/lib"].map(|folder| root.join(folder).join("x86_64-linux-gnu"));
        let Some(loader) =
            libraries.iter().map(|folder| folder.join("ld-linux-x86-64.so.2")).find(|file| file.is_file())
        else {
            return Self::bare(program);
        };
        let share = root.join("usr/share");
        let mut path = libraries[0].clone().into_os_string();
        path.push(":");
        path.push(&libraries[1]);
        Self {
            program: loader,
            arguments: vec![
                "--library-path".into(),
                path,
                program.into(),
                "-L".into(),
                share.join("qemu").into(),
                "-L".into(),
                share.join("seabios").into(),
            ],
            // TCG itself is a module.
            environment: vec![("QEMU_MODULE_DIR", libraries[1].join("qemu").into())],
            version: String::new(),
        }
    }

    /// Returns a command running this QEMU, ready for arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        command
    }

    /// Returns its environment variables, in shell syntax.
    pub fn environment_text(&self) -> String {
        let quoted = |value: &OsString| crate::machine::quoted(&value.to_string_lossy());
        self.environment.iter().map(|(name, value)| format!("{name}={} ", quoted(value))).collect()
    }

    /// Queries its version and its abilities.
    fn probed(mut self) -> Result<Self> {
        let text = self.ask(&["--version"])?;
        let version =
            text.strip_prefix("QEMU emulator version ").and_then(|rest| rest.split_whitespace().next());
        let version = version.ok_or_else(|| self.unfit("its --version doesn't name QEMU"))?;
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if number < OLDEST {
            let (major, minor) = OLDEST;
            return Err(
                self.unfit(&format!("version {version} is too old; at least {major}.{minor} is needed"))
            );
        }
        let has =
            |text: &str, word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|each| each == word);
        if !has(&self.ask(&["-accel", "help"])?, "tcg") {
            return Err(self.unfit("it is built without its emulator, TCG"));
        }
        let flags = self.ask(&["-cpu", "help"])?;
        if !has(&flags, "svm") || !has(&flags, "npt") {
            return Err(self.unfit("it does not emulate AMD's virtualisation (svm, npt), needed by Xen"));
        }
        self.version = version.to_owned();
        Ok(self)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command();
        process::die_together(&mut command);
        let output = command
            .args(arguments)
            .output()
            .map_err(|error| self.unfit(&format!("it does not run: {error}")))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(self
                .unfit(&format!("it does not run: {}", errors.lines().next().unwrap_or("no reason given"))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn unfit(&self, why: &str) -> Error {
        Error::new(format!(
            "{}: {why}\nname another with --qemu FILE or GRANITE_QEMU",
            self.program.display()
        ))
    }
}
