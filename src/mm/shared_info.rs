//! The page shared by Xen with the domain: its address, and the address of each vCPU's part.

use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use spin::Once;

use super::page::Page;
use super::windows::Windows;
use crate::abi::memory::MapSpace;
use crate::abi::shared_info::{LEGACY_MAX_VCPUS, SharedInfo, VcpuInfo};
use crate::abi::vcpu::RegisterVcpuInfo;
use crate::abi::{Gfn, PAGE_SIZE, XenErrno};
use crate::hypercall::{Hypercall, memory, vcpu};
use crate::sync::MAX_VCPUS;

static PAGE: Once<&'static SharedInfo> = Once::new();

/// The parts of those vCPUs without one in the page.
static REGISTERED: [AtomicPtr<VcpuInfo>; MAX_VCPUS - LEGACY_MAX_VCPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_VCPUS - LEGACY_MAX_VCPUS];

/// The window for the page. It is taken before all other windows, so that code counting windows never sees one
/// disappear because other code asked for the time.
static PLACE: Once<Option<Gfn>> = Once::new();

/// Takes the window for the page. Only the first call has an effect.
pub(super) fn reserve(windows: &Windows) {
    PLACE.call_once(|| windows.take(1).ok().map(|window| window.first()));
}

/// Asks Xen to place the page and returns it. Once a call has succeeded, further calls return the same page.
///
/// # Errors
///
/// `ENOMEM` if there is no window for the page; otherwise Xen's errno.
pub fn place(xen: &impl Hypercall) -> Result<&'static SharedInfo, XenErrno> {
    let place = || {
        super::windows();
        let gfn = PLACE.get().copied().flatten().ok_or(XenErrno::NOMEM)?;
        // SAFETY: the window is empty, and was taken for this page.
        unsafe { memory::add_to_physmap(xen, MapSpace::SHARED_INFO, 0, gfn) }?;
        // SAFETY: the page stays there, mapped at its physical address, for ever. All its fields written by others
        // are atomics.
        Ok(unsafe { &*(gfn.address() as *const SharedInfo) })
    };
    PAGE.try_call_once(place).copied()
}

/// The function that places the page and starts the delivery of events, called when the page is first asked for.
static STARTER: Once<fn()> = Once::new();
static STARTED: AtomicBool = AtomicBool::new(false);

/// Sets the function to call when the page is first asked for: a domain without a use for events doesn't pay for
/// them. `start` must call [`place`]. Only the first call of `on_first_use` has an effect.
pub fn on_first_use(start: fn()) {
    STARTER.call_once(|| start);
}

/// Returns the page, or `None` if there is none. The first call has it placed.
pub fn page() -> Option<&'static SharedInfo> {
    if let Some(page) = PAGE.get() {
        return Some(page);
    }
    first_use()
}

#[cold]
fn first_use() -> Option<&'static SharedInfo> {
    let start = STARTER.get()?;
    // Relaxed: there is only one vCPU until events are started, and starting another one needs events.
    if !STARTED.swap(true, Ordering::Relaxed) {
        start();
    }
    PAGE.get().copied()
}

/// Returns a vCPU's part, once it has one.
pub fn of_vcpu(number: usize) -> Option<&'static VcpuInfo> {
    if let Some(info) = page()?.vcpu_info.get(number) {
        return Some(info);
    }
    // Acquire: pairs with the Release of `register`.
    let info = REGISTERED.get(number - LEGACY_MAX_VCPUS)?.load(Ordering::Acquire);
    // SAFETY: null, or the address given to Xen by `register`, and that page is never freed.
    unsafe { info.as_ref() }
}

/// Ensures that a vCPU has a part: the first vCPUs have theirs in the page, others get a page of their own.
///
/// # Errors
///
/// `ENOENT` if the number is too large, `ENOMEM` if no page is free; otherwise Xen's errno.
pub fn register(xen: &impl Hypercall, number: usize) -> Result<(), XenErrno> {
    let Some(slot) = number.checked_sub(LEGACY_MAX_VCPUS) else { return Ok(()) };
    let slot = REGISTERED.get(slot).ok_or(XenErrno::NOENT)?;
    if !slot.load(Ordering::Relaxed).is_null() {
        return Ok(()); // by an attempt that failed later: Xen takes it once
    }
    let page = Page::zeroed().ok_or(XenErrno::NOMEM)?;
    let place = RegisterVcpuInfo { mfn: page.gfn().0, offset: 0, rsvd: 0 };
    // SAFETY: the page is ours. If Xen takes it, it is never handed out again; if Xen refuses, it is freed.
    unsafe { vcpu::register_info(xen, number as u32, place) }?;
    let gfn: Gfn = page.into_gfn();
    // Release: pairs with the Acquire of `of_vcpu`: Xen has accepted the address.
    slot.store(gfn.address() as *mut VcpuInfo, Ordering::Release);
    Ok(())
}

const _: () = assert!(size_of::<SharedInfo>() <= PAGE_SIZE as usize);
