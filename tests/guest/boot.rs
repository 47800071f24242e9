//! What the loader tells reaches the application.

use granite::abi::DomId;

use crate::harness::{ALL, Case, Context, GUESTS, NotPassed, Rig};
use crate::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case { name: "boot::start_info", rigs: GUESTS, run: start_info },
    Case { name: "boot::command_line", rigs: GUESTS, run: command_line },
    Case { name: "boot::memory", rigs: GUESTS, run: memory },
    Case { name: "boot::modules", rigs: GUESTS, run: modules },
    Case { name: "boot::domain", rigs: ALL, run: domain },
];

/// Xen 4.17 gives its control domain version 0; QEMU gives version 1. Both work, and later ones may come.
fn start_info(context: &Context) -> Result<(), NotPassed> {
    let platform = context.platform()?;
    let info = platform.start_info();
    check_same!(platform.is_control_domain(), context.rig == Rig::Solo);
    check_same!(info.memory_map().is_some(), info.version() >= 1);
    check!(context.rig == Rig::Solo || info.version() >= 1);
    Ok(())
}

fn command_line(context: &Context) -> Result<(), NotPassed> {
    let options = context.platform()?.options();
    check_same!(options.get("probe"), Some("a,b two words"));
    check_same!(options.parse::<u32>("probe").is_err(), true);
    check_same!(options.get("absent"), None);
    Ok(())
}

/// The RAM is what the machine was given, but for a few pages that the loader keeps.
fn memory(context: &Context) -> Result<(), NotPassed> {
    let platform = context.platform()?;
    let given = platform.options().parse::<u64>("mem").ok().flatten().unwrap_or(0) << 20;
    let (seen, free) = (platform.memory(), platform.free_memory());
    check!(seen <= given && seen + (1 << 20) > given, "{seen} bytes of {given}");
    check!(free < seen && free > seen / 4, "{free} bytes free of {seen}");
    Ok(())
}

/// A module is there with its contents, or isn't there and nothing happens.
pub fn modules(context: &Context) -> Result<(), NotPassed> {
    let platform = context.platform()?;
    let modules = platform.modules();
    match platform.options().get("module") {
        Some(contents) => check_same!(modules.first().copied(), Some(contents.as_bytes())),
        None => check_same!(modules.first(), None),
    }
    check_same!(modules.get(7), None);
    Ok(())
}

fn domain(context: &Context) -> Result<(), NotPassed> {
    check_same!(alloc::format!("{} {}", DomId(7), DomId::SELF), "7 DOMID_SELF");
    if context.rig == Rig::Solo {
        check_same!(context.platform()?.dom_id(), DomId::CONTROL);
    }
    Ok(())
}
