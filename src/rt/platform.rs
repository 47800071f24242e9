//! What an application is given.

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

/// The grant table of a domain under Xen.
pub type Grants = GrantTable<Xen>;

/// The contents of the modules.
pub(crate) type Modules = heapless::Vec<&'static [u8], MAX_MODULES>;

/// The domain that the application runs in.
#[derive(Debug)]
pub struct Platform {
    pub(crate) start_info: StartInfo,
    pub(crate) domain: Domain,
    pub(crate) modules: Modules,
    pub(crate) ram_bytes: u64,
}

/// What Xen says of itself and of the domain, each asked for once, when it is wanted: a question costs thousands of
/// instructions. All but `vcpus` are empty where there is no Xen.
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
    /// The domain's number; [`DomId::SELF`] where Xen doesn't tell.
    pub fn dom_id(&self) -> DomId {
        self.domain.xen.map_or(DomId::SELF, |xen| xen.domain())
    }

    /// Whether this is the control domain, which Xen itself started.
    pub fn is_control_domain(&self) -> bool {
        self.start_info.is_initial_domain()
    }

    /// The version of Xen.
    pub fn xen_version(&self) -> version::Version {
        let ask = |xen| version::version(&xen).ok();
        self.domain.ask(&self.domain.version, version::Version::default(), ask)
    }

    /// What this Xen offers.
    pub fn features(&self) -> Features {
        self.domain.ask(&self.domain.features, Features::empty(), |xen| version::features(&xen).ok())
    }

    /// The hypervisor; nothing only for an application that may run without.
    pub fn xen(&self) -> Option<Xen> {
        self.domain.xen
    }

    /// How many vCPUs the domain has. The application runs on the first; [`start_vcpus`](Self::start_vcpus) starts the
    /// others.
    pub fn vcpus(&self) -> u32 {
        self.domain.ask(&self.domain.vcpus, 1, |xen| Some(hypercall::vcpu::count(&xen)))
    }

    /// Starts all vCPUs of the domain; [`vcpu`] gives them work. Returns how many run.
    ///
    /// # Errors
    ///
    /// [`vcpu::StartError`]; those that run stay.
    pub fn start_vcpus(&self) -> Result<usize, vcpu::StartError> {
        self.xen().map_or(Ok(1), vcpu::start_all)
    }

    /// Bytes of memory that the domain has.
    pub fn memory(&self) -> u64 {
        self.ram_bytes
    }

    /// Bytes of memory that belong to nobody: what the heap has grown to is not counted, used or not.
    pub fn free_memory(&self) -> u64 {
        mm::memory().map_or(0, |memory| memory.with(|memory| memory.frames.free()) as u64 * PAGE_SIZE)
    }

    /// The domain's grant table, set up at the first call. It has version 1, or what the command line says:
    /// `grants=2`.
    ///
    /// # Errors
    ///
    /// [`GrantError`]: Xen refuses it, or there is no Xen; the next call tries again.
    pub fn grants(&self) -> Result<&'static Grants, GrantError> {
        static GRANTS: Once<Grants> = Once::new();
        GRANTS.try_call_once(|| {
            let xen = self.xen().ok_or(OpError::Call(Op::QUERY_SIZE, XenErrno::NOSYS))?;
            let windows = mm::windows().ok_or(NoWindow { pages: 1 })?;
            let number = self.options().parse("grants").ok().flatten().unwrap_or(1);
            let version = Version::from_number(number)?;
            let config = Config { version, vcpus: self.vcpus() as usize, ..Config::default() };
            // SAFETY: it is made once, here, and there is no other.
            let grants = unsafe { GrantTable::new(xen, windows, config) }?;
            if before_halt(|| GRANTS.get().and_then(Grants::idle)).is_err() {
                log::warn!("only allocations look into the quarantine: too much is done before a vCPU halts");
            }
            Ok(grants)
        })
    }

    /// The options of the command line.
    pub fn options(&self) -> Options<'_> {
        self.start_info.options()
    }

    /// The files that the loader placed in memory beside the kernel.
    pub fn modules(&self) -> &[&'static [u8]] {
        &self.modules
    }

    /// Where `print!` and `log` go.
    pub fn console(&self) -> Output {
        console::output()
    }

    /// What the loader told, beyond what the methods above show of it.
    pub fn start_info(&self) -> &StartInfo {
        &self.start_info
    }
}
