//! `cargo xtask build` and `cargo xtask image`: an image for a real Xen, and configurations for booting it.

use std::fs;
use std::path::Path;

use crate::build;
use crate::error::{Context, Result};
use crate::guest::{self, Program};
use crate::project::project;

/// Builds a program, and prints the image's path.
///
/// # Errors
///
/// If it can't be built.
pub fn build(program: &Program, optimised: bool) -> Result<u8> {
    let image = build::build(program, optimised)?;
    say!("{}", image.stripped.display());
    say!("with symbols: {}", image.path.display());
    Ok(0)
}

/// Writes a guest's flags as a cargo configuration, for builds without xtask.
///
/// # Errors
///
/// If the file can't be written.
pub fn flags(file: &Path) -> Result<u8> {
    let flags: Vec<_> = guest::rustflags()?.iter().map(|flag| format!("    {flag:?},\n")).collect();
    let stack = project()?.stack().map(|kibibytes| format!("\n[env]\nGRANITE_STACK_KIB = \"{kibibytes}\"\n"));
    let text = format!(
        "# The flags of a Granite guest. cargo build --release --config {0}\n\
         [build]\ntarget = \"{1}\"\n\n[target.{1}]\nrustflags = [\n{2}]\n{3}",
        file.display(),
        guest::TARGET,
        flags.concat(),
        stack.unwrap_or_default()
    );
    fs::write(file, text).context("writing", file)?;
    say!("wrote {0}\nbuild with: cargo build --release --config {0}", file.display());
    Ok(0)
}

/// Writes the kernel, and configurations for `xl`, libvirt and Qubes, into a folder.
///
/// # Errors
///
/// If the program can't be built, or a file can't be written.
pub fn image(program: &Program, folder: &Path) -> Result<u8> {
    let image = build::build(program, true)?;
    let (_, name) = program.target()?;
    let name = name.to_owned();
    let kernel = fs::read(&image.stripped).context("reading", &image.stripped)?;
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let path = absolute.join(&name).display().to_string();
    let qubes = Path::new("qubes").join(&name);
    let files = [
        (Path::new(&name).to_owned(), kernel.clone()),
        (format!("{name}.cfg").into(), xl(&name, &path).into_bytes()),
        (format!("{name}.xml").into(), libvirt(&name, &path).into_bytes()),
        (qubes.join("vmlinuz"), kernel),
        (qubes.join("initramfs"), EMPTY_GZIP.to_vec()),
        (qubes.join("default-kernelopts-common.txt"), b"log=info\n".to_vec()),
    ];
    for (file, bytes) in &files {
        let file = folder.join(file);
        if let Some(inner) = file.parent() {
            fs::create_dir_all(inner).context("making", inner)?;
        }
        fs::write(&file, bytes).context("writing", &file)?;
        say!("{}", file.display());
    }
    say!("\nxl create {}", folder.join(format!("{name}.cfg")).display());
    say!("virsh --connect xen:///system create {}", folder.join(format!("{name}.xml")).display());
    say!("Qubes, in dom0: copy {} to /var/lib/qubes/vm-kernels/{name}", folder.join(&qubes).display());
    let package = project()?.name();
    say!(
        "         qvm-create --class StandaloneVM --label red --property virt_mode=pvh --property kernel={name} {package}"
    );
    Ok(0)
}

/// A gzip file with empty contents, for loaders requiring a file.
const EMPTY_GZIP: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn xl(name: &str, kernel: &str) -> String {
    format!(
        "# For xl: xl create -c {name}.cfg shows what it prints.\n\
         type    = \"pvh\"\n\
         name    = \"{name}\"\n\
         kernel  = \"{kernel}\"\n\
         # The command line: log=off|error|warn|info|debug|trace, grants=1|2, and the application's own options.\n\
         cmdline = \"log=info\"\n\
         # In MiB; at min 4.\n\
         memory  = 64\n\
         vcpus   = 1\n\
         on_crash    = \"preserve\"\n\
         on_poweroff = \"destroy\"\n\
         # A triple fault is a reboot. Restarted, the guest would meet it again.\n\
         on_reboot   = \"destroy\"\n"
    )
}

fn libvirt(name: &str, kernel: &str) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let (name, kernel) = (escape(name), escape(kernel));
    format!(
        "<!-- For libvirt: virsh -c xen:///system create {name}.xml -->\n\
         <domain type='xen'>\n  <name>{name}</name>\n  <memory unit='MiB'>64</memory>\n  <vcpu>1</vcpu>\n  <os>\n    \
         <type arch='x86_64' machine='xenpvh'>xenpvh</type>\n    <kernel>{kernel}</kernel>\n    \
         <cmdline>log=info</cmdline>\n  </os>\n  <on_reboot>destroy</on_reboot>\n  <on_crash>preserve</on_crash>\n</domain>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::EMPTY_GZIP;
    use std::io::Read;

    #[test]
    fn the_empty_file_is_one() {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(EMPTY_GZIP).read_to_end(&mut text).unwrap();
        assert!(text.is_empty());
    }
}
