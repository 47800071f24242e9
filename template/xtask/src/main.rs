fn main() -> std::process::ExitCode {
    granite_xtask::main()
}
