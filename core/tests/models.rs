//! `loom` explores every interleaving of a few steps of a few threads: `cargo xtask test --rig host loom` (it sets
//! `cfg(granite_loom)`; without it this file is empty).
//!
//! Each reference stands for a cell of its own. The owner of the reference writes the cell without atomics, so two
//! owners at once, or an ordering too weak to hand the cell on, are a race reported by loom.

#![cfg(granite_loom)]

mod loom {
    mod freelist;
    mod protocol;
    mod ring;
}
