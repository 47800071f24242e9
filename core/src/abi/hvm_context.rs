//! The processor state of a domain, as its toolstack writes it: records, each after a [`Descriptor`]. Sources:
//! `xen/include/public/hvm/save.h` and `arch-x86/hvm/save.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::assert_layout;

/// The header of each record.
#[doc(alias = "hvm_save_descriptor")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Descriptor {
    /// The kind of record: [`HEADER`], [`CPU`] or [`END`].
    pub typecode: u16,
    /// The record's owner: for a [`Cpu`], the vCPU.
    pub instance: u16,
    /// Bytes in the record, without this descriptor.
    pub length: u32,
}
assert_layout!(Descriptor, size = 8, align = 4, { typecode: 0, instance: 2, length: 4 });

/// [`Descriptor::typecode`]: the last record, empty.
pub const END: u16 = 0;
/// [`Descriptor::typecode`]: the first record, a [`Header`].
pub const HEADER: u16 = 1;
/// [`Descriptor::typecode`]: a [`Cpu`].
pub const CPU: u16 = 2;

/// Describes the records: their format, and the Xen and the processor they come from.
#[doc(alias = "hvm_save_header")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Header {
    /// The format's magic number.
    pub magic: u32,
    /// The format's version.
    pub version: u32,
    /// The changeset of the writing Xen; any value will do.
    pub changeset: u64,
    /// EAX of CPUID leaf 1 on the processor of origin.
    pub cpuid: u32,
    /// The frequency of the domain's time-stamp counter, in kHz; 0 for the machine's own.
    pub gtsc_khz: u32,
}
assert_layout!(Header, size = 24, align = 8, { magic: 0, version: 4, changeset: 8, cpuid: 16, gtsc_khz: 20 });

impl Header {
    /// The header for the format described here.
    #[doc(alias = "HVM_FILE_MAGIC")]
    #[doc(alias = "HVM_FILE_VERSION")]
    pub const CURRENT: Self = Self { magic: 0x5438_1286, version: 1, changeset: 0, cpuid: 0, gtsc_khz: 0 };
}

/// A vCPU's registers.
#[doc(alias = "hvm_hw_cpu")]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are registers and have their names")]
pub struct Cpu {
    pub fpu_regs: [u64; 64],
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub r8_to_r15: [u64; 8],
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub dr0_to_dr3: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,
    /// CS, DS, ES, FS, GS, SS, TR and LDTR, here and in the next lists.
    pub selectors: [u32; 8],
    /// The same, then IDTR and GDTR.
    pub limits: [u32; 10],
    /// In the order of `limits`.
    pub bases: [u64; 10],
    pub access: [u32; 8],
    pub sysenter: [u64; 3],
    pub shadow_gs: u64,
    /// Flags, LSTAR, STAR, CSTAR, the syscall mask, EFER, TSC_AUX.
    pub msrs: [u64; 7],
    pub tsc: u64,
    pub pending_event: u32,
    pub error_code: u32,
    pub flags: u32,
    pub pad0: u32,
}
assert_layout!(Cpu, size = 1032, align = 8, {
    fpu_regs: 0, rax: 512, rbx: 520, rsp: 568, r8_to_r15: 576, rip: 640, rflags: 648, cr0: 656, cr4: 680, dr6: 720,
    dr7: 728, selectors: 736, limits: 768, bases: 808, access: 888, sysenter: 920, shadow_gs: 944, msrs: 952,
    tsc: 1008, pending_event: 1016, error_code: 1020, flags: 1024,
});
