// How a vCPU waits. The instruction before the halt unmasks interrupts, and no interrupt arrives in its shadow, so a
// check made with interrupts masked still holds at the halt. src/arch/idle.rs calls this.

.section .text.idle, "ax", @progbits
.code64
.global idle
.type idle, @function
idle:
    push rbp
    mov rbp, rsp
    sti
    .global idle_halt
    // An interrupt with this return address arrived before the halt, despite the shadow. The trap then resumes after
    // the halt.
idle_halt:
    hlt
    .global idle_over
idle_over:
    pop rbp
    ret
.size idle, . - idle
