//! The control interface: operations on other domains, which only the control domain may make.

use super::{Hypercall, Number};
use crate::abi::control::{
    AFFINITY_HARD, Bitmap, Control, ControlOp, DomainInfo, HvmContext, InterfaceVersion, ReadConsole,
    SHADOW_SET_ALLOCATION, SYSCTL_READ_CONSOLE, SYSCTL_VERSION, SYSCTL_VERSION_NEXT, ShadowOp,
    TSC_NEVER_EMULATE, TscInfo, VcpuAffinity,
};
use crate::abi::{DomId, XenErrno};

/// What an operation wants and gives.
///
/// # Safety
///
/// It is plain data without padding, fits into [`Control::payload`], and each pattern of bits is a value.
pub unsafe trait Payload: Copy {}

macro_rules! payloads {
    ($($type:ty),* $(,)?) => {$(
        // SAFETY: integers alone, by their layout's check without a gap.
        unsafe impl Payload for $type {}
        const _: () = assert!(size_of::<$type>() <= size_of::<[u64; 16]>());
    )*};
}

payloads! {
    (), u64, crate::abi::control::CreateDomain15, crate::abi::control::CreateDomain17, DomainInfo, ShadowOp,
    HvmContext, TscInfo, VcpuAffinity,
}

/// An interface of a certain version.
#[derive(Clone, Copy, Debug)]
pub struct Interface<X> {
    xen: X,
    version: InterfaceVersion,
}

impl<X: Hypercall> Interface<X> {
    /// The interface of this version. A Xen that has another refuses each call, with `EACCES`.
    pub const fn new(xen: X, version: InterfaceVersion) -> Self {
        Self { xen, version }
    }

    /// Its version.
    pub fn version(&self) -> InterfaceVersion {
        self.version
    }

    /// The hypervisor.
    pub fn xen(&self) -> &X {
        &self.xen
    }

    /// Makes a call. Returns the domain that Xen names, and what it wrote.
    ///
    /// # Safety
    ///
    /// The payload is the operation's, and what it points to is valid for what Xen does with it.
    unsafe fn call<P: Payload>(
        &self,
        op: ControlOp,
        domain: DomId,
        payload: P,
    ) -> Result<(DomId, P), XenErrno> {
        let mut control =
            Control { cmd: op, interface_version: self.version, domain, pad: [0; 3], payload: [0; 16] };
        let place = (&raw mut control.payload).cast::<P>();
        // SAFETY: a payload fits and needs no more than the alignment of a word.
        unsafe { place.write(payload) };
        // SAFETY: Xen reads and writes `control`; the caller vouches for what it points to.
        unsafe { self.xen.call(Number::DOMCTL, [&raw mut control as u64, 0, 0, 0, 0]) }?;
        // SAFETY: as above; any bits are a value.
        Ok((control.domain, unsafe { place.read() }))
    }

    /// Makes an empty domain; Xen chooses its number.
    ///
    /// # Errors
    ///
    /// What Xen says.
    ///
    /// # Safety
    ///
    /// The payload is the one that this version of the interface has.
    #[doc(alias = "XEN_DOMCTL_createdomain")]
    pub unsafe fn create<P: Payload>(&self, payload: P) -> Result<DomId, XenErrno> {
        // SAFETY: the caller's word; it has no pointers.
        let (domain, _) = unsafe { self.call(ControlOp::CREATE_DOMAIN, DomId(0), payload) }?;
        Ok(domain)
    }

    /// Ends a domain, and takes back what it has.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_destroydomain")]
    pub fn destroy(&self, domain: DomId) -> Result<(), XenErrno> {
        self.simply(ControlOp::DESTROY_DOMAIN, domain, ())
    }

    /// Keeps a domain from running. Calls count.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_pausedomain")]
    pub fn pause(&self, domain: DomId) -> Result<(), XenErrno> {
        self.simply(ControlOp::PAUSE_DOMAIN, domain, ())
    }

    /// Lets it run, once for each call that kept it from it.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_unpausedomain")]
    pub fn unpause(&self, domain: DomId) -> Result<(), XenErrno> {
        self.simply(ControlOp::UNPAUSE_DOMAIN, domain, ())
    }

    /// What a domain is. Xen answers for the next that there is; that is none.
    ///
    /// # Errors
    ///
    /// `ESRCH` where there is no such domain, and what Xen says.
    #[doc(alias = "XEN_DOMCTL_getdomaininfo")]
    pub fn info(&self, domain: DomId) -> Result<DomainInfo, XenErrno> {
        // SAFETY: any bits are a value.
        let empty: DomainInfo = unsafe { core::mem::zeroed() };
        // SAFETY: it is the operation's, and has no pointers.
        let (_, info) = unsafe { self.call(ControlOp::GET_DOMAIN_INFO, domain, empty) }?;
        if info.domain == domain { Ok(info) } else { Err(XenErrno::SRCH) }
    }

    /// How many vCPUs a domain has, for good.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_max_vcpus")]
    pub fn set_vcpus(&self, domain: DomId, vcpus: u32) -> Result<(), XenErrno> {
        self.simply(ControlOp::MAX_VCPUS, domain, u64::from(vcpus))
    }

    /// How much memory a domain may have, in KiB.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_max_mem")]
    pub fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<(), XenErrno> {
        self.simply(ControlOp::MAX_MEM, domain, kib)
    }

    /// How much memory there is for a domain's nested page tables, in MiB. Only once it has vCPUs.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION")]
    pub fn set_paging_memory(&self, domain: DomId, mib: u32) -> Result<(), XenErrno> {
        let payload = ShadowOp { op: SHADOW_SET_ALLOCATION, mb: mib, ..ShadowOp::default() };
        self.simply(ControlOp::SHADOW_OP, domain, payload)
    }

    /// Has a vCPU run on this processor alone.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_setvcpuaffinity")]
    pub fn pin(&self, domain: DomId, vcpu: u32, processor: u32) -> Result<(), XenErrno> {
        const BITS: u32 = 256;
        let mut bitmap = [0u64; BITS as usize / 64];
        *bitmap.get_mut(processor as usize / 64).ok_or(XenErrno::INVAL)? = 1 << (processor % 64);
        let hard = Bitmap { bitmap: bitmap.as_mut_ptr() as u64, nr_bits: BITS, pad: 0 };
        let payload = VcpuAffinity { vcpu, flags: AFFINITY_HARD, hard, soft: Bitmap::default() };
        // SAFETY: Xen reads and writes as many bits as it is told, of an array that lives until the call is over.
        unsafe { self.call(ControlOp::SET_VCPU_AFFINITY, domain, payload) }.map(drop)
    }

    /// Has a domain read the processor's time-stamp counter, where Xen would catch each read to make up for what the counter
    /// lacks. Only before it has run.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_settscinfo")]
    pub fn set_native_tsc(&self, domain: DomId) -> Result<(), XenErrno> {
        self.simply(
            ControlOp::SET_TSC_INFO,
            domain,
            TscInfo { mode: TSC_NEVER_EMULATE, ..TscInfo::default() },
        )
    }

    /// Sets the processor state of a domain.
    ///
    /// # Errors
    ///
    /// What Xen says.
    #[doc(alias = "XEN_DOMCTL_sethvmcontext")]
    pub fn set_context(&self, domain: DomId, records: &[u8]) -> Result<(), XenErrno> {
        let size = u32::try_from(records.len()).map_err(|_| XenErrno::INVAL)?;
        let payload = HvmContext { size, pad: 0, buffer: records.as_ptr() as u64 };
        // SAFETY: Xen reads as many bytes as it is told, of records that are borrowed here.
        unsafe { self.call(ControlOp::SET_HVM_CONTEXT, domain, payload) }.map(drop)
    }

    fn simply<P: Payload>(&self, op: ControlOp, domain: DomId, payload: P) -> Result<(), XenErrno> {
        // SAFETY: callers are the operations above, whose payloads have no pointers.
        unsafe { self.call(op, domain, payload) }.map(drop)
    }
}

/// Reads on in Xen's console, from `index` on, which is moved. Returns what was read; nothing, where there is no more.
///
/// # Errors
///
/// What Xen says; `EACCES` where it has a version of `sysctl` that isn't known.
#[doc(alias = "XEN_SYSCTL_readconsole")]
pub fn read_console<'b>(
    xen: &impl Hypercall,
    index: &mut u32,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], XenErrno> {
    let mut argument = ReadConsole {
        cmd: SYSCTL_READ_CONSOLE,
        interface_version: SYSCTL_VERSION,
        clear: 0,
        incremental: 1,
        pad: [0; 2],
        index: *index,
        buffer: buffer.as_mut_ptr() as u64,
        count: u32::try_from(buffer.len()).unwrap_or(u32::MAX),
        rest: [0; 27],
    };
    // Which version it has, a Xen says by refusing the others.
    let mut answer = Err(XenErrno::ACCES);
    for version in [SYSCTL_VERSION, SYSCTL_VERSION_NEXT] {
        argument.interface_version = version;
        // SAFETY: Xen reads and writes the argument, and as many bytes of the buffer as it is told.
        answer = unsafe { xen.call(Number::SYSCTL, [&raw mut argument as u64, 0, 0, 0, 0]) };
        if answer != Err(XenErrno::ACCES) {
            break;
        }
    }
    answer?;
    *index = argument.index;
    Ok(&buffer[..(argument.count as usize).min(buffer.len())])
}
