// The entry point. A PVH loader (Xen, or QEMU's -kernel) finds the 32-bit entry point in the note below and jumps
// there with paging off and EBX = physical address of the start info (xen/include/public/arch-x86/hvm/start_info.h).
// This code switches to 64-bit Rust as soon as possible.
//
// The names in braces are defined in src/start/bring_up.rs.

.set XEN_ELFNOTE_PHYS32_ENTRY, 18

.section .note.Xen, "a", @note
    .balign 4
    .long 4                             // namesz: "Xen\0"
    .long 4                             // descsz: a 32-bit address
    .long XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

.section .text.boot, "ax", @progbits
.code32
.global pvh_entry
.type pvh_entry, @function
pvh_entry:
    cld
    mov edi, ebx                        // cpuid overwrites EBX; EDI is the first argument of rust_entry

    // Only two processor features are required: long mode (bit 29) and no-execute pages (bit 20).
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb unfit_processor
    mov eax, 0x80000001
    cpuid
    and edx, (1 << 29) | (1 << 20)
    cmp edx, (1 << 29) | (1 << 20)
    jne unfit_processor

    // Identity-map the first 4 GiB with 2 MiB pages: every address from a loader lies there. src/start replaces
    // these tables with W^X ones; after that, their 24 KiB are unused.
    mov eax, offset boot_pdpt + 3       // present, writable
    mov [boot_pml4], eax
    mov eax, offset boot_pd + 3
    mov ebx, offset boot_pdpt
    mov ecx, 4
1:  mov [ebx], eax
    add eax, 4096
    add ebx, 8
    loop 1b
    mov eax, offset boot_pml4
    mov cr3, eax
    mov eax, 0x620                      // PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax

    // Write two entries at once. A PVH loader leaves EM and TS of CR0 clear, so we may use SSE.
    movdqa xmm0, [boot_pd_first]
    movdqa xmm1, [boot_pd_step]
    mov ebx, offset boot_pd
    mov ecx, 4 * 512 / 8
2:  movdqa [ebx], xmm0
    paddq xmm0, xmm1
    movdqa [ebx + 16], xmm0
    paddq xmm0, xmm1
    movdqa [ebx + 32], xmm0
    paddq xmm0, xmm1
    movdqa [ebx + 48], xmm0
    paddq xmm0, xmm1
    add ebx, 64
    loop 2b

    // EFER and CR0 are written whole: reading them first would cost two more traps, and all required bits are known.
    mov ecx, 0xc0000080                 // EFER
    mov eax, (1 << 8) | (1 << 11)       // LME, NXE
    xor edx, edx
    wrmsr
    mov eax, 0x80010033                 // PG, WP, NE, ET, MP, PE
    mov cr0, eax

    lgdt [boot_gdt_pointer]
    mov esp, offset {boot_stack} + {boot_stack_size}
    push 0x08
    mov eax, offset long_mode
    push eax
    retf                                // a far jump to 0x08:long_mode

// There is no console yet, so write to both ports a virtual machine may show: the debug console and the first serial
// line.
unfit_processor:
    mov esi, offset unfit_processor_text
3:  lodsb
    test al, al
    jz 4f
    out 0xe9, al
    mov dx, 0x3f8
    out dx, al
    jmp 3b
4:  mov eax, {exit_no_boot}
    out 0xf4, eax

    // In a domU the port is ignored. A halt would count as a power-off, so report a crash: EBX and ECX are the
    // arguments of a 32-bit hypercall.
    mov eax, 0x40000000                 // the leaf of hypervisors; Xen's signature is "XenVMMXenVMM"
    cpuid
    cmp ebx, 0x566e6558                 // "XenV"
    jne 5f
    mov eax, 0x40000002                 // EBX: the register for the hypercall page's address
    cpuid
    mov ecx, ebx
    mov eax, offset HYPERCALL_PAGE
    xor edx, edx
    wrmsr
    mov ebx, 2                          // SCHEDOP_shutdown
    mov ecx, offset unfit_processor_end
    mov eax, offset HYPERCALL_PAGE + 32 * 29 // __HYPERVISOR_sched_op
    mov esp, offset {boot_stack} + {boot_stack_size}
    call eax
5:  cli
    hlt
    jmp 5b
.size pvh_entry, . - pvh_entry

.code64
.global long_mode
.type long_mode, @function
long_mode:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [{boot_stack} + {boot_stack_size}]
    xor ebp, ebp                        // the end of every backtrace
    fninit
    mov edi, edi                        // the upper half is undefined after the mode switch
    call {rust_entry}
    ud2
.size long_mode, . - long_mode

.section .rodata.boot, "a", @progbits
.balign 16
boot_pd_first:
    .quad 0x83, 0x200083                // present, writable, 2 MiB
boot_pd_step:
    .quad 0x400000, 0x400000
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            // 0x08: 64-bit code
    .quad 0x00cf93000000ffff            // 0x10: data
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .quad boot_gdt
unfit_processor_end:
    .long 3                             // SHUTDOWN_crash
unfit_processor_text:
    .ascii "granite: this processor lacks long mode or no-execute pages; both are needed\n"
    .asciz "granite: end: cannot-start\n"

.section .bss.boot, "aw", @nobits
.balign 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4 * 4096
