// Xen fills this page with hypercall stubs, 32 bytes each (xen/include/public/arch-x86/cpuid.h, leaf base + 2). No
// `Xen` value exists before that, so no code can call it too early. `xen-sys` links against this name.

.section .hypercall_page, "ax", @nobits
// No `.balign`: it would pad the file. linker.ld places the page and checks its alignment.
.global HYPERCALL_PAGE
.type HYPERCALL_PAGE, @object
HYPERCALL_PAGE:
    .skip 4096
.size HYPERCALL_PAGE, 4096
