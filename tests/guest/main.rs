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
mod pair;
#[cfg(granite_guest)]
mod ring;
#[cfg(granite_guest)]
mod run;
mod runtime;
mod store;
mod time;
#[cfg(granite_guest)]
mod toolstack;
mod traps;
#[cfg(granite_guest)]
mod vcpu;
mod xen;

use harness::{Case, Context, Rig};
use pair::Side;

fn cases() -> impl Iterator<Item = &'static Case> {
    let layers = [
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
    layers.into_iter().flatten().chain(store::cases()).chain(grant::cases())
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
        return run::list(cases());
    }
    let rig = match (platform.xen(), options.get("rig")) {
        (None, _) => Rig::Direct,
        (Some(_), Some("pair")) => Rig::Pair,
        (Some(_), Some("lab")) => Rig::Lab,
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
        return pair::serve(child, cases, &context);
    }
    let selection = run::Selection {
        filter: options.get("filter").unwrap_or_default(),
        from: options.parse("from").unwrap_or_default().unwrap_or(0),
        version: options.parse("grants").unwrap_or_default(),
        part: options.get("part"),
    };
    run::run(cases(), &context, &selection)
}

/// The cases that run on the host, with the command line of `cargo test`'s own harness.
#[cfg(not(granite_guest))]
fn main() {
    use harness::NotPassed;
    use libtest_mimic::{Arguments, Trial};

    let trial = |case: &'static Case| {
        Trial::test(case.name, || {
            let context = Context::new(Rig::Host, Side::Alone, None);
            (case.run)(&context).map_err(|(NotPassed::Fail(reason) | NotPassed::Skip(reason))| reason.into())
        })
    };
    let trials = cases().filter(|case| case.rigs.contains(&Rig::Host)).map(trial).collect();
    // One at a time: a case may count all pages and threads of the process.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit();
}
