// One stub per vector, all alike: each completes the hardware's frame to a TrapFrame (src/arch/trap.rs) and calls
// {dispatch} with its address. Exception gates switch to a stack of their own (IST). Interrupt gates don't, so no
// code may keep data below RSP: xtask checks every image for this.

.section .text.traps, "ax", @progbits
.code64
.balign 16
.global trap_stubs
.type trap_stubs, @function
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    // The processor pushes an error code for #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC and #SX.
    .set pushes_code, (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17)
    .set pushes_code, pushes_code || (vector == 21) || (vector == 29) || (vector == 30)
    .if !pushes_code
        push 0
    .endif
    .byte 0x68                          // push imm32: a symbol would be taken for an address
    .long vector
    jmp trap_common
    .set vector, vector + 1
.endr
.size trap_stubs, . - trap_stubs

.balign 16
.type trap_common, @function
trap_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    mov rbx, rsp                        // the frame; a callee keeps RBX
    // The processor aligned the stack to 16 bytes before the 22 words above, so it is still aligned, as movaps
    // requires. The exception is a device raising a vector whose exception has an error code: the report must not
    // fault on that.
    and rsp, -16
    // Compiled code uses only SSE state: Rust uses the x87 for none of its types, and xtask checks handlers for x87
    // instructions. FXRSTOR would be shorter, but it makes QEMU lose the state of processor 0 when another processor
    // executes it (ARCHITECTURE.md, "Learned on the way").
    sub rsp, 16 * 16 + 16
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movaps [rsp + 16 * \n], xmm\n
    .endr
    stmxcsr [rsp + 16 * 16]
    // A handler rounds and traps by the default settings, not those of the interrupted code.
    mov dword ptr [rsp + 16 * 16 + 4], 0x1f80
    ldmxcsr [rsp + 16 * 16 + 4]
    cld
    call {dispatch}
    ldmxcsr [rsp + 16 * 16]
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movaps xmm\n, [rsp + 16 * \n]
    .endr
    mov rsp, rbx
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16                         // vector and error code
    iretq
.size trap_common, . - trap_common
