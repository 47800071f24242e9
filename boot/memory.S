// The memory functions called by name from compiled Rust. There is no C library, and `compiler_builtins` leaves them
// out for this target. Short ranges use a loop over 8-byte words, because a string instruction takes dozens of
// cycles to start. Long ranges use 8-byte string instructions. Backward copies only use words: a processor executes
// `std; rep movsb` byte by byte.

.section .text.memory, "ax", @progbits
.code64

.set SHORT, 128

.global memmove
.type memmove, @function
memmove:
    mov rax, rdi
    sub rax, rsi
    cmp rax, rdx                        // unsigned: below only if dest lies inside the source
    jae memcpy
    mov rax, rdi
    sub rdx, 8                          // backwards, from the last word on
    jb 2f
1:  mov rcx, [rsi + rdx]
    mov [rdi + rdx], rcx
    sub rdx, 8
    jae 1b
2:  add rdx, 8                          // and the bytes before the first word
    jz 4f
3:  mov cl, [rsi + rdx - 1]
    mov [rdi + rdx - 1], cl
    dec rdx
    jnz 3b
4:  ret
.size memmove, . - memmove

.global memcpy
.type memcpy, @function
memcpy:
    mov rax, rdi
    cmp rdx, SHORT
    jae 5f
    sub rdx, 8
    jb 2f
1:  mov rcx, [rsi]
    mov [rdi], rcx
    add rsi, 8
    add rdi, 8
    sub rdx, 8
    jae 1b
2:  add rdx, 8                          // and the bytes behind the last word
    jz 4f
3:  mov cl, [rsi]
    mov [rdi], cl
    inc rsi
    inc rdi
    dec rdx
    jnz 3b
4:  ret
5:  mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov ecx, edx
    and ecx, 7
    rep movsb
    ret
.size memcpy, . - memcpy

.global memset
.type memset, @function
memset:
    mov r8, rdi
    movzx eax, sil
    movabs rcx, 0x0101010101010101
    imul rax, rcx                       // the byte eight times
    cmp rdx, SHORT
    jae 5f
    sub rdx, 8
    jb 2f
1:  mov [rdi], rax
    add rdi, 8
    sub rdx, 8
    jae 1b
2:  add rdx, 8
    jz 4f
3:  mov [rdi], al
    inc rdi
    dec rdx
    jnz 3b
4:  mov rax, r8
    ret
5:  mov rcx, rdx
    shr rcx, 3
    rep stosq
    mov ecx, edx
    and ecx, 7
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
    sub rdx, 8
    jb 2f
1:  mov rcx, [rdi]
    mov r8, [rsi]
    cmp rcx, r8
    jne 5f
    add rdi, 8
    add rsi, 8
    sub rdx, 8
    jae 1b
2:  add rdx, 8
    jz 4f
3:  movzx eax, byte ptr [rdi]
    movzx ecx, byte ptr [rsi]
    sub eax, ecx
    jne 4f
    inc rdi
    inc rsi
    dec rdx
    jnz 3b
4:  ret
5:  bswap rcx                           // the first byte is the most significant one now
    bswap r8
    cmp rcx, r8
    sbb eax, eax                        // -1 if below, or else 0
    or eax, 1
    ret
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
