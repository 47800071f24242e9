//! The control interface: operations on other domains, for the control domain only.

use super::{Hypercall, Number};
use crate::abi::domctl::{
    AFFINITY_HARD, Bitmap, Control, ControlOp, DomainInfo, HvmContext, InterfaceVersion, ReadConsole,
    SHADOW_SET_ALLOCATION, SYSCTL_READ_CONSOLE, SYSCTL_VERSION, SYSCTL_VERSION_NEXT, ShadowOp,
    TSC_NEVER_EMULATE, TscInfo, VcpuAffinity,
};
use crate::abi::{DomId, XenErrno};

/// An operation's argument and result.
///
/// # Safety
///
/// The type must be plain data without padding and fit into [`Control::payload`], and every bit pattern must be a
/// value of it.
pub unsafe trait Payload: Copy {}

macro_rules! payloads {
    ($($type:ty),* $(,)?) => {$(
        // SAFETY: the type has only integers, and its layout check rules out gaps.
        unsafe impl Payload for $type {}
        const _: () = assert!(size_of::<$type>() <= size_of::<[u64; 16]>());
    )*};
}

payloads! {
    (), u64, crate::abi::domctl::CreateDomain15, crate::abi::domctl::CreateDomain17, DomainInfo, ShadowOp,
    HvmContext, TscInfo, VcpuAffinity,
}

/// The control interface in one version.
#[derive(Clone, Copy, Debug)]
pub struct Interface<X> {
    xen: X,
    version: InterfaceVersion,
}

impl<X: Hypercall> Interface<X> {
    /// Creates the interface for `version`. A Xen with another version refuses each call with `EACCES`.
    pub const fn new(xen: X, version: InterfaceVersion) -> Self {
        Self { xen, version }
    }

    /// Returns the interface's version.
    pub fn version(&self) -> InterfaceVersion {
        self.version
    }

    /// Returns the hypervisor.
    pub fn xen(&self) -> &X {
        &self.xen
    }

    /// Makes a call. Returns the domain named by Xen, and the payload after Xen's writes.
    ///
    /// # Safety
    ///
    /// `payload` must belong to `op`, and its pointers must be valid for Xen's reads and writes.
    unsafe fn call<P: Payload>(
        &self,
        op: ControlOp,
        domain: DomId,
        payload: P,
    ) -> Result<(DomId, P), XenErrno> {
        let mut control =
            Control { cmd: op, interface_version: self.version, domain, pad: [0; 3], payload: [0; 16] };
        let place = (&raw mut control.payload).cast::<P>();
        // SAFETY: a payload fits, and its alignment is at most a word's.
        unsafe { place.write(payload) };
        // SAFETY: Xen reads and writes `control`; the caller vouches for the payload's pointers.
        unsafe { self.xen.call(Number::DOMCTL, [&raw mut control as u64, 0, 0, 0, 0]) }?;
        // SAFETY: as above; every bit pattern is a value.
        Ok((control.domain, unsafe { place.read() }))
    }

    /// Creates an empty domain; Xen chooses its number.
    ///
    /// # Errors
    ///
    /// `EPERM` unless this is a control domain; `EINVAL` for a configuration refused by Xen; `ENOMEM` if Xen has no
    /// memory.
    ///
    /// # Safety
    ///
    /// `payload` must be the structure of this version of the interface.
    #[doc(alias = "XEN_DOMCTL_createdomain")]
    pub unsafe fn create<P: Payload>(&self, payload: P) -> Result<DomId, XenErrno> {
        // SAFETY: guaranteed by the caller; the payload has no pointers.
        let (domain, _) = unsafe { self.call(ControlOp::CREATE_DOMAIN, DomId(0), payload) }?;
        Ok(domain)
    }

    /// Destroys a domain and reclaims its resources.
    ///
    /// # Errors
    ///
    /// `EPERM` unless this is a control domain; `ESRCH` if there is no such domain.
    #[doc(alias = "XEN_DOMCTL_destroydomain")]
    pub fn destroy(&self, domain: DomId) -> Result<(), XenErrno> {
        self.simply(ControlOp::DESTROY_DOMAIN, domain, ())
    }

    /// Pauses a domain. Pauses nest.
    ///
    /// # Errors
    ///
    /// `EPERM` unless this is a control domain; `ESRCH` if there is no such domain; `EINVAL` for this domain itself.
    #[doc(alias = "XEN_DOMCTL_pausedomain")]
    pub fn pause(&self, domain: DomId) -> Result<(), XenErrno> {
        self.simply(ControlOp::PAUSE_DOMAIN, domain, ())
    }

    /// Undoes one [`pause`](Self::pause): call it once per pause.
    ///
    /// # Errors
    ///
    /// `EPERM` unless this is a control domain; `ESRCH` if there is no such domain; `EINVAL` if it isn't paused.
    #[doc(alias = "XEN_DOMCTL_unpausedomain")]
    pub fn unpause(&self, domain: DomId) -> Result<(), XenErrno> {
        self.simply(ControlOp::UNPAUSE_DOMAIN, domain, ())
    }

    /// Returns a domain's state. If the domain doesn't exist, Xen answers for the next existing one; that answer is
    /// an error here.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such domain; otherwise Xen's errno.
    #[doc(alias = "XEN_DOMCTL_getdomaininfo")]
    pub fn info(&self, domain: DomId) -> Result<DomainInfo, XenErrno> {
        // SAFETY: every bit pattern is a value.
        let empty: DomainInfo = unsafe { core::mem::zeroed() };
        // SAFETY: it is the operation's payload, and has no pointers.
        let (_, info) = unsafe { self.call(ControlOp::GET_DOMAIN_INFO, domain, empty) }?;
        if info.domain == domain { Ok(info) } else { Err(XenErrno::SRCH) }
    }

    /// Sets a domain's number of vCPUs, for good.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such domain; `EINVAL` for more vCPUs than the domain was created for; `ENOMEM` if Xen has
    /// no memory.
    #[doc(alias = "XEN_DOMCTL_max_vcpus")]
    pub fn set_vcpus(&self, domain: DomId, vcpus: u32) -> Result<(), XenErrno> {
        self.simply(ControlOp::MAX_VCPUS, domain, u64::from(vcpus))
    }

    /// Sets the maximum memory of a domain, in KiB.
    ///
    /// # Errors
    ///
    /// `EPERM` unless this is a control domain; `ESRCH` if there is no such domain.
    #[doc(alias = "XEN_DOMCTL_max_mem")]
    pub fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<(), XenErrno> {
        self.simply(ControlOp::MAX_MEM, domain, kib)
    }

    /// Sets the memory for a domain's nested page tables, in MiB. The domain must have its vCPUs already.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such domain; `EINVAL` if it has no vCPU; `ENOMEM` if Xen has no memory.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION")]
    pub fn set_paging_memory(&self, domain: DomId, mib: u32) -> Result<(), XenErrno> {
        let payload = ShadowOp { op: SHADOW_SET_ALLOCATION, mb: mib, ..ShadowOp::default() };
        self.simply(ControlOp::SHADOW_OP, domain, payload)
    }

    /// Pins a vCPU to one processor.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a processor number above 255; otherwise Xen's errno.
    #[doc(alias = "XEN_DOMCTL_setvcpuaffinity")]
    pub fn pin(&self, domain: DomId, vcpu: u32, processor: u32) -> Result<(), XenErrno> {
        const BITS: u32 = 256;
        let mut bitmap = [0u64; BITS as usize / 64];
        *bitmap.get_mut(processor as usize / 64).ok_or(XenErrno::INVAL)? = 1 << (processor % 64);
        let hard = Bitmap { bitmap: bitmap.as_mut_ptr() as u64, nr_bits: BITS, pad: 0 };
        let payload = VcpuAffinity { vcpu, flags: AFFINITY_HARD, hard, soft: Bitmap::default() };
        // SAFETY: Xen reads and writes `nr_bits` bits of an array that outlives the call.
        unsafe { self.call(ControlOp::SET_VCPU_AFFINITY, domain, payload) }.map(drop)
    }

    /// Lets a domain read the processor's time-stamp counter directly, where Xen would otherwise trap each read to
    /// make up for the counter's deficiencies. Call it before the domain has run.
    ///
    /// # Errors
    ///
    /// `ESRCH` if there is no such domain; `EINVAL` for this domain itself.
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
    /// `EINVAL` for records longer than `u32::MAX` bytes; otherwise Xen's errno.
    #[doc(alias = "XEN_DOMCTL_sethvmcontext")]
    pub fn set_context(&self, domain: DomId, records: &[u8]) -> Result<(), XenErrno> {
        let size = u32::try_from(records.len()).map_err(|_| XenErrno::INVAL)?;
        let payload = HvmContext { size, pad: 0, buffer: records.as_ptr() as u64 };
        // SAFETY: Xen reads `size` bytes of the records, which are borrowed here.
        unsafe { self.call(ControlOp::SET_HVM_CONTEXT, domain, payload) }.map(drop)
    }

    fn simply<P: Payload>(&self, op: ControlOp, domain: DomId, payload: P) -> Result<(), XenErrno> {
        // SAFETY: all callers are operations above, with payloads without pointers.
        unsafe { self.call(op, domain, payload) }.map(drop)
    }
}

/// Reads Xen's console from `index` on, and advances `index`. Returns the bytes read: empty at the end.
///
/// # Errors
///
/// `EACCES` if Xen's version of `sysctl` is unknown; otherwise Xen's errno.
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
    // Xen refuses every version but its own, so try each.
    let mut answer = Err(XenErrno::ACCES);
    for version in [SYSCTL_VERSION, SYSCTL_VERSION_NEXT] {
        argument.interface_version = version;
        // SAFETY: Xen reads and writes the argument, and writes at most `count` bytes of the buffer.
        answer = unsafe { xen.call(Number::SYSCTL, [&raw mut argument as u64, 0, 0, 0, 0]) };
        if answer != Err(XenErrno::ACCES) {
            break;
        }
    }
    answer?;
    *index = argument.index;
    Ok(&buffer[..(argument.count as usize).min(buffer.len())])
}
