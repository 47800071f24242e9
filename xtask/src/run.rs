//! `cargo xtask run`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::arguments::{Run, TIMEOUT};
use crate::boot;
use crate::error::{Context, Error, Result};
use crate::guest::Program;
use crate::image::Image;
use crate::machine::{self, Accelerator, Rig};
use crate::outcome::Outcome;
use crate::project::project;
use crate::screen::Screen;
use crate::setup::provision::Effort;
use crate::{build, bundle, guest, lab, setup};

/// Builds, checks and boots a guest, and returns xtask's status.
///
/// # Errors
///
/// If the tools, the image or the machine can't be prepared, or QEMU can't be started.
pub fn run(arguments: &Run) -> Result<u8> {
    if arguments.machine.rig == Rig::Lab {
        return lab::run(arguments);
    }
    if arguments.machine.accelerator == Accelerator::Kvm {
        machine::check_kvm(Path::new("/dev/kvm"), Path::new("/sys/module"))?;
    }
    let tools = setup::tools(&arguments.choice, arguments.machine.rig.has_xen(), Effort::Quick)?;
    let image = build::build(&arguments.program, arguments.optimised)?;
    let mut machine = arguments.machine.clone();
    if let Some(example) = project()?.needs(&arguments.program)?.module
        && machine.module.is_none()
    {
        let module = build::build(&Program::Example(example), arguments.optimised)?;
        machine.module = Some(module.stripped);
    }
    if machine.rig == Rig::Pair
        && let Some(module) = &machine.module
    {
        // Xen gives its control domain only one module: bundle the second domain's image with the file after it.
        let read = |path: &Path| fs::read(path).context("reading", path);
        let joined = bundle::join(&[&read(&image.stripped)?, &read(module)?]);
        let path = image.stripped.with_extension("bundle");
        guest::write_whole(&path, &joined)?;
        machine.module = Some(path);
    }
    if machine.verbose {
        tell(&image, &tools, machine.memory)?;
    }
    let timeout = arguments.deadline();
    if arguments.gdb {
        let port = free_port()?;
        machine.gdb = Some(port);
        say!(
            "waiting for a debugger: gdb -ex 'target remote 127.0.0.1:{port}' -ex 'hbreak rust_entry' -ex continue {}",
            machine::quoted(&image.path.to_string_lossy())
        );
    }

    let mut screen = Screen::new(machine.verbose);
    let boot = boot::boot(&machine, &tools, &image, &arguments.line, timeout, |line| screen.show(line))?;
    screen.end(boot.outcome != Outcome::Success);
    if machine.verbose {
        say!("QEMU ran for {:.2} s", boot.duration.as_secs_f64());
    }
    if boot.outcome != Outcome::Success {
        complain!("{}", boot.outcome);
        if let Outcome::Qemu(_) = boot.outcome {
            complain!("is QEMU damaged? cargo xtask setup checks every byte; --qemu FILE chooses another");
        }
    }
    if boot.outcome == Outcome::Deadline && arguments.timeout.is_none() {
        complain!("the timeout was {} s; --timeout SECONDS sets another, 0 none", TIMEOUT.as_secs());
    }
    Ok(boot.outcome.exit_code())
}

/// Prints the details for `--verbose` before the boot.
fn tell(image: &Image, tools: &setup::Tools, memory: u32) -> Result<()> {
    let size = fs::metadata(&image.stripped).context("reading", &image.stripped)?.len();
    say!("image: {:.1} KiB stripped ({})", size as f64 / 1024.0, image.stripped.display());
    say!("memory: {memory} MiB for the guest");
    say!("{}", tools.qemu);
    if let Some(xen) = &tools.xen {
        say!("Xen ({})", xen.path.display());
    }
    Ok(())
}

/// Returns a free TCP port. Another process could still take it before QEMU does; this can't be excluded.
fn free_port() -> Result<u16> {
    let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    address
        .map(|address| address.port())
        .map_err(|error| Error::new(format!("no port for the debugger: {error}")))
}
