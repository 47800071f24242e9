//! The [`Platform`] passed to an application.

use spin::Once;

use crate::abi::grant::op::Op;
use crate::abi::{DomId, Features, PAGE_SIZE, XenErrno};
use crate::driver::console::{self, Output};
use crate::grant::{Config, GrantError, GrantTable, Version};
use crate::hypercall::grant::OpError;
use crate::hypercall::{self, Hypercall, Xen, version};
use crate::loader::{MAX_MODULES, Options, StartInfo};
use crate::mm;
use crate::mm::windows::NoWindow;
use crate::time::before_halt;
use crate::vcpu;

/// A grant table under Xen.
pub type Grants = GrantTable<Xen>;

/// The contents of the modules.
pub(crate) type Modules = heapless::Vec<&'static [u8], MAX_MODULES>;

/// The domain running the application.
///
/// ```no_run
/// # use granite::prelude::*;
///
/// fn show(platform: &'static Platform) {
///     let name = platform.options().get("name").unwrap_or("granite");
///     info!("{name}: domain {}, {} KiB free", platform.dom_id(), platform.free_memory() / 1024);
/// }
/// # let _ = show;
/// ```
#[derive(Debug)]
pub struct Platform {
    pub(crate) start_info: StartInfo,
    pub(crate) domain: Domain,
    pub(crate) modules: Modules,
    pub(crate) ram_bytes: u64,
}

/// Facts about Xen and the domain. Each is queried once, at its first use: a query costs thousands of instructions.
/// Without Xen, `version` and `features` are empty and `vcpus` is 1.
#[derive(Debug)]
pub struct Domain {
    xen: Option<Xen>,
    version: Once<version::Version>,
    features: Once<Features>,
    vcpus: Once<u32>,
}

impl Domain {
    #[cfg(granite_guest)]
    pub(crate) const fn new(xen: Option<Xen>) -> Self {
        Self { xen, version: Once::new(), features: Once::new(), vcpus: Once::new() }
    }

    fn ask<T: Copy>(&self, answer: &Once<T>, otherwise: T, ask: impl FnOnce(Xen) -> Option<T>) -> T {
        *answer.call_once(|| self.xen.and_then(ask).unwrap_or(otherwise))
    }
}

impl Platform {
    /// Returns the domain's number, or [`DomId::SELF`] if it can't be known.
    pub fn dom_id(&self) -> DomId {
        self.domain.xen.map_or(DomId::SELF, |xen| xen.domain())
    }

    /// Returns whether this is the control domain, the one started by Xen itself.
    pub fn is_control_domain(&self) -> bool {
        self.start_info.is_initial_domain()
    }

    /// Returns the version of Xen.
    pub fn xen_version(&self) -> version::Version {
        let ask = |xen| version::version(&xen).ok();
        self.domain.ask(&self.domain.version, version::Version::default(), ask)
    }

    /// Returns the features of this Xen.
    pub fn features(&self) -> Features {
        self.domain.ask(&self.domain.features, Features::empty(), |xen| version::features(&xen).ok())
    }

    /// Returns the hypervisor. `None` only if the application runs without Xen.
    pub fn xen(&self) -> Option<Xen> {
        self.domain.xen
    }

    /// Returns the number of the domain's vCPUs. The application runs on the first; [`start_vcpus`](Self::start_vcpus)
    /// starts the others.
    pub fn vcpus(&self) -> u32 {
        self.domain.ask(&self.domain.vcpus, 1, |xen| Some(hypercall::vcpu::count(&xen)))
    }

    /// Starts all vCPUs of the domain; [`vcpu`] gives them work. Returns the number of running vCPUs.
    ///
    /// # Errors
    ///
    /// [`vcpu::StartError`] if a vCPU can't be started. Those already running stay.
    pub fn start_vcpus(&self) -> Result<usize, vcpu::StartError> {
        self.xen().map_or(Ok(1), vcpu::start_all)
    }

    /// Returns the domain's memory in bytes.
    pub fn memory(&self) -> u64 {
        self.ram_bytes
    }

    /// Returns the bytes of memory in free page frames. Memory taken by the heap doesn't count, used or not.
    pub fn free_memory(&self) -> u64 {
        mm::memory().map_or(0, |memory| memory.with(|memory| memory.frames.free()) as u64 * PAGE_SIZE)
    }

    /// Returns the domain's grant table. The first call sets it up, with version 1 or as on the command line:
    /// `grants=2`.
    ///
    /// # Errors
    ///
    /// [`GrantError`] if there is no Xen, if Xen refuses, or if the command line asks for an unknown version. The next
    /// call tries again.
    pub fn grants(&self) -> Result<&'static Grants, GrantError> {
        static GRANTS: Once<Grants> = Once::new();
        GRANTS.try_call_once(|| {
            let xen = self.xen().ok_or(OpError::Call(Op::QUERY_SIZE, XenErrno::NOSYS))?;
            let windows = mm::windows().ok_or(NoWindow { pages: 1 })?;
            let number = self.options().parse("grants").ok().flatten().unwrap_or(1);
            let version = Version::from_number(number)?;
            let config = Config { version, vcpus: self.vcpus() as usize, ..Config::default() };
            // SAFETY: this is the only place that makes a grant table, and it makes one.
            let grants = unsafe { GrantTable::new(xen, windows, config) }?;
            if before_halt(|| GRANTS.get().and_then(Grants::idle)).is_err() {
                log::warn!(
                    "only allocations poll the quarantine: too many functions run before a vCPU halts"
                );
            }
            Ok(grants)
        })
    }

    /// Returns the command-line options.
    pub fn options(&self) -> Options<'_> {
        self.start_info.options()
    }

    /// Returns the files placed by the loader in memory beside the kernel.
    pub fn modules(&self) -> &[&'static [u8]] {
        &self.modules
    }

    /// Returns the destination of `print!` and `log`.
    pub fn console(&self) -> Output {
        console::output()
    }

    /// Returns the loader's start info. The methods above return parts of it.
    pub fn start_info(&self) -> &StartInfo {
        &self.start_info
    }
}
