//! Every interleaving of a few steps of a few threads, by `loom`: `cargo xtask test --rig host loom` (which
//! sets `cfg(granite_loom)`; without it there is nothing here).
//!
//! What a reference stands for is a cell of its own, which whoever has the reference writes without any
//! atomics: two owners at once, or an ordering too weak to hand the cell on, is a race that loom reports.

#![cfg(granite_loom)]

mod loom {
    mod freelist;
    mod protocol;
    mod ring;
}
