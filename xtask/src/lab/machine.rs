//! The lab's machine: QEMU's command line, with those of Xen and Linux.

use std::path::Path;
use std::process::Command;

use super::files::Files;
use crate::error::{Error, Result};
use crate::setup::Qemu;

/// The machine's memory in MiB: Xen, the control domain and its guests.
const MEMORY: u32 = 1024;
/// Xen's command line.
const XEN: &str = "dom0_mem=400M,max:404M dom0_max_vcpus=1 spec-ctrl=no xpti=no pv-l1tf=no smt=0 ucode=no iommu=no \
                   gnttab_max_frames=512 com1=115200,8n1 console=com1 loglvl=warning guest_loglvl=all \
                   console_timestamps=boot";
/// Linux's command line.
const LINUX: &str = "console=hvc0 quiet loglevel=4 mitigations=off random.trust_cpu=on audit=0 panic=-1";
/// The tag of the folder shared with the control domain.
pub const TAG: &str = "lab";

/// Returns the command that starts the machine.
///
/// # Errors
///
/// If a path isn't UTF-8.
pub fn command(qemu: &Qemu, files: &Files, folder: &Path) -> Result<Command> {
    let mut command = qemu.command();
    // QEMU's list of modules can't hold a path with a space: the files go by bare names.
    command.current_dir(&files.folder);
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let modules = format!("{} {},{}", name(&files.kernel), LINUX.replace(',', ",,"), name(&files.archive));
    let text = |path: &Path| path.to_str().map(|text| text.replace(',', ",,"));
    let folder =
        text(folder).ok_or_else(|| Error::new(format!("{} isn't UTF-8; set TMPDIR", folder.display())))?;
    command.args(["-machine", "q35", "-display", "none", "-nodefaults", "-no-reboot"]);
    // One processor: with several, QEMU's emulated SVM sometimes loses a vCPU's state (docs/field-notes.md).
    command.args(["-accel", "tcg,thread=single", "-cpu", "qemu64,+svm,+npt,+rdrand", "-smp", "1"]);
    command.args(["-m", &MEMORY.to_string(), "-serial", "stdio"]);
    command.args(["-serial", &format!("unix:{folder}/agent,server=on,wait=off")]);
    command.args(["-qmp", &format!("unix:{folder}/qmp,server=on,wait=off")]);
    command.args(["-virtfs", &format!("local,path={folder}/{TAG},mount_tag={TAG},security_model=none")]);
    command.arg("-kernel").arg(&files.xen).args(["-append", XEN, "-initrd", &modules]);
    Ok(command)
}

/// Returns a text that differs if another command starts the machine.
///
/// # Errors
///
/// As [`command`].
pub fn key(qemu: &Qemu, files: &Files) -> Result<String> {
    let command = command(qemu, files, Path::new("/"))?;
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    Ok(format!("{} {} {}", qemu.version(), files.key, words.join(" ")))
}
