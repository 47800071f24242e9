//! The table of cases: run on the host by `cargo test`, and in guests by `cargo xtask test`, each case in
//! every rig that can run it.

#![cfg_attr(granite_guest, no_std, no_main)]

extern crate alloc;

mod boot;
#[macro_use]
mod grant;
mod harness;
mod memory;
mod runtime;
mod traps;
mod xen;

use harness::{Case, Rig, Selection, run};

fn cases() -> impl Iterator<Item = &'static Case> {
    let floors = [boot::CASES, xen::CASES, memory::CASES, traps::CASES, runtime::CASES];
    floors.into_iter().flatten().chain(grant::cases())
}

#[cfg(granite_guest)]
granite::entry!(
    guest_main,
    options = ["filter", "from", "probe", "mem", "smp", "module"],
    xen_optional = true
);

#[cfg(granite_guest)]
fn guest_main(platform: &'static granite::rt::Platform) -> granite::rt::ExitCode {
    let options = platform.options();
    let rig = if platform.xen().is_some() { Rig::Solo } else { Rig::Direct };
    let selection = Selection {
        filter: options.get("filter").unwrap_or_default(),
        from: options.parse("from").unwrap_or_default().unwrap_or(0),
        version: options.parse("grants").unwrap_or_default(),
    };
    run(cases(), rig, Some(platform), &selection)
}

#[cfg(not(granite_guest))]
fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let code = run(cases(), Rig::Host, None, &Selection { filter: &filter, from: 0, version: None });
    std::process::exit(code.0.into());
}
