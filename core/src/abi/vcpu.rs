//! `vcpu_op`. Sources: `xen/include/public/vcpu.h` and `hvm/hvm_vcpu.h`.

use super::assert_layout;

/// The number of a vCPU operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct VcpuOp(pub u32);

impl VcpuOp {
    /// Sets a vCPU's initial registers: [`VcpuContext`].
    #[doc(alias = "VCPUOP_initialise")]
    pub const INITIALISE: Self = Self(0);
    /// Starts a vCPU.
    #[doc(alias = "VCPUOP_up")]
    pub const UP: Self = Self(1);
    /// Stops a vCPU.
    #[doc(alias = "VCPUOP_down")]
    pub const DOWN: Self = Self(2);
    /// Returns whether a vCPU is up; `-ENOENT` if the domain has no such vCPU.
    #[doc(alias = "VCPUOP_is_up")]
    pub const IS_UP: Self = Self(3);
    /// Sets the vCPU's timer: [`SetSingleshotTimer`].
    #[doc(alias = "VCPUOP_set_singleshot_timer")]
    pub const SET_SINGLESHOT_TIMER: Self = Self(8);
    /// Sets the place of a vCPU's [`VcpuInfo`](super::shared_info::VcpuInfo): [`RegisterVcpuInfo`].
    #[doc(alias = "VCPUOP_register_vcpu_info")]
    pub const REGISTER_VCPU_INFO: Self = Self(10);
    /// Sends a vCPU a non-maskable interrupt.
    #[doc(alias = "VCPUOP_send_nmi")]
    pub const SEND_NMI: Self = Self(11);
}

/// The initial registers of a vCPU in an HVM or PVH domain, in 64-bit mode.
#[doc(alias = "vcpu_hvm_context")]
#[doc(alias = "vcpu_hvm_x86_64")]
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are registers and have their names")]
pub struct VcpuContext {
    /// [`MODE_64B`].
    pub mode: u32,
    /// Unused.
    pub pad: u32,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    /// Unused. The registers of a 32-bit vCPU need more space, and Xen always reads that much.
    pub rest: u64,
}
assert_layout!(VcpuContext, size = 128, align = 8, {
    mode: 0, rax: 8, rsp: 40, rdi: 64, rip: 72, rflags: 80, cr0: 88, cr3: 96, cr4: 104, efer: 112,
});

/// [`VcpuContext::mode`]: the vCPU starts in 64-bit mode.
#[doc(alias = "VCPU_HVM_MODE_64B")]
pub const MODE_64B: u32 = 1;

/// Argument of [`VcpuOp::SET_SINGLESHOT_TIMER`].
#[doc(alias = "vcpu_set_singleshot_timer")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SetSingleshotTimer {
    /// Expiry in nanoseconds since Xen booted. A time in the past expires at once.
    pub timeout_abs_ns: u64,
    /// Zero.
    pub flags: u32,
}
assert_layout!(SetSingleshotTimer, size = 16, align = 8, { timeout_abs_ns: 0, flags: 8 });

/// Argument of [`VcpuOp::REGISTER_VCPU_INFO`].
#[doc(alias = "vcpu_register_vcpu_info")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// The frame to hold it.
    pub mfn: u64,
    /// Offset in the frame, in bytes.
    pub offset: u32,
    /// Unused.
    pub rsvd: u32,
}
assert_layout!(RegisterVcpuInfo, size = 16, align = 8, { mfn: 0, offset: 8, rsvd: 12 });
