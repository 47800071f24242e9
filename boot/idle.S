// How a vCPU waits: interrupts are unmasked by the instruction before the halt, in whose shadow none comes, so that what was
// seen before, with interrupts masked, is still so. src/arch/idle.rs calls it.

.section .text.idle, "ax", @progbits
.code64
.global idle
.type idle, @function
idle:
    push rbp
    mov rbp, rsp
    sti
    .global idle_halt
    // An interrupt with this address came before the halt, shadow or not. A trap goes on behind it then.
idle_halt:
    hlt
    .global idle_over
idle_over:
    pop rbp
    ret
.size idle, . - idle
