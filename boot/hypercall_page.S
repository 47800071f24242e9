// The page that Xen fills with hypercall stubs, 32 bytes each (xen/include/public/arch-x86/cpuid.h, leaf
// base + 2). It is full of `ud2` until then: a call made too early is an exception with an address
// and not a run through zeros. The name is the one that `xen-sys` links against.

.section .text_hypercall_page, "ax", @progbits
.balign 4096
.global HYPERCALL_PAGE
.type HYPERCALL_PAGE, @object
HYPERCALL_PAGE:
    .fill 2048, 2, 0x0b0f
.size HYPERCALL_PAGE, 4096
