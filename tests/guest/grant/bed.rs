//! What a case stands on: two domains with a grant table each, or one that plays both.

use alloc::string::ToString;

use granite::abi::grant::op::{MapFlags, MapGrantRef};
use granite::abi::grant::{GrantHandle, GrantRef, Status};
use granite::abi::{DomId, Gfn};
use granite::grant::{GrantTable, Stats, Version};
use granite::hypercall::grant as op;
use granite::mm::Page;

#[cfg(granite_guest)]
use crate::harness::Rig;
use crate::harness::{Context, NotPassed};

/// The hypervisor of the rig.
#[cfg(granite_guest)]
pub type Hypervisor = granite::hypercall::Xen;
/// The hypervisor of the rig.
#[cfg(not(granite_guest))]
pub type Hypervisor = &'static granite::hypercall::fake::FakeXen;

/// A table of the rig.
pub type Table = GrantTable<Hypervisor>;

/// The other domain's table, by which it maps and copies; on `pair` it is told to.
#[cfg(granite_guest)]
pub type Them = super::them::Them;
/// The other domain's table, by which it maps and copies.
#[cfg(not(granite_guest))]
pub type Them = &'static Table;

/// Two domains, us and them; on `solo`, the same one.
pub struct Bed {
    /// Our table.
    pub us: &'static Table,
    /// Theirs.
    pub them: Them,
    /// Our number.
    pub our_id: DomId,
    /// Theirs.
    pub their_id: DomId,
    /// How our table was before the case.
    before: Stats,
    #[cfg(granite_guest)]
    rig: crate::harness::Rig,
    /// References that [`page`](Self::page) keeps for ever, so far.
    #[cfg(granite_guest)]
    kept: core::cell::Cell<u32>,
    #[cfg(not(granite_guest))]
    pub fake: host::Fake,
}

impl Bed {
    /// Checks at the end of a case that nothing of ours is out that wasn't before.
    pub fn nothing_lost(&self) -> Result<(), NotPassed> {
        let after = self.us.stats();
        // A growth of the table is no loss.
        let is = (after.in_use, after.quarantined, after.lost);
        #[cfg(granite_guest)]
        let kept = self.kept.get();
        #[cfg(not(granite_guest))]
        let kept = 0;
        let was = (self.before.in_use + kept, self.before.quarantined, self.before.lost);
        granite::check!(is == was, "{} was {}", after, self.before);
        Ok(())
    }
}

/// An error is a failed case.
pub fn fail(error: impl ToString) -> NotPassed {
    NotPassed::Fail(error.to_string())
}

/// One map operation, straight to Xen, at an address of the caller's.
pub fn raw_map(table: &Table, dom: DomId, gref: GrantRef, flags: MapFlags, at: Gfn) -> (Status, GrantHandle) {
    let mut map = [MapGrantRef {
        host_addr: at.address(),
        flags,
        gref,
        dom,
        status: Status::UNANSWERED,
        handle: GrantHandle(u32::MAX),
        dev_bus_addr: 0,
    }];
    // SAFETY: callers name free windows, or what must be refused.
    let called = unsafe { op::map(table.xen(), &mut map) };
    assert!(called.is_ok() || map[0].status == Status::UNANSWERED);
    (map[0].status, map[0].handle)
}

#[cfg(granite_guest)]
impl Bed {
    /// The domain's own table, if it has that version: another boot has the other.
    pub fn new(context: &Context, version: Version) -> Result<Self, NotPassed> {
        let platform = context.platform()?;
        let table = platform.grants().map_err(fail)?;
        granite::check!(table.version() == version, "{table:?}");
        let our_id = platform.dom_id();
        let (them, their_id) = match context.rig {
            Rig::Pair => (Them::Told(context.side), context.side_child()?),
            _ => (Them::Us(table), our_id),
        };
        let (before, kept, rig) = (table.stats(), Default::default(), context.rig);
        Ok(Self { us: table, them, our_id, their_id, before, rig, kept })
    }

    /// Their table, where it is ours too.
    pub fn their_table(&self) -> Result<&'static Table, NotPassed> {
        match self.them {
            Them::Us(table) => Ok(table),
            Them::Told(_) => Err(fail("the other domain has its own")),
        }
    }

    /// Their windows that are free.
    pub fn their_free_windows(&self) -> usize {
        self.them.free_windows()
    }

    /// A page that can be granted, and mapped by the domain itself.
    ///
    /// A domain that maps a page of its own at another address loses it at the first; a mapping at that first
    /// address, by a reference that is kept for ever, keeps it there.
    pub fn page(&self) -> Result<Page, NotPassed> {
        use alloc::collections::BTreeSet;
        use granite::grant::ReadWrite;
        use granite::sync::IrqMutex;

        static KEPT: IrqMutex<BTreeSet<u64>> = IrqMutex::new(BTreeSet::new());
        let page = Page::zeroed().ok_or_else(|| fail("no memory"))?;
        if self.rig == Rig::Pair {
            return Ok(page); // it is another domain that maps it
        }
        if KEPT.with(|kept| kept.insert(page.gfn().0)) {
            let gfn = page.gfn();
            // SAFETY: pages that this domain maps are kept at their own address, here.
            unsafe { self.us.allow_own_mappings() };
            // SAFETY: a second owner of the page, which is never dropped.
            let grant =
                self.us.grant::<ReadWrite>(unsafe { Page::from_gfn(gfn) }, self.our_id).map_err(fail)?;
            let (status, _) = raw_map(self.us, self.our_id, grant.gref(), MapFlags::HOST_MAP, gfn);
            core::mem::forget(grant);
            self.kept.set(self.kept.get() + 1);
            granite::check!(status == Status::OKAY, "{status}");
        }
        Ok(page)
    }

    /// A page of theirs.
    pub fn their_page(&self) -> Result<Page, NotPassed> {
        self.page()
    }
}

#[cfg(not(granite_guest))]
pub mod host {
    use super::{Bed, Context, DomId, NotPassed, Page, Table, Version, fail};
    use granite::abi::XenErrno;
    use granite::grant::{Config, GrantTable};
    use granite::hypercall::fake::{FakeXen, Machine};
    use granite::mm::page::Pool;
    use granite::mm::windows::Windows;

    /// What only the fake can do.
    pub struct Fake {
        /// Our domain.
        pub us: &'static FakeXen,
        /// Theirs.
        pub them: &'static FakeXen,
        /// A PV domain's table, and its number.
        pub pv: &'static Table,
        pub pv_id: DomId,
        pools: [&'static Pool; 3],
    }

    /// A domain with a pool of pages and a table.
    fn domain(
        xen: FakeXen,
        version: Version,
        peer_quota: u32,
    ) -> Result<(&'static FakeXen, &'static Pool, &'static Table), NotPassed> {
        let xen: &'static FakeXen = Box::leak(Box::new(xen));
        let [ram, windows] = xen.machine().layout(xen.dom_id());
        // SAFETY: the RAM is the domain's and is used by nobody else; the machine stays for ever.
        let pool = Box::leak(Box::new(unsafe { Pool::new(ram) }));
        // SAFETY: the addresses are empty, and this domain's.
        let windows = Box::leak(Box::new(unsafe { Windows::new(windows) }));
        let config = Config { version, vcpus: 8, peer_quota, ..Config::default() };
        // SAFETY: it is the only table of a new domain.
        let table = unsafe { GrantTable::new(xen, windows, config) }.map_err(fail)?;
        Ok((xen, pool, Box::leak(Box::new(table))))
    }

    impl Bed {
        /// Three domains on a new machine: us, them, and a PV domain.
        pub fn new(_: &Context, version: Version) -> Result<Self, NotPassed> {
            Self::on_new_machine(version)
        }

        /// The same, for cases without a context.
        pub fn on_new_machine(version: Version) -> Result<Self, NotPassed> {
            Self::with(version, 8, u32::MAX)
        }

        /// The same, where our table may have so many frames.
        pub fn with_frames(version: Version, frames: u32) -> Result<Self, NotPassed> {
            Self::with(version, frames, u32::MAX)
        }

        /// The same, where a peer may keep so many pages.
        pub fn with(version: Version, frames: u32, peer_quota: u32) -> Result<Self, NotPassed> {
            let machine = Machine::new();
            let us = machine.domain();
            machine.limit_frames(us.dom_id(), frames as usize);
            let (us, our_pool, our_table) = domain(us, version, peer_quota)?;
            let (them, their_pool, their_table) = domain(machine.domain(), version, u32::MAX)?;
            let mut pv = machine.domain();
            pv.pv = true;
            let (pv, pv_pool, pv_table) = domain(pv, version, u32::MAX)?;
            let pools = [our_pool, their_pool, pv_pool];
            Ok(Self {
                us: our_table,
                them: their_table,
                our_id: us.dom_id(),
                their_id: them.dom_id(),
                before: our_table.stats(),
                fake: Fake { us, them, pv: pv_table, pv_id: pv.dom_id(), pools },
            })
        }

        /// Another of the same kind.
        pub fn new_like(other: &Self) -> Result<Self, NotPassed> {
            Self::on_new_machine(other.us.version())
        }

        /// A page of ours.
        pub fn page(&self) -> Result<Page, NotPassed> {
            self.fake.pools[0].zeroed().ok_or_else(|| fail(XenErrno::NOMEM))
        }

        /// Their table.
        pub fn their_table(&self) -> Result<&'static Table, NotPassed> {
            Ok(self.them)
        }

        /// Their windows that are free.
        pub fn their_free_windows(&self) -> usize {
            self.them.windows().free()
        }

        /// A page of theirs.
        pub fn their_page(&self) -> Result<Page, NotPassed> {
            self.fake.pools[1].zeroed().ok_or_else(|| fail(XenErrno::NOMEM))
        }

        /// Pages of ours that are free.
        pub fn free_pages(&self) -> usize {
            self.fake.pools[0].free()
        }

        /// A page of the PV domain's.
        pub fn pv_page(&self) -> Result<Page, NotPassed> {
            self.fake.pools[2].zeroed().ok_or_else(|| fail(XenErrno::NOMEM))
        }
    }
}
