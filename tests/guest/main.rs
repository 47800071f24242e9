//! The table of cases: run on the host by `cargo test`, and in guests by `cargo xtask test`, each case in
//! every rig that can run it.

#![cfg_attr(granite_guest, no_std, no_main)]

extern crate alloc;

mod boot;
#[cfg(granite_guest)]
mod event;
#[macro_use]
mod grant;
mod harness;
mod kernel;
#[cfg(granite_guest)]
mod link;
mod memory;
#[cfg(granite_guest)]
mod ring;
mod runtime;
mod store;
mod time;
#[cfg(granite_guest)]
mod toolstack;
mod traps;
mod twin;
#[cfg(granite_guest)]
mod vcpu;
mod xen;

use harness::{Case, Context, Rig, Selection, run};
use twin::Side;

fn cases() -> impl Iterator<Item = &'static Case> {
    let floors = [
        boot::CASES,
        xen::CASES,
        memory::CASES,
        traps::CASES,
        runtime::CASES,
        time::CASES,
        kernel::CASES,
        #[cfg(granite_guest)]
        event::CASES,
        #[cfg(granite_guest)]
        vcpu::CASES,
        #[cfg(granite_guest)]
        toolstack::CASES,
        #[cfg(granite_guest)]
        link::CASES,
        #[cfg(granite_guest)]
        ring::CASES,
    ];
    floors.into_iter().flatten().chain(store::cases()).chain(grant::cases())
}

#[cfg(granite_guest)]
granite::entry!(
    guest_main,
    options = ["filter", "from", "list", "probe", "mem", "smp", "module", "rig", "part"],
    xen_optional = true
);

#[cfg(granite_guest)]
fn guest_main(platform: &'static granite::rt::Platform) -> granite::rt::ExitCode {
    let options = platform.options();
    if options.has("list") {
        return harness::list(cases());
    }
    let rig = match (platform.xen(), options.get("rig")) {
        (None, _) => Rig::Direct,
        (Some(_), Some("twin")) => Rig::Twin,
        (Some(_), _) => Rig::Solo,
    };
    let side = match Side::of(platform, rig) {
        Ok(side) => side,
        Err(error) => {
            log::error!("{error}");
            return granite::rt::ExitCode::FAILURE;
        }
    };
    let context = Context::new(rig, side, Some(platform));
    if let Side::Child(child) = context.side {
        return twin::serve(child, cases, &context);
    }
    let selection = Selection {
        filter: options.get("filter").unwrap_or_default(),
        from: options.parse("from").unwrap_or_default().unwrap_or(0),
        version: options.parse("grants").unwrap_or_default(),
        part: options.get("part"),
    };
    run(cases(), &context, &selection)
}

#[cfg(not(granite_guest))]
fn main() {
    let words = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let filter = words.collect::<Vec<_>>().join(" ");
    let context = Context::new(Rig::Host, Side::Alone, None);
    let code = run(cases(), &context, &Selection { filter: &filter, from: 0, version: None, part: None });
    std::process::exit(code.0.into());
}
