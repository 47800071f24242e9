//! Events, time, vCPUs and the page shared by Xen.

use granite_core::abi::Number;
use granite_core::abi::event::{self, EventOp, Port, PortState, VirtualInterrupt};
use granite_core::abi::hvm;
use granite_core::abi::sched::ShutdownReason;
use granite_core::abi::shared_info::{self, SharedInfo, VcpuInfo, VcpuTimeInfo};
use granite_core::abi::vcpu::{self, VcpuContext, VcpuOp};

use super::{Row, offset_of, size_of};

/// Adds the rows of the structures.
pub fn structures(rows: &mut Vec<Row>) {
    layout!(rows, "struct vcpu_time_info" = VcpuTimeInfo {
        "version" = version, "tsc_timestamp" = tsc_timestamp, "system_time" = system_time,
        "tsc_to_system_mul" = tsc_to_system_mul, "tsc_shift" = tsc_shift, "flags" = flags,
    });
    layout!(rows, "struct vcpu_info" = VcpuInfo {
        "evtchn_upcall_pending" = upcall_pending, "evtchn_pending_sel" = pending_sel, "arch" = arch, "time" = time,
    });
    // The page continues after the part we use.
    layout!(rows, "((struct shared_info *)0)->vcpu_info[0]" = VcpuInfo {});
    for (c, offset) in [
        ("vcpu_info", offset_of!(SharedInfo, vcpu_info)),
        ("evtchn_pending", offset_of!(SharedInfo, evtchn_pending)),
        ("evtchn_mask", offset_of!(SharedInfo, evtchn_mask)),
        ("wc_version", offset_of!(SharedInfo, wc_version)),
        ("wc_sec", offset_of!(SharedInfo, wc_sec)),
        ("wc_nsec", offset_of!(SharedInfo, wc_nsec)),
        ("wc_sec_hi", offset_of!(SharedInfo, wc_sec_hi)),
    ] {
        rows.push((format!("offsetof(struct shared_info, {c})"), offset as u64));
    }
    layout!(rows, "evtchn_port_t" = Port {});
    layout!(rows, "struct evtchn_bind_interdomain" = event::BindInterdomain {
        "remote_dom" = remote_dom, "remote_port" = remote_port, "local_port" = local_port,
    });
    layout!(rows, "struct evtchn_bind_virq" = event::BindVirq { "virq" = virq, "vcpu" = vcpu, "port" = port });
    layout!(rows, "struct evtchn_bind_ipi" = event::BindIpi { "vcpu" = vcpu, "port" = port });
    layout!(rows, "struct evtchn_bind_vcpu" = event::BindVcpu { "port" = port, "vcpu" = vcpu });
    layout!(rows, "struct evtchn_alloc_unbound" = event::AllocUnbound {
        "dom" = dom, "remote_dom" = remote_dom, "port" = port,
    });
    layout!(rows, "struct evtchn_send" = event::OfPort { "port" = port });
    layout!(rows, "struct evtchn_close" = event::OfPort { "port" = port });
    layout!(rows, "struct evtchn_unmask" = event::OfPort { "port" = port });
    layout!(rows, "struct evtchn_status" = event::PortStatus {
        "dom" = dom, "port" = port, "status" = status, "vcpu" = vcpu,
        "u.unbound.dom" = peer, "u.interdomain.dom" = peer, "u.interdomain.port" = peer_port,
    });
    layout!(rows, "struct vcpu_hvm_context" = VcpuContext {
        "mode" = mode, "cpu_regs.x86_64.rax" = rax, "cpu_regs.x86_64.rcx" = rcx, "cpu_regs.x86_64.rdx" = rdx,
        "cpu_regs.x86_64.rbx" = rbx, "cpu_regs.x86_64.rsp" = rsp, "cpu_regs.x86_64.rbp" = rbp,
        "cpu_regs.x86_64.rsi" = rsi, "cpu_regs.x86_64.rdi" = rdi, "cpu_regs.x86_64.rip" = rip,
        "cpu_regs.x86_64.rflags" = rflags, "cpu_regs.x86_64.cr0" = cr0, "cpu_regs.x86_64.cr3" = cr3,
        "cpu_regs.x86_64.cr4" = cr4, "cpu_regs.x86_64.efer" = efer,
    });
    layout!(rows, "struct vcpu_set_singleshot_timer" = vcpu::SetSingleshotTimer {
        "timeout_abs_ns" = timeout_abs_ns, "flags" = flags,
    });
    layout!(rows, "struct vcpu_register_vcpu_info" = vcpu::RegisterVcpuInfo {
        "mfn" = mfn, "offset" = offset, "rsvd" = rsvd,
    });
    layout!(rows, "struct xen_hvm_param" = hvm::Param { "domid" = domid, "index" = index, "value" = value });
}

/// Adds the rows of the values.
pub fn constants(rows: &mut Vec<Row>) {
    values!(
        rows,
        "__HYPERVISOR_event_channel_op" = Number::EVENT_CHANNEL_OP.0,
        "__HYPERVISOR_hvm_op" = Number::HVM_OP.0,
        "__HYPERVISOR_sysctl" = Number::SYSCTL.0,
        "__HYPERVISOR_domctl" = Number::DOMCTL.0,
        "EVTCHNOP_bind_interdomain" = EventOp::BIND_INTERDOMAIN.0,
        "EVTCHNOP_bind_virq" = EventOp::BIND_VIRQ.0,
        "EVTCHNOP_close" = EventOp::CLOSE.0,
        "EVTCHNOP_send" = EventOp::SEND.0,
        "EVTCHNOP_status" = EventOp::STATUS.0,
        "EVTCHNOP_alloc_unbound" = EventOp::ALLOC_UNBOUND.0,
        "EVTCHNOP_bind_ipi" = EventOp::BIND_IPI.0,
        "EVTCHNOP_bind_vcpu" = EventOp::BIND_VCPU.0,
        "EVTCHNOP_unmask" = EventOp::UNMASK.0,
        "EVTCHNSTAT_closed" = PortState::CLOSED.0,
        "EVTCHNSTAT_unbound" = PortState::UNBOUND.0,
        "EVTCHNSTAT_interdomain" = PortState::INTERDOMAIN.0,
        "EVTCHNSTAT_virq" = PortState::VIRQ.0,
        "EVTCHNSTAT_ipi" = PortState::IPI.0,
        "VIRQ_TIMER" = VirtualInterrupt::TIMER.0,
        "VIRQ_DOM_EXC" = VirtualInterrupt::DOM_EXC.0,
        "EVTCHN_2L_NR_CHANNELS" = shared_info::MAX_PORTS,
        "XEN_LEGACY_MAX_VCPUS" = shared_info::LEGACY_MAX_VCPUS as u32,
        "XEN_PVCLOCK_TSC_STABLE_BIT" = shared_info::TSC_STABLE,
        "VCPU_HVM_MODE_64B" = vcpu::MODE_64B,
        "VCPUOP_initialise" = VcpuOp::INITIALISE.0,
        "VCPUOP_up" = VcpuOp::UP.0,
        "VCPUOP_down" = VcpuOp::DOWN.0,
        "VCPUOP_set_singleshot_timer" = VcpuOp::SET_SINGLESHOT_TIMER.0,
        "VCPUOP_register_vcpu_info" = VcpuOp::REGISTER_VCPU_INFO.0,
        "VCPUOP_send_nmi" = VcpuOp::SEND_NMI.0,
        "HVMOP_set_param" = hvm::SET_PARAM,
        "HVM_PARAM_CALLBACK_IRQ" = hvm::PARAM_CALLBACK_IRQ,
        "HVM_PARAM_CONSOLE_PFN" = hvm::PARAM_CONSOLE_PFN,
        "HVM_PARAM_CONSOLE_EVTCHN" = hvm::PARAM_CONSOLE_EVTCHN,
        "HVMOP_get_param" = hvm::GET_PARAM,
        "HVM_PARAM_CALLBACK_TYPE_VECTOR" = hvm::CALLBACK_TYPE_VECTOR,
        "SCHEDOP_poll" = xen_sys::SCHEDOP_poll,
        "SHUTDOWN_reboot" = ShutdownReason::REBOOT.0,
        "SHUTDOWN_suspend" = ShutdownReason::SUSPEND.0,
        "SHUTDOWN_watchdog" = ShutdownReason::WATCHDOG.0,
        "VCPUOP_is_up" = VcpuOp::IS_UP.0,
    );
}
