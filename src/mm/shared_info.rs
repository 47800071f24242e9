//! The page that Xen shares with the domain: where it is, and where each vCPU's part of it is.

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

/// Where the parts of vCPUs are that have none in the page.
static REGISTERED: [AtomicPtr<VcpuInfo>; MAX_VCPUS - LEGACY_MAX_VCPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_VCPUS - LEGACY_MAX_VCPUS];

/// The window where the page will be. It is taken with the first of all, so that nobody who counts windows finds one
/// gone because somebody else asked for the time.
static PLACE: Once<Option<Gfn>> = Once::new();

/// Takes the window where the page will be. The first call counts.
pub(super) fn reserve(windows: &Windows) {
    PLACE.call_once(|| windows.take(1).ok().map(|window| window.first()));
}

/// Has Xen place the page. The first call counts.
///
/// # Errors
///
/// What Xen says; `ENOMEM` where there is no window for it.
pub fn place(xen: &impl Hypercall) -> Result<&'static SharedInfo, XenErrno> {
    let place = || {
        super::windows();
        let gfn = PLACE.get().copied().flatten().ok_or(XenErrno::NOMEM)?;
        // SAFETY: the window is empty, and it was taken for this.
        unsafe { memory::add_to_physmap(xen, MapSpace::SHARED_INFO, 0, gfn) }?;
        // SAFETY: the page is there, mapped at its physical address, for ever. Whatever others write in it is
        // an atomic.
        Ok(unsafe { &*(gfn.address() as *const SharedInfo) })
    };
    PAGE.try_call_once(place).copied()
}

/// What has the page placed, and events delivered, when somebody first asks for it.
static STARTER: Once<fn()> = Once::new();
static STARTED: AtomicBool = AtomicBool::new(false);

/// Has `start` called when the page is first asked for: a domain that has no use for events doesn't pay for them. It
/// calls [`place`]. The first call counts.
pub fn on_first_use(start: fn()) {
    STARTER.call_once(|| start);
}

/// The page; nothing where there is none. The first call has it placed.
pub fn page() -> Option<&'static SharedInfo> {
    if let Some(page) = PAGE.get() {
        return Some(page);
    }
    first_use()
}

#[cold]
fn first_use() -> Option<&'static SharedInfo> {
    let start = STARTER.get()?;
    // Relaxed: there is one vCPU until events have been started, which another one needs.
    if !STARTED.swap(true, Ordering::Relaxed) {
        start();
    }
    PAGE.get().copied()
}

/// A vCPU's part, once it has one.
pub fn of_vcpu(number: usize) -> Option<&'static VcpuInfo> {
    if let Some(info) = page()?.vcpu_info.get(number) {
        return Some(info);
    }
    // Acquire: pairs with the Release of `register`.
    let info = REGISTERED.get(number - LEGACY_MAX_VCPUS)?.load(Ordering::Acquire);
    // SAFETY: null, or what `register` gave to Xen, which stays.
    unsafe { info.as_ref() }
}

/// Sees to it that a vCPU has a part: the first have theirs in the page, others get a page of their own.
///
/// # Errors
///
/// What Xen says; `ENOMEM` without memory for it.
pub fn register(xen: &impl Hypercall, number: usize) -> Result<(), XenErrno> {
    let Some(slot) = number.checked_sub(LEGACY_MAX_VCPUS) else { return Ok(()) };
    let slot = REGISTERED.get(slot).ok_or(XenErrno::NOENT)?;
    if !slot.load(Ordering::Relaxed).is_null() {
        return Ok(()); // by an attempt that failed later: Xen takes it once
    }
    let page = Page::zeroed().ok_or(XenErrno::NOMEM)?;
    let place = RegisterVcpuInfo { mfn: page.gfn().0, offset: 0, rsvd: 0 };
    // SAFETY: the page is ours. If Xen takes it, it is never given out again; if Xen refuses, it is freed.
    unsafe { vcpu::register_info(xen, number as u32, place) }?;
    let gfn: Gfn = page.into_gfn();
    // Release: pairs with the Acquire of `of_vcpu`: Xen has the place.
    slot.store(gfn.address() as *mut VcpuInfo, Ordering::Release);
    Ok(())
}

const _: () = assert!(size_of::<SharedInfo>() <= PAGE_SIZE as usize);
