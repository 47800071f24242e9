//! Provides Xen and QEMU from the distribution's packages, unpacked into the user's cache.
//!
//! ```text
//! CACHE/packages/   apt's state, the packages, and the list of their sums
//! CACHE/root/       what they hold, and beside it the sums and sizes of its files
//! ```
//!
//! Each step leaves a result for the next attempt to resume from. A finished result is put in place only as a whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::apt::{Apt, Closure, Package};
use super::{Qemu, Xen, verify};
use crate::error::{Context, Error, Result};
use crate::{paths, process};

/// The sets to provide. Each has its own folder in the cache, and consists of packages used together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// For a system without QEMU: both, so one download serves every rig.
    QemuAndXen,
    /// For a system with QEMU.
    Xen,
    /// Xen's public headers, for C.
    Headers,
    /// Xen, Linux and Xen's tools, for a control domain.
    Lab,
}

impl Set {
    fn folder(self) -> &'static str {
        match self {
            Self::QemuAndXen => "qemu+xen",
            Self::Xen => "xen-only",
            Self::Headers => "headers",
            Self::Lab => "lab",
        }
    }

    /// Checks the unpacked files. Returns QEMU's version, the part worth keeping.
    fn look_at(self, root: &Path) -> Result<String> {
        match self {
            Self::QemuAndXen => {
                Xen::unpacked(root)?;
                Ok(Qemu::unpacked(root)?.version().to_owned())
            }
            Self::Xen => Xen::unpacked(root).map(|_| NO_QEMU.to_owned()),
            Self::Headers => {
                let header = root.join("usr/include/xen/xen.h");
                fs::metadata(&header).context("reading", &header).map(|_| NO_QEMU.to_owned())
            }
            Self::Lab => Xen::unpacked(root).map(|_| NO_QEMU.to_owned()),
        }
    }
}

/// Used in place of a version, because an empty note counts as missing.
const NO_QEMU: &str = "none";

/// How closely to check files provided earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Check the sizes of the files: for every run.
    Quick,
    /// Check every byte of the packages and their contents: for `setup`.
    Thorough,
}

/// A provided set.
#[derive(Debug)]
pub struct Provided {
    /// The unpacked file system.
    pub root: PathBuf,
    /// The version of its QEMU, or "none".
    pub version: String,
}

/// Provides a set.
///
/// # Errors
///
/// If it can't be provided; the text says what to do.
pub fn provide(set: Set, effort: Effort) -> Result<Provided> {
    let store = Store::open(set)?;
    if effort == Effort::Quick
        && let Some(provided) = store.finished()
    {
        return Ok(provided);
    }
    let _lock = lock(&store.folder)?;
    // Another process may have provided it while this one waited.
    let finished = store.finished();
    if effort == Effort::Quick
        && let Some(provided) = finished
    {
        return Ok(provided);
    }
    if effort == Effort::Thorough && finished.is_some() {
        store.check()?;
    }
    store.fetch()?;
    if let Some(provided) = store.finished() {
        return Ok(provided);
    }
    store.unpack()?;
    let version = set.look_at(&store.root())?;
    store.write("version", &version)?;
    Ok(Provided { root: store.root(), version })
}

/// Lets one process at a time prepare the contents of a folder. The lock ends with the process, even if the process is
/// killed.
///
/// # Errors
///
/// If the folder can't be written.
pub fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).context("making", &path)?;
    if file.try_lock().is_err() {
        complain!("waiting for another set-up, which holds {}", path.display());
        file.lock().context("locking", &path)?;
    }
    Ok(file)
}

/// The cache folder of a set.
struct Store {
    set: Set,
    folder: PathBuf,
}

impl Store {
    fn open(set: Set) -> Result<Self> {
        let folder = paths::cache()?.join(set.folder());
        let made = fs::create_dir_all(&folder);
        made.map_err(|error| {
            let advice = "set GRANITE_CACHE to a folder that can be written";
            Error::new(format!("making {}: {error}\n{advice}", folder.display()))
        })?;
        Ok(Self { set, folder })
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn packages(&self) -> PathBuf {
        self.folder.join("packages")
    }

    /// Writes a note about a finished step, completely or not at all.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let (path, half) = (self.folder.join(name), self.folder.join("note.half"));
        fs::write(&half, text).context("writing", &half)?;
        fs::rename(&half, &path).context("writing", &path)
    }

    /// Reads a note. An empty one counts as missing: a full disk has cut it short.
    fn read(&self, name: &str) -> Result<Option<String>> {
        let text = verify::read_if_there(&self.folder.join(name))?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// Returns the set provided earlier, unless a file was truncated or removed since.
    fn finished(&self) -> Option<Provided> {
        let version = self.read("version").ok()??;
        let sizes = self.read("root.sizes").ok()??;
        let whole = verify::sizes_match(&self.root(), &sizes);
        whole.then(|| Provided { root: self.root(), version })
    }

    /// Checks every byte of the unpacked files, and forgets them if any differs.
    fn check(&self) -> Result<()> {
        let Some(sums) = self.read("root.sha256")? else { return self.forget() };
        let damaged = verify::damaged(&self.root(), &sums);
        if let Some(first) = damaged.first() {
            complain!("{first} is damaged ({} files in all); unpacking again", damaged.len());
            self.forget()?;
        }
        Ok(())
    }

    /// Marks the unpacked files to be unpacked again.
    fn forget(&self) -> Result<()> {
        verify::remove_if_there(&self.folder.join("version"))
    }

    /// Fetches all packages that are missing or damaged.
    fn fetch(&self) -> Result<()> {
        if let Some(list) = self.read("packages.sha256")?
            && self.drop_damaged(&Apt::new(&self.packages())?, &list)? == 0
        {
            return Ok(()); // all are there: no network is needed
        }
        let apt = Apt::new(&self.packages())?;
        complain!("reading the distribution's package lists");
        let complaints = apt.update()?;
        let advice = match self.set {
            Set::Lab => "the other rigs don't need these packages",
            _ => "name what you have with --qemu FILE and --xen FILE, or set GRANITE_QEMU and GRANITE_XEN",
        };
        let no_packages =
            |why: &str| Error::new(format!("{why}\n{complaints}\nis there no network? {advice}"));
        let xen = || apt.xen_package()?.ok_or_else(|| no_packages("the package sources have no Xen"));
        let names = match self.set {
            Set::QemuAndXen => vec![xen()?, "qemu-system-x86".to_owned()],
            Set::Xen => vec![xen()?],
            Set::Headers => vec!["libxen-dev".to_owned()],
            Set::Lab => lab(
                &xen()?,
                &apt.linux_package()?.ok_or_else(|| no_packages("the package sources have no Linux"))?,
            ),
        };
        let closure = if self.set == Set::Lab { Closure::Named } else { Closure::Dependencies };
        let packages = apt.resolve(&names, closure).map_err(|error| no_packages(&error.to_string()))?;
        let list: String =
            packages.iter().map(|package| format!("{}  {}\n", package.sha256, package.file)).collect();
        self.drop_damaged(&apt, &list)?;
        download(&apt, &names, closure, &packages)?;
        let damaged = verify::damaged(&apt.archives(), &list);
        if let Some(first) = damaged.first() {
            return Err(Error::new(format!("{first} is incomplete\ntry again: complete files are kept")));
        }
        self.write("packages.sha256", &list)
    }

    /// Removes damaged packages, and returns the number of packages to fetch.
    fn drop_damaged(&self, apt: &Apt, list: &str) -> Result<usize> {
        let damaged = verify::damaged(&apt.archives(), list);
        for file in &damaged {
            let path = apt.archives().join(file);
            if path.exists() {
                complain!("{file} is damaged; downloading it again");
                fs::remove_file(&path).context("removing", &path)?;
                self.forget()?;
            }
        }
        Ok(damaged.len())
    }

    /// Unpacks all packages, and puts the result in place.
    fn unpack(&self) -> Result<()> {
        let Some(list) = self.read("packages.sha256")? else {
            return Err(Error::new("no packages to unpack\nrun: cargo xtask setup"));
        };
        let half = self.folder.join("root.half");
        remove_folder(&half)?;
        let files: Vec<_> =
            list.lines().filter_map(|line| line.split_once("  ")).map(|(_, file)| file).collect();
        complain!("unpacking {} packages", files.len());
        let bar = progress(files.len() as u64, "unpacking", "{pos}/{len} packages");
        for file in files {
            let mut command = Command::new("dpkg-deb");
            process::die_together(&mut command);
            command.arg("--extract").arg(self.packages().join("cache/archives").join(file)).arg(&half);
            let output =
                command.output().map_err(|error| Error::new(format!("cannot run dpkg-deb: {error}")))?;
            if !output.status.success() {
                let errors = String::from_utf8_lossy(&output.stderr);
                let advice = "is the disk full? GRANITE_CACHE names another cache";
                return Err(Error::new(format!("unpacking {file}: {}\n{advice}", errors.trim())));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let sums = verify::manifest(&half)?;
        let sizes = verify::sizes(&half, &sums)?;
        self.forget()?;
        remove_folder(&self.root())?;
        fs::rename(&half, self.root()).context("putting in place", &self.root())?;
        self.write("root.sha256", &sums)?;
        self.write("root.sizes", &sizes)
    }
}

/// Returns the packages of the lab. With all their dependencies, they would be five times as large.
fn lab(xen: &str, linux: &str) -> Vec<String> {
    let version = xen.trim_start_matches("xen-hypervisor-").trim_end_matches("-amd64");
    let own = [format!("xen-utils-{version}"), format!("libxenmisc{version}")];
    let others = [
        xen,
        linux,
        "xenstore-utils",
        "libxencall1",
        "libxendevicemodel1",
        "libxenevtchn1",
        "libxenforeignmemory1",
        "libxengnttab1",
        "libxenhypfs1",
        "libxenstore4",
        "libxentoolcore1",
        "libxentoollog1",
        "libyajl2",
        "libtinfo6",
        "libc6",
        "zlib1g",
        "libzstd1",
        "liblzma5",
        "libuuid1",
        "libgcc-s1",
        "busybox-static",
        "xz-utils",
    ];
    others.into_iter().map(str::to_owned).chain(own).collect()
}

fn remove_folder(path: &Path) -> Result<()> {
    if path.exists() { fs::remove_dir_all(path).context("removing", path) } else { Ok(()) }
}

/// Runs the download. Shows its progress by the bytes downloaded so far.
fn download(apt: &Apt, names: &[String], closure: Closure, packages: &[Package]) -> Result<()> {
    let total: u64 = packages.iter().map(|package| package.size).sum();
    complain!("downloading {} packages, {} MiB", packages.len(), total.div_ceil(1 << 20));
    let bar = progress(total, "fetching", "{bytes}/{total_bytes}");
    let child = apt
        .download(names, closure)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| Error::new(format!("cannot run apt-get: {error}")))?;
    let mut stderr = child.stderr.take();
    let errors = thread::spawn(move || stderr.as_mut().map(std::io::read_to_string));
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| Error::new(format!("apt-get: {error}")))? {
            break status;
        }
        bar.set_position(arrived(&apt.archives()));
        thread::sleep(Duration::from_millis(100));
    };
    bar.finish_and_clear();
    if status.success() {
        return Ok(());
    }
    let errors = errors.join().ok().flatten().and_then(std::result::Result::ok).unwrap_or_default();
    Err(Error::new(format!("the download failed:\n{}\ntry again: complete files are kept", errors.trim())))
}

/// Returns the bytes of packages downloaded, in whole or in part.
fn arrived(archives: &Path) -> u64 {
    let sizes = |folder: &Path| -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .filter(fs::Metadata::is_file)
            .map(|file| file.len())
            .sum()
    };
    sizes(archives) + sizes(&archives.join("partial"))
}

fn progress(total: u64, verb: &'static str, count: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{msg:>12}} [{{bar:40}}] {count}"));
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_message(verb).with_style(style.progress_chars("=> "))
}
