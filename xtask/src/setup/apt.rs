//! Fetches the distribution's packages with `apt-get`, as an ordinary user. apt keeps all its state in a folder of
//! ours. It reads only the list of sources from the system, and writes none of the system's files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::error::{Context, Error, Result};
use crate::{paths, process};

/// A package to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its file name.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 sum, in hexadecimal digits.
    pub sha256: String,
}

/// Which packages to fetch for some names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closure {
    /// Those named, and all their dependencies.
    Dependencies,
    /// Only those named.
    Named,
}

/// apt, with its state in `folder`.
#[derive(Debug)]
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Creates apt's state folder.
    ///
    /// # Errors
    ///
    /// If this system has no apt; the text says how to do without. If the folder can't be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let output = Command::new("apt-get").arg("--version").output();
        if !output.is_ok_and(|output| output.status.success()) {
            return Err(Error::new(elsewhere()));
        }
        for sub in ["lists/partial", "cache/archives/partial", "nothing/partial"] {
            let path = folder.join(sub);
            fs::create_dir_all(&path).context("making", &path)?;
        }
        // An empty list of installed packages: so apt fetches every library too, and the unpacked programs run
        // independently of this system.
        let status = folder.join("status");
        fs::write(&status, "").context("writing", &status)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Returns the folder of downloaded packages.
    pub fn archives(&self) -> PathBuf {
        self.folder.join("cache/archives")
    }

    /// Returns an apt command with this state.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &Path| {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        };
        option("Dir::State", &self.folder);
        option("Dir::State::lists", &self.folder.join("lists"));
        option("Dir::State::status", &self.folder.join("status"));
        option("Dir::Cache", &self.folder.join("cache"));
        if let Some(sources) = paths::from_environment("GRANITE_APT_SOURCES") {
            option("Dir::Etc::sourcelist", &sources);
            option("Dir::Etc::sourceparts", Path::new("-"));
        }
        for fixed in [
            "APT::Architecture=amd64",
            "APT::Install-Recommends=false",
            "APT::Sandbox::User=root", // or apt, run by root, could not write here as its own user
            "Acquire::Languages=none",
            "Acquire::ForceHash=SHA256",
            "Acquire::Retries=3",
            "DPkg::Post-Invoke::=",
        ] {
            command.arg("-o").arg(fixed);
        }
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        process::die_together(&mut command);
        command
    }

    /// Fetches the package lists. Returns apt's complaints, also if no list could be fetched.
    ///
    /// # Errors
    ///
    /// If apt can't be run.
    pub fn update(&self) -> Result<String> {
        let output = run(self.command("apt-get").arg("update"))?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let complaints =
            text.lines().filter(|line| ["Err:", "W:", "E:", "  "].iter().any(|p| line.starts_with(p)));
        Ok(complaints.collect::<Vec<_>>().join("\n"))
    }

    /// Returns the name of a Xen package: 4.17, the version used by the tests, or else the newest.
    ///
    /// # Errors
    ///
    /// If apt can't be run.
    pub fn xen_package(&self) -> Result<Option<String>> {
        let output = run(self.command("apt-cache").args(["pkgnames", "xen-hypervisor-"]))?;
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(choose_xen(names.lines()))
    }

    /// Returns the name of the package of the newest Linux: `linux-image-amd64` depends on it.
    ///
    /// # Errors
    ///
    /// If apt can't be run.
    pub fn linux_package(&self) -> Result<Option<String>> {
        let output = run(self.command("apt-cache").args(["depends", "linux-image-amd64"]))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.find(|name| name.starts_with("linux-image-")).map(str::to_owned))
    }

    /// Returns the packages to fetch for these names.
    ///
    /// # Errors
    ///
    /// If apt can't be run, or doesn't know them.
    pub fn resolve(&self, names: &[String], closure: Closure) -> Result<Vec<Package>> {
        let mut command = self.command("apt-get");
        // apt omits packages already downloaded, so show it a folder that always stays empty.
        let nothing = self.folder.join("nothing");
        command.arg("-o").arg(format!("Dir::Cache::archives={}", nothing.display())).current_dir(nothing);
        command.args(["--print-uris", "--yes", "--quiet=2", closure.subcommand()]).args(names);
        let output = run(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let packages: Vec<_> = text.lines().filter_map(parse_uri).collect();
        if !output.status.success() || packages.is_empty() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("apt has no {}: {}", names.join(" and "), errors.trim())));
        }
        Ok(packages)
    }

    /// Returns the command to download them. With their dependencies, it resumes partial downloads.
    pub fn download(&self, names: &[String], closure: Closure) -> Command {
        let mut command = self.command("apt-get");
        if closure == Closure::Dependencies {
            command.arg("--download-only");
        }
        // `apt-get download` writes into its working folder.
        command.args(["--yes", "--quiet=2", closure.subcommand()]).args(names).current_dir(self.archives());
        command
    }
}

impl Closure {
    fn subcommand(self) -> &'static str {
        match self {
            Self::Dependencies => "install",
            Self::Named => "download",
        }
    }
}

fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|error| Error::new(format!("cannot run {program}: {error}")))
}

/// Parses a line of `--print-uris`: `'URI' FILE SIZE SHA256:SUM`.
fn parse_uri(line: &str) -> Option<Package> {
    let rest = line.strip_prefix('\'')?.split_once("' ")?.1;
    let mut words = rest.split_whitespace();
    let file = words.next()?;
    let size = words.next()?.parse().ok()?;
    let sha256 = words.next()?.strip_prefix("SHA256:")?;
    let is_name = !file.is_empty() && !file.contains('/');
    is_name.then(|| Package { file: file.to_owned(), size, sha256: sha256.to_owned() })
}

fn choose_xen<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let version = |name: &str| {
        let number = name.strip_prefix("xen-hypervisor-")?.strip_suffix("-amd64")?;
        let (major, minor) = number.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let versioned = names.filter_map(|name| Some((version(name)?, name)));
    let best = versioned.max_by_key(|&(version, _)| (version == (4, 17), version))?;
    Some(best.1.to_owned())
}

/// Returns the advice for a system without apt.
fn elsewhere() -> String {
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("this system");
    format!(
        "Xen or QEMU is missing, and {} has no apt-get to fetch them with\n\
         Fedora: sudo dnf install qemu-system-x86-core xen-hypervisor\n\
         Arch:   sudo pacman -S qemu-system-x86, and xen from the AUR\n\
         macOS:  brew install qemu, and xen-*-amd64.gz out of Debian's package xen-hypervisor-4.17-amd64\n\
         then: cargo xtask run --xen /boot/xen-VERSION.gz [--qemu FILE], or set GRANITE_XEN and GRANITE_QEMU",
        name.trim_matches('"')
    )
}

#[cfg(test)]
mod tests {
    use super::{Package, choose_xen, parse_uri};

    #[test]
    fn uris_are_read_and_nothing_else() {
        let line = "'http://h/pool/a_1%3a2_amd64.deb' a_1%3a2_amd64.deb 1234 SHA256:00ff";
        let package = Package { file: "a_1%3a2_amd64.deb".into(), size: 1234, sha256: "00ff".into() };
        assert_eq!(parse_uri(line), Some(package));
        for line in ["", "Reading lists...", "'u' f x SHA256:1", "'u' ../f 1 SHA256:1", "'u' f 1 MD5Sum:1"] {
            assert_eq!(parse_uri(line), None, "{line}");
        }
    }

    #[test]
    fn the_tested_xen_is_preferred_and_the_newest_else() {
        let choose = |names: &[&str]| choose_xen(names.iter().copied());
        let [old, tested, new] = [14, 17, 20].map(|minor| format!("xen-hypervisor-4.{minor}-amd64"));
        assert_eq!(choose(&[&old, &tested, &new]), Some(tested));
        assert_eq!(choose(&[&new, &old, "xen-hypervisor-common"]), Some(new));
        assert_eq!(choose(&["xen-hypervisor-common", "xen-hypervisor-4.17-arm64"]), None);
    }
}
