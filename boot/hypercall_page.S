// The page that Xen fills with hypercall stubs, 32 bytes each (xen/include/public/arch-x86/cpuid.h, leaf
// base + 2). Nobody has a `Xen` to call before that. The name is the one that `xen-sys` links against.

.section .hypercall_page, "ax", @nobits
// No `.balign`, which the file would be padded for: linker.ld places and checks it.
.global HYPERCALL_PAGE
.type HYPERCALL_PAGE, @object
HYPERCALL_PAGE:
    .skip 4096
.size HYPERCALL_PAGE, 4096
