//! A folder for one test, and a way to run xtask isolated from everything outside it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder removed at the end of the test.
pub struct World {
    pub folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        // Remaining files are temporary: the system removes them.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl World {
    pub fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("granite-setup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    /// Creates a file with this name; returns its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Creates a shell script with this name; returns its path.
    pub fn script(&self, name: &str, body: &str) -> String {
        let path = self.file(name, format!("#!/bin/sh\n{body}\n").as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Returns a search path with this script first.
    pub fn bin(&self, name: &str, body: &str) -> String {
        fs::create_dir_all(self.folder.join("bin")).unwrap();
        self.script(&format!("bin/{name}"), body);
        format!("{}:{}", self.folder.join("bin").display(), env::var("PATH").unwrap())
    }

    pub fn setup(&self) -> Run {
        self.xtask(&["setup"])
    }

    pub fn xtask(&self, arguments: &[&str]) -> Run {
        self.xtask_env(arguments, &[])
    }

    pub fn xtask_env(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("GRANITE_CACHE", self.folder.join("cache"))
            .env("GRANITE_APT_SOURCES", self.folder.join("sources.list"))
            .env("APT_CONFIG", self.folder.join("apt.conf"))
            .env("PATH", self.without_qemu())
            .env_remove("GRANITE_QEMU")
            .env_remove("GRANITE_XEN")
            .envs(environment.iter().copied());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Run { status: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
    }

    /// Returns the search path without QEMU: a folder with QEMU is replaced by one of links to its other files.
    fn without_qemu(&self) -> OsString {
        let path = env::var_os("PATH").unwrap();
        let clean = env::split_paths(&path).enumerate().map(|(number, folder)| {
            if !folder.join(QEMU).exists() {
                return folder;
            }
            let links = self.folder.join(format!("path-{number}"));
            if fs::create_dir(&links).is_ok() {
                for entry in
                    fs::read_dir(&folder).unwrap().flatten().filter(|entry| entry.file_name() != QEMU)
                {
                    symlink(entry.path(), links.join(entry.file_name())).unwrap();
                }
            }
            links
        });
        env::join_paths(clean).unwrap()
    }

    /// Returns the first file in the cache with a name ending in `end`.
    pub fn find(&self, end: &str) -> PathBuf {
        let mut files = files(&self.folder.join("cache"));
        files.retain(|file| file.to_str().is_some_and(|name| name.ends_with(end)));
        files.sort();
        files.into_iter().next().unwrap_or_else(|| panic!("no {end} in the cache"))
    }

    /// Returns the number of files in the cache with names ending in `end`.
    pub fn count(&self, end: &str) -> usize {
        files(&self.folder.join("cache"))
            .iter()
            .filter(|file| file.to_str().is_some_and(|n| n.ends_with(end)))
            .count()
    }
}

/// The result of a run of xtask.
pub struct Run {
    pub status: Option<i32>,
    pub text: String,
}

impl Run {
    #[track_caller]
    pub fn expect(&self, status: i32, shows: &[&str]) {
        assert_eq!(self.status, Some(status), "{}", self.text);
        for text in shows {
            assert!(self.text.contains(text), "no \"{text}\" in: {}", self.text);
        }
    }
}

/// Returns a script answering xtask's queries like QEMU.
pub fn qemu(version: &str, accelerators: &str, flags: &str) -> String {
    format!(
        "case \"$*\" in *--version*) echo 'QEMU emulator version {version}';; *-accel*) echo '{accelerators}';; \
         *-cpu*) echo '{flags}';; esac"
    )
}

const QEMU: &str = "qemu-system-x86_64";

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
