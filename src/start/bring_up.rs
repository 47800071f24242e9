//! The boot sequence. Each layer is up before the next one needs it.

use core::fmt;
use core::ops::Range;

use spin::Once;

use super::memory;
use super::reservation::give_up_the_rest;
use super::{BOOT_MAPPED, StartError};
use crate::arch::{self, stack};
use crate::driver::console::{self, Output};
use crate::event::upcall;
use crate::hypercall::{NotXen, Xen};
use crate::loader::{Found, MAX_MODULES, PhysicalMemory, StartInfo, bundle, usable_ram};
use crate::mm::layout::{self, Image};
use crate::mm::ram::Ram;
use crate::mm::shared_info;
use crate::rt::{self, Application, Domain, End, Modules, Platform, report};
use crate::{pair, vcpu};

core::arch::global_asm!(
    include_str!("../../boot/entry.S"),
    boot_stack = sym stack::BOOT_STACK,
    boot_stack_size = const stack::BootStack::SIZE,
    rust_entry = sym rust_entry,
    exit_no_boot = const End::CannotStart.debug_exit_code(),
);

unsafe extern "Rust" {
    /// The application named in `entry!`.
    static GRANITE_APPLICATION: Application;
}

/// The command-line options of the runtime itself.
const RUNTIME_OPTIONS: &[&str] = &["log", "grants", pair::OPTION];

static PLATFORM: Once<Platform> = Once::new();

/// Called by boot/entry.S, on the boot stack and the boot page tables, with the address of the start info.
extern "sysv64" fn rust_entry(start_info: u64) -> ! {
    arch::load_tables(report::exception);
    let xen = Xen::enable();
    if xen.is_err() {
        arch::silence_legacy_interrupts();
    }
    console::direct_to(xen.map_or(Output::Serial, Output::Xen));
    rt::install_logger();

    // SAFETY: `entry!` defines it, with this type; a build without `entry!` doesn't link.
    let application = unsafe { &GRANITE_APPLICATION };
    match bring_up(start_info, xen, application) {
        Ok(platform) => rt::end(End::Exit((application.main)(platform))),
        Err(error) => {
            crate::println!("granite: cannot start: {error}"); // whatever `log=` says
            rt::end(End::CannotStart)
        }
    }
}

fn bring_up(
    start_info: u64,
    xen: Result<Xen, NotXen>,
    application: &Application,
) -> Result<&'static Platform, StartError> {
    let start_info = StartInfo::read(&BootMemory, start_info)?;
    read_options(&start_info, application.options);

    let Found { mut ram, windows } = usable_ram(&start_info, xen.as_ref().ok())?;
    let modules = start_info.modules_in(&free(&ram));
    if let Ok(xen) = xen
        && !start_info.is_initial_domain()
    {
        let kept = modules.iter().cloned().chain(layout::holes(&Image::running()));
        // SAFETY: so far only the image and the modules are in use.
        ram = unsafe { give_up_the_rest(&xen, ram, kept) };
    }
    memory::set_up(&ram, windows, modules.iter().cloned())?;
    // SAFETY: `modules_in` chose modules in RAM outside the image, and `memory::set_up` reserved them.
    let modules = unsafe { slices(&modules) };
    if let Ok(xen) = xen
        && !start_info.is_initial_domain()
    {
        console::add_pv(xen);
    }
    log::debug!("start info version {}, {} KiB of RAM", start_info.version(), ram.bytes() / 1024);

    if let Err(not_xen) = xen
        && !application.xen_optional
    {
        crate::println!("granite: {not_xen}. Boot this as a PVH guest of Xen, as `cargo xtask run` does.");
        rt::end(End::NoXen);
    }
    let domain = Domain::new(xen.ok());
    if xen.is_ok() {
        shared_info::on_first_use(first_event);
        arch::unmask_interrupts();
    }
    Ok(PLATFORM.call_once(|| Platform { start_info, domain, modules, ram_bytes: ram.bytes() }))
}

/// Starts events. Called when events, or the time, are first asked for.
fn first_event() {
    if let Some(xen) = Xen::enabled()
        && let Err(error) = start_events(xen)
    {
        log::error!("{error}");
    }
}

/// Places the page shared by Xen, and starts events and the first vCPU's timer. From here on interrupts arrive.
fn start_events(xen: Xen) -> Result<(), StartError> {
    let page = shared_info::place(&xen).map_err(StartError::NoEvents)?;
    upcall::start(xen, page).map_err(StartError::NoEvents)?;
    vcpu::start_first(xen).map_err(StartError::FirstVcpu)
}

fn read_options(start_info: &StartInfo, application: &[&str]) {
    let options = start_info.options();
    match options.parse("log") {
        Ok(level) => rt::set_level(level.unwrap_or(rt::DEFAULT_LEVEL)),
        Err(bad) => log::warn!("{bad}: off, error, warn, info, debug or trace"),
    }
    if let Err(bad) = options.parse::<u32>("grants") {
        log::warn!("{bad}: 1 or 2, the version of the grant table; it is 1 now");
    }
    log::debug!("command line: {}", options.line());
    for name in options.unknown(&[RUNTIME_OPTIONS, application]) {
        let (runtime, application) = (Names(RUNTIME_OPTIONS), Names(application));
        log::warn!(
            "option {name} is not declared in entry!(main, options = [...]); misspelt? known:{runtime}{application}"
        );
    }
}

/// Names of options, as text: `Debug` of text would add kilobytes of tables.
struct Names<'a>(&'a [&'a str]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

/// Returns the RAM outside the kernel and the null page.
fn free(ram: &Ram) -> Ram {
    let mut free = ram.clone();
    for hole in layout::holes(&Image::running()) {
        free.remove(hole);
    }
    free
}

/// Returns the modules as slices. A joined one is split into its files.
///
/// # Safety
///
/// The modules must lie in RAM outside the image, and must have been reserved.
unsafe fn slices(modules: &[Range<u64>]) -> Modules {
    let slice = |module: &Range<u64>| {
        // SAFETY: the bytes are mapped at their physical address, and never written: the caller guarantees that they
        // have no other owner.
        unsafe {
            core::slice::from_raw_parts(module.start as *const u8, (module.end - module.start) as usize)
        }
    };
    // Slices beyond `MAX_MODULES` are left out, as in the loader's own list.
    modules.iter().map(slice).flat_map(bundle::split).take(MAX_MODULES).collect()
}

/// Memory as mapped by boot/entry.S.
struct BootMemory;

impl PhysicalMemory for BootMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let image = Image::running().span();
        let end = address.checked_add(into.len() as u64).filter(|&end| end <= BOOT_MAPPED);
        let outside = |end: &u64| *end <= image.start || address >= image.end;
        let fits = end.filter(outside).is_some();
        if fits {
            // SAFETY: the boot tables map all of the first 4 GiB; reading where there is no memory returns ones.
            // `into` lies in the image, on the boot stack, and the source doesn't.
            unsafe { into.as_mut_ptr().copy_from_nonoverlapping(address as *const u8, into.len()) };
        }
        fits
    }
}
