//! Xen answers as the ABI says.

use granite::abi::{Features, XenErrno};
use granite::driver::console::Output;
use granite::hypercall::{Hypercall, Number, Xen, console, memory};

use crate::harness::{Case, Context, NotPassed, Rig, UNDER_XEN};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("xen::version", UNDER_XEN, version),
    Case::new("xen::features", &[Rig::Solo], features),
    Case::new("xen::vcpus", UNDER_XEN, vcpus),
    Case::new("xen::unknown_hypercall", UNDER_XEN, unknown_hypercall),
    Case::new("xen::bad_pointer", UNDER_XEN, bad_pointer),
    Case::new("xen::short_buffer", &[Rig::Solo, Rig::Lab], short_buffer),
    Case::new("xen::console", &[Rig::Solo], console_text),
    Case::new("xen::absent", &[Rig::Host, Rig::Direct], absent),
];

fn version(context: &Context) -> Result<(), NotPassed> {
    let version = context.platform()?.xen_version();
    check!(version.major >= 4 && !version.extra().is_empty(), "{version}");
    Ok(())
}

fn features(context: &Context) -> Result<(), NotPassed> {
    let features = context.platform()?.features();
    let expected = Features::AUTO_TRANSLATED_PHYSMAP | Features::HVM_CALLBACK_VECTOR | Features::DOM0;
    check!(features.contains(expected), "{features:?}");
    Ok(())
}

fn vcpus(context: &Context) -> Result<(), NotPassed> {
    let platform = context.platform()?;
    check_same!(Ok(Some(platform.vcpus())), platform.options().parse("smp"));
    Ok(())
}

fn unknown_hypercall(context: &Context) -> Result<(), NotPassed> {
    for number in [63, 127, 128, 128 + 17, u32::MAX] {
        // SAFETY: Xen has no such call, and so reads no argument of it.
        let result = unsafe { context.xen()?.call(Number(number), [0; 5]) };
        check_same!((number, result), (number, Err(XenErrno::NOSYS)));
    }
    Ok(())
}

/// A pointer to nothing is Xen's error, and no fault of ours.
fn bad_pointer(context: &Context) -> Result<(), NotPassed> {
    // SAFETY: nothing is mapped there: Xen can neither read nor write it, which is the point.
    let result = unsafe { context.xen()?.call(Number::MEMORY_OP, [9, 1 << 45, 0, 0, 0]) };
    check_same!(result, Err(XenErrno::FAULT));
    Ok(())
}

fn short_buffer(context: &Context) -> Result<(), NotPassed> {
    let mut room = [Default::default(); 2];
    let map = memory::memory_map(&context.xen()?, &mut room).map(<[_]>::len);
    check!(map == Ok(2) || map == Err(XenErrno::NOSPC), "{map:?}");
    Ok(())
}

fn console_text(context: &Context) -> Result<(), NotPassed> {
    check_same!(console::write(&context.xen()?, b"straight to Xen\n"), Ok(()));
    check!(matches!(context.platform()?.console(), Output::Xen(_)));
    Ok(())
}

fn absent(context: &Context) -> Result<(), NotPassed> {
    check_same!(Xen::enabled(), None);
    if context.rig == Rig::Direct {
        check_same!(context.platform()?.xen(), None);
        check_same!(context.platform()?.console(), Output::Serial);
    }
    Ok(())
}
