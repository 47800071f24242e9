//! Starting and ending domains. The kernel is the very image that runs; the domains are told to do nothing of use.

use core::time::Duration;

use granite::abi::XenErrno;
use granite::abi::sched::ShutdownReason;
use granite::time::Deadline;
use granite::toolstack::kernel::KernelError;
use granite::toolstack::{Config, Step, Toolstack, ToolstackError};

use crate::harness::{Case, Context, NotPassed, Rig};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::with_peer("toolstack::a_domain_is_not_allowed_to", &[Rig::Pair], nothing, not_allowed),
    Case::with_peer("toolstack::a_domain_lives_and_ends", &[Rig::Pair], lives, nothing),
    Case::with_peer("toolstack::a_paused_domain_does_nothing", &[Rig::Pair], paused, nothing),
    Case::with_peer("toolstack::what_cannot_be_built_is_undone", &[Rig::Pair], undone, nothing),
    Case::with_peer("toolstack::many_domains_one_after_the_other", &[Rig::Pair], many, nothing),
];

fn fail(error: impl alloc::string::ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn nothing(_: &Context) -> Result<(), NotPassed> {
    Ok(())
}

/// The domain that was started may not start others.
fn not_allowed(context: &Context) -> Result<(), NotPassed> {
    check_same!(Toolstack::new(context.xen()?).err(), Some(ToolstackError::NotControlDomain));
    Ok(())
}

fn config(context: &Context) -> Result<Config<'static>, NotPassed> {
    let kernel = context.platform()?.modules().first().copied().ok_or_else(|| fail("no image"))?;
    // Without the control domain's word it ends at once, with a failure.
    Ok(Config { kernel, command_line: "rig=pair pair=nobody log=off", memory: 16, ..Config::default() })
}

fn lives(context: &Context) -> Result<(), NotPassed> {
    let toolstack = context.side.pair()?.toolstack();
    let mut domain = toolstack.start(&config(context)?).map_err(fail)?;
    let end = domain.wait(soon()).map_err(fail)?;
    check_same!(end.reason, ShutdownReason::CRASH); // as a failure is told
    let lines = domain.console().lines().map_err(fail)?;
    check!(lines.iter().any(|line| line == "granite: end: failure 1"), "{lines:?}");
    check!(lines.iter().all(|line| !line.contains("domain 1")), "{lines:?}");
    let id = domain.id();
    check_same!(domain.info().map_err(fail)?.domain, id);
    check!(domain.destroy(soon()).map_err(fail)?);
    Ok(())
}

fn paused(context: &Context) -> Result<(), NotPassed> {
    let toolstack = context.side.pair()?.toolstack();
    let domain = toolstack.build(&config(context)?, |_| Ok("pair=nobody rig=pair".into())).map_err(fail)?;
    let waited = domain.wait(Deadline::after(Duration::from_millis(20)));
    check_same!(waited.err(), Some(ToolstackError::StillRunning));
    check_same!(domain.info().map_err(fail)?.cpu_time, 0);
    domain.pause().map_err(fail)?; // twice now
    domain.unpause().map_err(fail)?;
    check_same!(domain.info().map_err(fail)?.cpu_time, 0);
    domain.unpause().map_err(fail)?;
    domain.wait(soon()).map_err(fail)?;
    check!(domain.info().map_err(fail)?.cpu_time > 0);
    Ok(())
}

/// Each failure is told, leaves no domain, no window and no memory behind.
fn undone(context: &Context) -> Result<(), NotPassed> {
    let toolstack = context.side.pair()?.toolstack();
    let windows = granite::mm::windows().ok_or_else(|| fail("no windows"))?;
    let free = windows.free();
    let good = config(context)?;
    // The next domain's number tells how many there were.
    let next = |what: &str| {
        let domain = toolstack
            .build(&good, |_| Ok("".into()))
            .map_err(|error| fail(alloc::format!("{what}: {error}")))?;
        Ok::<_, NotPassed>(domain.id().0)
    };
    let before = next("before")?;
    let build = |config: Config<'_>| toolstack.build(&config, |_| Ok("".into())).map(drop);
    check_same!(build(Config { kernel: b"none", ..good }), Err(ToolstackError::Kernel(KernelError::NotElf)));
    check_same!(build(Config { memory: 0, ..good }), Err(ToolstackError::BadMemory { mib: 0 }));
    check_same!(build(Config { memory: 1 << 20, ..good }), Err(ToolstackError::BadMemory { mib: 1 << 20 }));
    check!(matches!(build(Config { memory: 2, ..good }), Err(ToolstackError::TooLittleMemory { .. })));
    check!(matches!(
        build(Config { vcpus: 0, ..good }),
        Err(ToolstackError::Xen(Step::Create, XenErrno::INVAL))
    ));
    check!(matches!(build(Config { vcpus: 4096, ..good }), Err(ToolstackError::Xen(Step::Create, _))));
    // More than the machine has: half way through.
    check_same!(
        build(Config { memory: 512, ..good }),
        Err(ToolstackError::Xen(Step::Memory, XenErrno::NOMEM))
    );
    check!(matches!(build(Config { processor: Some(200), ..good }), Err(ToolstackError::Xen(Step::Pin, _))));
    let stopped = toolstack.build(&good, |_| Err(ToolstackError::NoWindow)).map(drop);
    check_same!(stopped, Err(ToolstackError::NoWindow));
    check_same!(windows.free(), free);
    let after = next("after")?;
    // All that were made in between are gone.
    let xen = context.xen()?;
    let interface = granite::hypercall::domctl::Interface::new(xen, toolstack.interface().version);
    for id in before..=after {
        check_same!((id, interface.info(granite::abi::DomId(id)).err()), (id, Some(XenErrno::SRCH)));
    }
    check_same!(windows.free(), free);
    Ok(())
}

fn many(context: &Context) -> Result<(), NotPassed> {
    let toolstack = context.side.pair()?.toolstack();
    let windows = granite::mm::windows().map(|windows| windows.free());
    for _ in 0..3 {
        let domain = toolstack.start(&config(context)?).map_err(fail)?;
        domain.wait(soon()).map_err(fail)?;
        check!(domain.destroy(soon()).map_err(fail)?);
    }
    check_same!(granite::mm::windows().map(|windows| windows.free()), windows);
    Ok(())
}
