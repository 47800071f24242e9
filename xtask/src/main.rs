//! `cargo xtask` in Granite's own checkout.

fn main() -> std::process::ExitCode {
    granite_xtask::main()
}
