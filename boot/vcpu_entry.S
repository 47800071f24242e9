// The entry point of every vCPU but the first. Xen starts it in 64-bit mode, on the page tables and the stack set up
// by src/arch/vcpu.rs, with RDI = address of the vCPU's start data. The names in braces are defined there.

.section .text.boot, "ax", @progbits
.code64
.global vcpu_entry
.type vcpu_entry, @function
vcpu_entry:
    cld
    xor ebp, ebp                        // the end of every backtrace
    fninit
    call {vcpu_entry_in_rust}
    ud2
.size vcpu_entry, . - vcpu_entry
