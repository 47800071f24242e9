//! The cost of grants in a guest, in instructions: `cargo xtask bench`. QEMU counts them (`-icount shift=0`: a tick
//! of the time-stamp counter is an instruction). Reading the counter traps to Xen; that cost is constant and
//! subtracted.

#![cfg_attr(granite_guest, no_std, no_main)]

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use granite::abi::grant::op::{MapFlags, MapGrantRef, UnmapGrantRef};
use granite::abi::grant::{GrantHandle, GrantRef, Status};
use granite::abi::{DomId, XenErrno};
use granite::grant::freelist::Freelist;
use granite::grant::{Config, GrantTable, Version};
use granite::hypercall::{Hypercall, Number, Xen, grant as op};
use granite::mm;
use granite::prelude::*;
use granite::sync::Vcpu;

granite::entry!(main);

/// Xen, with a count of the hypercalls.
#[derive(Clone)]
struct Counted(Xen);

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: it forwards to Xen.
unsafe impl Vcpu for Counted {
    #[inline]
    fn index(&self) -> usize {
        self.0.index()
    }

    fn masked<R>(&self, run: impl FnOnce() -> R) -> R {
        self.0.masked(run)
    }
}

// SAFETY: it forwards to Xen.
unsafe impl Hypercall for Counted {
    fn domain(&self) -> DomId {
        self.0.domain()
    }

    unsafe fn call(&self, number: Number, arguments: [u64; 5]) -> Result<u64, XenErrno> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller guarantees it.
        unsafe { self.0.call(number, arguments) }
    }
}

/// Each figure is the minimum of this many rounds.
const ROUNDS: usize = 5;
const TIMES: u64 = 1000;

fn counter() -> u64 {
    // SAFETY: reading the counter changes no state.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Returns the instructions and hypercalls per call, over `times` calls.
fn cost(times: u64, mut work: impl FnMut()) -> (f64, f64) {
    let mut min = u64::MAX;
    let mut calls = 0;
    for _ in 0..ROUNDS {
        let empty = counter();
        let start = counter();
        calls = CALLS.load(Ordering::Relaxed);
        for _ in 0..times {
            work();
        }
        calls = CALLS.load(Ordering::Relaxed) - calls;
        min = min.min((counter() - start).saturating_sub(start - empty));
    }
    (min as f64 / times as f64, calls as f64 / times as f64)
}

fn print(what: &str, (instructions, calls): (f64, f64)) {
    println!("{what:48} {instructions:10.1} instructions {calls:6.3} hypercalls");
}

fn main(platform: &'static Platform) -> ExitCode {
    match measure(platform) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            error!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn measure(platform: &Platform) -> Result<(), &'static str> {
    let xen = Counted(platform.xen().ok_or("no Xen")?);
    let windows = mm::windows().ok_or("no windows")?;
    for version in [Version::V1, Version::V2] {
        println!("version {}", version.number());
        let config = Config { version, ..Config::default() };
        // SAFETY: the application has no other table, and all grants of the last one have ended.
        let table = unsafe { GrantTable::new(xen.clone(), windows, config) }.map_err(|_| "no table")?;
        one_page(&table, platform)?;
        many_pages(&table, platform)?;
    }
    Ok(())
}

fn one_page(table: &GrantTable<Counted>, platform: &Platform) -> Result<(), &'static str> {
    let list = Freelist::new(table.xen().clone(), GrantRef::FIRST_FREE, 1).map_err(|_| "no memory")?;
    list.grow(512).map_err(|_| "no memory")?;
    let pair = cost(TIMES, || {
        if let Ok(reference) = list.alloc() {
            let _ = list.free(reference);
        }
    });
    print("take and free a reference", pair);
    let mut page = Page::zeroed();
    let whole = cost(TIMES, || {
        let grant = page.take().and_then(|page| table.grant::<ReadWrite>(page, platform.dom_id()).ok());
        page = grant.and_then(|grant| grant.end_access().ok());
    });
    if page.is_none() {
        return Err("a grant failed");
    }
    print("grant a page and end it", whole);
    let beyond = whole.0 - pair.0;
    print("  beyond the reference", (beyond, whole.1));
    if table.version() == Version::V1 {
        println!("{} wanted: at most 90", if beyond <= 90.0 { "ok  " } else { "MISS" });
    }
    Ok(())
}

fn many_pages(table: &GrantTable<Counted>, platform: &Platform) -> Result<(), &'static str> {
    const PAGES: usize = 512;
    let id = platform.dom_id();
    let page = Page::zeroed().ok_or("no memory")?;
    let gfn = page.gfn();
    // SAFETY: the page has many owners, but only the last one may drop it.
    let alias = || unsafe { Page::from_gfn(gfn) };
    // A page of our own stays at its address only while it is mapped there.
    // SAFETY: it is mapped there until all mappings below are gone.
    unsafe { table.allow_own_mappings() };
    let keeps = table.grant::<ReadWrite>(alias(), id).map_err(|_| "a grant failed")?;
    let mut map = [MapGrantRef {
        host_addr: gfn.address(),
        flags: MapFlags::HOST_MAP,
        gref: keeps.gref(),
        dom: id,
        status: Status::UNANSWERED,
        handle: GrantHandle(0),
        dev_bus_addr: 0,
    }];
    // SAFETY: this maps the page at its own address.
    unsafe { op::map(table.xen(), &mut map) }.map_err(|_| "a map failed")?;
    let mut grants = Vec::new();
    for _ in 0..PAGES {
        grants.push(table.grant::<ReadWrite>(alias(), id).map_err(|_| "a grant failed")?);
    }
    let grefs: Vec<_> = grants.iter().map(|grant| grant.gref()).collect();
    let mut mapping = None;
    print_calls("map 512 pages", || mapping = table.map_all::<ReadWrite>(id, &grefs).ok());
    let mapping = mapping.ok_or("a map failed")?;
    let mut unmapped = Ok(());
    print_calls("unmap 512 pages", || unmapped = mapping.unmap().map_err(|_| "an unmap failed"));
    unmapped?;
    for grant in grants {
        let _ = grant.end_access().map_err(|_| "a grant is in use")?.into_gfn();
    }
    // The next version requires all mappings to be gone. Unmapping the page at its own address also loses the page.
    let mut unmap = [UnmapGrantRef {
        host_addr: gfn.address(),
        dev_bus_addr: 0,
        handle: map[0].handle,
        status: Status::UNANSWERED,
    }];
    // SAFETY: the page isn't used from here on.
    unsafe { op::unmap(table.xen(), &mut unmap) }.map_err(|_| "an unmap failed")?;
    let _ = (keeps.end_access().map_err(|_| "a grant is in use")?.into_gfn(), page.into_gfn());
    Ok(())
}

fn print_calls(what: &str, work: impl FnOnce()) {
    let before = CALLS.load(Ordering::Relaxed);
    work();
    let calls = CALLS.load(Ordering::Relaxed) - before;
    println!("{what:48} {:23} {calls:6} hypercalls", "");
}
