//! The virtual machine for a guest: a rig, and its QEMU command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::setup::{Qemu, Tools};

/// A rig: where a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rig {
    /// As the PVH control domain of Xen, in QEMU.
    Solo,
    /// As the PVH control domain of Xen. Its own image is a module, and it starts this as a second domain.
    Pair,
    /// In QEMU alone, without Xen.
    Direct,
    /// As an ordinary domain of Xen, created by `xl` in a Linux control domain.
    Lab,
}

impl Rig {
    /// Returns whether the rig includes Xen.
    pub fn has_xen(self) -> bool {
        self != Self::Direct
    }
}

impl fmt::Display for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Solo => "solo",
            Self::Pair => "pair",
            Self::Direct => "direct",
            Self::Lab => "lab",
        })
    }
}

/// How the processor's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// By QEMU itself: slow, and the same everywhere.
    Tcg,
    /// By the host's processor, if it lets a guest be a hypervisor.
    Kvm,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Where the guest runs.
    pub rig: Rig,
    /// Number of the guest's vCPUs, and of QEMU's.
    pub smp: u32,
    /// The guest's memory in MiB.
    pub memory: u32,
    /// How it is executed.
    pub accelerator: Accelerator,
    /// The name of the processor in QEMU's emulation.
    pub cpu: &'static str,
    /// Have Xen log everything.
    pub verbose: bool,
    /// A file for the guest, beside the kernel.
    pub module: Option<PathBuf>,
    /// Give each processor its own QEMU thread: vCPUs run truly in parallel, not time-sliced.
    pub parallel: bool,
    /// Have QEMU count instructions: each one is a tick of the time-stamp counter. This is slow.
    pub counted: bool,
    /// Measure the guest's life by Xen's messages: their times are ticks. The guest has no port for ending QEMU, so it
    /// ends by a shutdown call to Xen.
    pub timed_by_xen: bool,
    /// Wait for a debugger on this port of the loopback.
    pub gdb: Option<u16>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            rig: Rig::Solo,
            smp: 1,
            memory: 64,
            accelerator: Accelerator::Tcg,
            cpu: "qemu64,+svm,+npt,+rdrand",
            verbose: false,
            module: None,
            parallel: false,
            counted: false,
            timed_by_xen: false,
            gdb: None,
        }
    }
}

/// The minimum for `--mem`, in MiB. The image is linked at 2 MiB, and Xen refuses a domain too small for it.
pub const MIN_MEMORY: u32 = 4;
/// Memory in MiB for Xen itself, and for domains started by the guest.
const XEN_MEMORY: u32 = 192;

impl Machine {
    /// Returns the command for booting `kernel` in this machine, with this kernel command line.
    ///
    /// # Errors
    ///
    /// If a file's name can't be passed to QEMU.
    pub fn command(&self, tools: &Tools, kernel: &Path, line: &str) -> Result<Command> {
        let mut command = tools.qemu.command();
        // `modules` names files relative to this folder.
        if let Some(folder) = kernel.parent() {
            command.current_dir(folder);
        }
        command.args([
            "-machine",
            "q35",
            "-display",
            "none",
            "-nodefaults",
            "-no-reboot",
            "-serial",
            "stdio",
        ]);
        if !self.timed_by_xen {
            command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        }
        command.args(["-smp", &self.smp.to_string()]);
        match self.accelerator {
            Accelerator::Tcg if self.counted => {
                command.args(["-accel", "tcg,thread=single", "-icount", "shift=0", "-cpu", self.cpu])
            }
            // With one thread per processor, QEMU sometimes loses the first processor's state (ARCHITECTURE.md).
            Accelerator::Tcg => {
                let threads = if self.parallel { "tcg,thread=multi" } else { "tcg,thread=single" };
                command.args(["-accel", threads, "-cpu", self.cpu])
            }
            Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        };
        if let Some(port) = self.gdb {
            command.args(["-S", "-gdb", &format!("tcp:127.0.0.1:{port}")]);
        }
        match (self.rig, &tools.xen) {
            (Rig::Solo | Rig::Pair, Some(xen)) => {
                command.args(["-m", &(self.memory + XEN_MEMORY).to_string()]);
                command.arg("-kernel").arg(&xen.path);
                command.args(["-initrd", &self.modules(kernel, line)?, "-append", &self.xen_options()]);
            }
            (Rig::Solo | Rig::Pair, None) => {
                return Err(Error::new(format!("the rig {} needs Xen", self.rig)));
            }
            (Rig::Lab, _) => return Err(Error::new("a guest of the lab has no machine of its own")),
            (Rig::Direct, _) => {
                command.args(["-m", &self.memory.to_string()]);
                command.arg("-kernel").arg(kernel).args(["-append", line]);
                if let Some(module) = &self.module {
                    command.arg("-initrd").arg(module);
                }
            }
        }
        Ok(command)
    }

    /// Returns the files for Xen, in the syntax of QEMU's multiboot loader. A comma starts the next file, two commas
    /// are one literal comma, and a space starts the command line.
    fn modules(&self, kernel: &Path, line: &str) -> Result<String> {
        // Files in QEMU's own folder go by bare name: the path of a checkout may contain any character.
        let folder = kernel.parent().unwrap_or(Path::new(""));
        let name = |file: &Path| module_name(file.strip_prefix(folder).unwrap_or(file));
        let mut modules = name(kernel)?;
        if !line.is_empty() {
            modules.push_str(&format!(" {}", line.replace(',', ",,")));
        }
        // In `pair`, the default module is the guest's own image, for the second domain.
        let module = self.module.as_deref().or((self.rig == Rig::Pair).then_some(kernel));
        if let Some(module) = module {
            modules.push(',');
            modules.push_str(&name(module)?);
        }
        Ok(modules)
    }

    fn xen_options(&self) -> String {
        let level = if self.verbose { "all" } else { "warning" };
        // With several processors, moving vCPUs have triggered a bug in QEMU's SVM.
        let pinned = if self.smp > 1 { " dom0_vcpus_pin" } else { "" };
        let stamps = if self.timed_by_xen { "raw" } else { "boot" };
        // Output of other domains is logged at a guest level. `all` shows it, and without a rate limit.
        format!(
            "dom0=pvh dom0-iommu=none dom0_mem={}M dom0_max_vcpus={} com1=115200,8n1 console=com1 \
             loglvl={level} guest_loglvl=all console_timestamps={stamps}{pinned}",
            self.memory, self.smp
        )
    }
}

/// Returns a file's name in the syntax of QEMU's module list.
fn module_name(path: &Path) -> Result<String> {
    let name = path.to_str().filter(|name| !name.contains(' '));
    let name = name.ok_or_else(|| {
        Error::new(format!(
            "{} has a space, which QEMU's list of modules can't hold\nmove it",
            path.display()
        ))
    })?;
    Ok(name.replace(',', ",,"))
}

/// Checks that the host's KVM can run Xen, which needs nested virtualisation.
///
/// # Errors
///
/// If it can't, with the reason.
pub fn check_kvm(device: &Path, parameters: &Path) -> Result<()> {
    let advice = "leave out --accel kvm: QEMU's own emulation runs everywhere";
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open(device) {
        return Err(Error::new(format!("no KVM: {}: {error}\n{advice}", device.display())));
    }
    let nested = ["kvm_amd", "kvm_intel"].iter().any(|module| {
        let parameter = parameters.join(module).join("parameters/nested");
        std::fs::read_to_string(parameter).is_ok_and(|text| matches!(text.trim(), "1" | "Y"))
    });
    if nested {
        return Ok(());
    }
    Err(Error::new(format!(
        "KVM is there, but does not let a guest run Xen: its parameter nested is off\n{advice}"
    )))
}

/// Quotes a word for a shell, if necessary.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:".contains(c);
    if word.chars().all(plain) && !word.is_empty() {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Formats QEMU's command line as shell text, for a person to repeat the run.
pub fn printable(command: &Command, qemu: &Qemu) -> String {
    let mut text = qemu.environment_text();
    if let Some(folder) = command.get_current_dir() {
        text.insert_str(0, &format!("cd {} && ", quoted(&folder.to_string_lossy())));
    }
    for argument in std::iter::once(command.get_program()).chain(command.get_args()) {
        text.push_str(&quoted(&argument.to_string_lossy()));
        text.push(' ');
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Machine, check_kvm, module_name};
    use std::fs;
    use std::path::Path;

    #[test]
    fn commas_are_doubled_and_modules_are_not() {
        let machine = Machine { module: Some("/m,n".into()), ..Machine::default() };
        let kernel = Path::new("/some where/k");
        assert_eq!(machine.modules(kernel, "a=1,2 b").unwrap(), "k a=1,,2 b,/m,,n");
        assert_eq!(Machine::default().modules(kernel, "").unwrap(), "k");
        let pair = Machine { rig: super::Rig::Pair, ..Machine::default() };
        assert_eq!(pair.modules(kernel, "x").unwrap(), "k x,k");
        let near = Machine { module: Some("/some where/m".into()), ..Machine::default() };
        assert_eq!(near.modules(kernel, "").unwrap(), "k,m");
        assert!(module_name(Path::new("/a b")).unwrap_err().to_string().contains("move it"));
    }

    #[test]
    fn kvm_without_nesting_is_refused_with_advice() {
        let folder = std::env::temp_dir().join(format!("granite-kvm-{}", std::process::id()));
        let parameter = folder.join("kvm_amd/parameters");
        fs::create_dir_all(&parameter).unwrap();
        let device = folder.join("kvm");
        assert!(check_kvm(&device, &folder).unwrap_err().to_string().starts_with("no KVM"));
        fs::write(&device, "").unwrap();
        fs::write(parameter.join("nested"), "0\n").unwrap();
        assert!(check_kvm(&device, &folder).unwrap_err().to_string().contains("leave out --accel kvm"));
        fs::write(parameter.join("nested"), "1\n").unwrap();
        assert!(check_kvm(&device, &folder).is_ok());
        fs::remove_dir_all(&folder).unwrap();
    }
}
