//! The files of the control domain, made from the distribution's packages: Xen, the kernel, and the file system, which
//! is an archive in memory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cpio::newc::{Builder, ModeFileType, trailer};
use sha2::{Digest, Sha256};

use super::{binaries, modules};
use crate::error::{Context, Error, Result};
use crate::guest;
use crate::process;
use crate::setup::provision::{self, Effort, Set};
use crate::setup::{Xen, verify};

/// The files for QEMU.
#[derive(Debug)]
pub struct Files {
    /// The hypervisor, of the same version as the tools in the file system.
    pub xen: PathBuf,
    /// The control domain's kernel, unpacked.
    pub kernel: PathBuf,
    /// The control domain's file system, an archive.
    pub archive: PathBuf,
    /// A text that differs if the files do.
    pub key: String,
    /// The folder for them, and for what is made from them.
    pub folder: PathBuf,
}

/// Programs, by their paths in the packages. They are put into `/bin`.
const PROGRAMS: &[&str] = &["bin/busybox", "usr/bin/xenstore"];
/// Further names of `xenstore`, which does what its name says.
const XENSTORE: &[&str] = &["read", "write", "rm", "list", "ls", "exists", "chmod", "watch"];
/// Xen's own programs: those of one version share a folder.
const XEN_PROGRAMS: &[&str] = &["xl", "xenstored", "xenconsoled", "xenconsole", "xen-init-dom0", "lsevtchn"];
/// The folders that have no files.
const FOLDERS: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "etc/xen",
    "lib",
    "lib64",
    "mnt",
    "modules",
    "proc",
    "root",
    "run",
    "run/xen",
    "run/xenstored",
    "sys",
    "tmp",
    "usr",
    "usr/lib",
    "var",
    "var/lib",
    "var/lib/xen",
    "var/lib/xenstored",
    "var/log",
    "var/log/xen",
    "var/log/xen/console",
    "xen",
];

/// What the files are made by. A change makes them anew.
const MAKERS: [&str; 4] = [
    include_str!("files.rs"),
    include_str!("binaries.rs"),
    include_str!("modules.rs"),
    include_str!("init.sh"),
];

/// Makes the files, unless they exist and are up to date.
///
/// # Errors
///
/// If the packages can't be had, lack a file, or the cache can't be written.
pub fn files() -> Result<Files> {
    let provided = provision::provide(Set::Lab, Effort::Quick)?;
    let root = provided.root;
    let xen = Xen::unpacked(&root)?.path;
    let folder = root.with_file_name("made");
    fs::create_dir_all(&folder).context("making", &folder)?;
    let _lock = provision::lock(&folder)?;
    let packages = root.with_file_name("packages.sha256");
    let key = key(&[&MAKERS.concat(), &fs::read_to_string(&packages).context("reading", &packages)?]);
    let (kernel, archive, note) = (folder.join("vmlinux"), folder.join("dom0.cpio"), folder.join("key"));
    if verify::read_if_there(&note)?.as_deref() != Some(&key) {
        complain!("making the control domain's file system");
        verify::remove_if_there(&note)?;
        guest::write_whole(&kernel, &unpacked_kernel(&root)?)?;
        guest::write_whole(&archive, &archived(&root)?)?;
        guest::write_whole(&note, key.as_bytes())?;
    }
    Ok(Files { xen, kernel, archive, key, folder })
}

/// Returns a short text that differs if one of the texts does.
pub fn key(texts: &[&str]) -> String {
    let digest = texts.iter().fold(Sha256::new(), |hash, text| hash.chain_update(text).chain_update([0]));
    digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Unpacks the kernel beforehand: Xen would do it under emulation. The boot protocol's header names the place.
fn unpacked_kernel(root: &Path) -> Result<Vec<u8>> {
    let boot = root.join("boot");
    let files = fs::read_dir(&boot).context("reading", &boot)?.flatten().map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    let file = files.into_iter().find(is_kernel);
    let file = file.ok_or_else(|| Error::new(format!("no kernel in {}", boot.display())))?;
    let image = fs::read(&file).context("reading", &file)?;
    let payload = payload(&image);
    let payload = payload.ok_or_else(|| Error::new(format!("{} isn't a Linux kernel", file.display())))?;
    decompressed(root, payload)
}

/// Returns the compressed kernel in an image (Documentation/arch/x86/boot.rst: payload_offset and payload_length).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let sectors = usize::from(*image.get(0x1f1)?);
    let start = (sectors + 1) * 512 + word(0x248)?;
    image.get(start..start + word(0x24c)?)
}

/// Decompresses with the program `xz` of the packages. A kernel has its size after the compressed data.
fn decompressed(root: &Path, data: &[u8]) -> Result<Vec<u8>> {
    let [lib, usr] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|folder| root.join(folder));
    let mut command = Command::new(lib.join("ld-linux-x86-64.so.2"));
    process::die_together(&mut command);
    command.arg("--library-path").arg(format!("{}:{}", lib.display(), usr.display()));
    command.arg(root.join("usr/bin/xz")).args(["--decompress", "--stdout", "--single-stream"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |error: std::io::Error| Error::new(format!("cannot run xz: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    let input = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // It may end before it has read everything.
        scope.spawn(move || input.map(|mut input| input.write_all(data)));
        child.wait_with_output().map_err(failed)
    })?;
    if !output.status.success() {
        return Err(Error::new(format!("xz can't decompress the kernel: {}", output.status)));
    }
    Ok(output.stdout)
}

/// Returns the file system as an archive.
fn archived(root: &Path) -> Result<Vec<u8>> {
    let xen = xen_folder(root)?;
    let programs: Vec<_> = PROGRAMS.iter().map(|path| root.join(path)).collect();
    let xen_programs: Vec<_> = XEN_PROGRAMS.iter().map(|name| xen.join(name)).collect();
    let all: Vec<_> = programs.iter().chain(&xen_programs).cloned().collect();

    let mut archive = Archive(Vec::new());
    FOLDERS.iter().try_for_each(|folder| archive.add(folder, ModeFileType::Directory, 0o755, &[]))?;
    archive.add("init", ModeFileType::Regular, 0o755, include_bytes!("init.sh"))?;
    for (folder, files) in [("bin", &programs), ("xen", &xen_programs)] {
        files.iter().try_for_each(|file| archive.copy(folder, file))?;
    }
    for name in XENSTORE {
        archive.add(&format!("bin/xenstore-{name}"), ModeFileType::Symlink, 0o777, b"xenstore")?;
    }
    for (name, file) in binaries::libraries(root, &all)? {
        let bytes = fs::read(&file).context("reading", &file)?;
        archive.add(&format!("lib/{name}"), ModeFileType::Regular, 0o755, &bytes)?;
    }
    // xl complains of a missing one.
    archive.add("etc/xen/xl.conf", ModeFileType::Regular, 0o644, &[])?;
    archive.add("var/run", ModeFileType::Symlink, 0o777, b"../run")?;
    let loader = b"/lib/ld-linux-x86-64.so.2";
    archive.add("lib64/ld-linux-x86-64.so.2", ModeFileType::Symlink, 0o777, loader)?;
    let mut order = String::new();
    for module in modules::modules(root)? {
        archive.copy("modules", &module)?;
        order.push_str(&format!("{}\n", module.file_name().unwrap_or_default().to_string_lossy()));
    }
    archive.add("modules/order", ModeFileType::Regular, 0o644, order.as_bytes())?;
    archive.end()
}

/// Returns the folder of Xen's programs: `usr/lib/xen-VERSION/bin`.
fn xen_folder(root: &Path) -> Result<PathBuf> {
    let lib = root.join("usr/lib");
    let folders =
        fs::read_dir(&lib).context("reading", &lib)?.flatten().map(|entry| entry.path().join("bin"));
    let found = folders.into_iter().find(|folder| folder.join("xl").is_file());
    found.ok_or_else(|| Error::new(format!("no xl in {}", lib.display())))
}

/// An archive in the kernel's format for its first file system (`newc`).
struct Archive(Vec<u8>);

impl Archive {
    fn add(&mut self, name: &str, kind: ModeFileType, permissions: u32, contents: &[u8]) -> Result<()> {
        let bad = |error| Error::new(format!("archiving {name}: {error}"));
        let size = u32::try_from(contents.len()).map_err(|_| Error::new(format!("{name} is too large")))?;
        let builder = Builder::new(name).mode(permissions).set_mode_file_type(kind);
        let mut writer = builder.write(&mut self.0, size);
        writer.write_all(contents).map_err(bad)?;
        writer.finish().map(|_| ()).map_err(bad)
    }

    fn copy(&mut self, folder: &str, file: &Path) -> Result<()> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let permissions = fs::metadata(file).context("reading", file)?.permissions().mode() & 0o777;
        let bytes = fs::read(file).context("reading", file)?;
        self.add(&format!("{folder}/{name}"), ModeFileType::Regular, permissions, &bytes)
    }

    fn end(mut self) -> Result<Vec<u8>> {
        trailer(&mut self.0).map_err(|error| Error::new(format!("archiving: {error}")))?;
        Ok(self.0)
    }
}
