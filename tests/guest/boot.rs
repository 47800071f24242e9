//! What the loader tells reaches the application.

use granite::abi::DomId;

use crate::harness::{ALL, Case, Context, GUESTS, NotPassed, Rig};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("boot::start_info", GUESTS, start_info),
    Case::new("boot::command_line", GUESTS, command_line),
    Case::new("boot::memory", GUESTS, memory),
    Case::new("boot::modules", GUESTS, modules),
    Case::new("boot::domain", ALL, domain),
];

/// Xen 4.17 gives its control domain version 0; QEMU gives version 1. Both work, and later ones may come.
fn start_info(context: &Context) -> Result<(), NotPassed> {
    let platform = context.platform()?;
    let info = platform.start_info();
    check_same!(platform.is_control_domain(), context.is_control_domain());
    check_same!(info.memory_map().is_some(), info.version() >= 1);
    check!(context.is_control_domain() || info.version() >= 1);
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
    if context.rig == Rig::Pair && context.is_control_domain() {
        check!(modules.first().is_some_and(|image| image.starts_with(b"\x7fELF")), "the child's image");
        return Ok(());
    }
    match platform.options().get("module") {
        Some(contents) => check_same!(modules.first().copied(), Some(contents.as_bytes())),
        None => check_same!(modules.first(), None),
    }
    check_same!(modules.get(7), None);
    Ok(())
}

fn domain(context: &Context) -> Result<(), NotPassed> {
    check_same!(alloc::format!("{} {}", DomId(7), DomId::SELF), "7 DOMID_SELF");
    if matches!(context.rig, Rig::Solo | Rig::Pair) {
        check_same!(context.platform()?.dom_id() == DomId::CONTROL, context.is_control_domain());
    }
    Ok(())
}
