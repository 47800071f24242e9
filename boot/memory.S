// The memory functions that compiled Rust calls by name. There is no C library, and `compiler_builtins`
// leaves them out for this target. String instructions keep them from calling themselves, which a
// compiler may turn a copying loop into.

.section .text.memory, "ax", @progbits
.code64

.global memcpy
.type memcpy, @function
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
.size memcpy, . - memcpy

.global memmove
.type memmove, @function
memmove:
    mov rax, rdi
    mov rcx, rdx
    mov r8, rdi
    sub r8, rsi
    cmp r8, rdx                         // unsigned: below only if dest lies inside the source
    jb 1f
    rep movsb
    ret
1:  lea rdi, [rdi + rdx - 1]
    lea rsi, [rsi + rdx - 1]
    std
    rep movsb
    cld
    ret
.size memmove, . - memmove

.global memset
.type memset, @function
memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
.size memset, . - memset

.global memcmp
.global bcmp
.type memcmp, @function
.type bcmp, @function
memcmp:
bcmp:
    xor eax, eax
    mov rcx, rdx
    cmp rcx, rcx                        // equal, should the length be zero
    repe cmpsb
    je 1f
    movzx eax, byte ptr [rdi - 1]
    movzx ecx, byte ptr [rsi - 1]
    sub eax, ecx
1:  ret
.size memcmp, . - memcmp
.size bcmp, . - bcmp

.global strlen
.type strlen, @function
strlen:
    xor eax, eax
1:  cmp byte ptr [rdi + rax], 0
    je 2f
    inc rax
    jmp 1b
2:  ret
.size strlen, . - strlen
