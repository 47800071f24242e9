//! What `--help` prints.

/// `cargo xtask --help`.
pub const MAIN: &str = "\
cargo xtask COMMAND [OPTIONS]

  new     make a repository for an application
  run     build a guest and boot it
  test    run the tests: on the host, and in guests
  bench   measure: the freelist against others, and what grants and events cost
  check   formatting, lints, documentation, layers, licences
  build   build a guest, and say where its image is
  image   write the kernel, and configurations for xl, libvirt and Qubes
  flags   write the compiler's flags to a file, for a build without xtask
  setup   find Xen and QEMU, or fetch them into your cache; the others do so when they must

cargo xtask COMMAND --help (or -h) tells more.
";

/// `cargo xtask new --help`.
pub const NEW: &str = "\
cargo xtask new FOLDER [--git URL]

Makes a repository of eight small files for an application, which uses the Granite of this checkout by its path. FOLDER
must not be there, or be empty; its name becomes the package's.

  --git URL         use Granite from a git repository
";

/// `cargo xtask build --help`.
pub const BUILD: &str = "\
cargo xtask build [--example NAME] [--dev]

Builds src/main.rs, or examples/NAME.rs, as a guest, checks the image, and prints its path.
";

/// `cargo xtask image --help`.
pub const IMAGE: &str = "\
cargo xtask image [FOLDER] [--example NAME]

Writes into FOLDER (default: image) what a real Xen needs: the stripped kernel, NAME.cfg for xl, NAME.xml for libvirt,
and a folder qubes/NAME for /var/lib/qubes/vm-kernels.
";

/// `cargo xtask flags --help`.
pub const FLAGS: &str = "\
cargo xtask flags [FILE]

Writes the flags of a guest to FILE (default: guest.toml), for a build without xtask:

  cargo build --release --config guest.toml

The image is not checked then, and has its symbols: target/x86_64-unknown-linux-gnu/release/NAME.
";

/// `cargo xtask run --help`.
pub const RUN: &str = "\
cargo xtask run [OPTIONS] [-- COMMAND LINE OF THE GUEST]

Builds src/main.rs as a guest, checks the image, and boots it under Xen in QEMU: two domains, of which one serves
a disk and the other checks it.

  --example NAME    boot examples/NAME.rs instead
  --rig RIG         solo: the control domain of Xen; pair: the control domain, which starts its own image as a second
                    domain; direct: QEMU alone, without Xen. [package.metadata.granite] names a program's usual rig
  --smp N           vCPUs (default 1)
  --mem MIB         the guest's memory (default 64, at min 4)
  --module FILE     a file for the guest; src/main.rs serves it as a disk
  --timeout SECONDS end the guest after this long, 0 for never (default: 60, but never on a terminal or with --gdb)
  --accel ACCEL     tcg: QEMU's emulation (default); kvm: the host's processor, if it can
  --gdb             wait for a debugger, and print how to attach one
  --dev             build without optimisation
  -v, --verbose     print sizes, times, QEMU's command line and Xen's log, which a failing run prints, too
  --xen FILE        use this Xen (or GRANITE_XEN)
  --qemu FILE       use this QEMU (or GRANITE_QEMU)

Options that every guest knows: log=off|error|warn|info|debug|trace, grants=1|2 (the grant table's version)
src/main.rs knows: path=map|copy|persistent, sectors=N, child=crash|fail|hang; panic, fail

Status: 0 the guest said success, 1 it said failure, 2 wrong usage or set-up (too little
        memory for the guest is that too), 3 it crashed, 4 it found no Xen, 124 it was still running at the timeout.
        Of a second domain that the guest started: 5 it said failure, 6 it crashed, 7 it didn't end or didn't answer.
";

/// `cargo xtask test --help`.
pub const TEST: &str = "\
cargo xtask test [OPTIONS] [NAME...]

Runs the tests with one of the NAMEs, or parts of names, in their names; without NAME all of them, on the host and in
guests. Two groups of tests run at a time.

  --list            print the names instead
  --quick           unit tests and the table of cases only, in about a minute once they are built
  --rig RIG         host, solo, pair, direct, or all (default)
  --smp N           vCPUs of the guests (default 1)
  --repeat N        N times in a row, with a progress bar; without the host's own tests
  --json FILE       write the results to a file
  --xen FILE        use this Xen (or GRANITE_XEN)
  --qemu FILE       use this QEMU (or GRANITE_QEMU)

Verdicts: PASS, SKIP with the reason, FAIL, CRASH, TIMEOUT. A test that isn't heard of has crashed.
Status: 0 if at min one passed and none failed, 1 if not, 2 wrong usage.
";

/// `cargo xtask bench --help`.
pub const BENCH: &str = "\
cargo xtask bench [OPTIONS]

Measures. On the host: the freelist against what other systems use, as ratios of one run (cargo bench does
the same). In a guest under Xen: grants and events, in instructions, counted by QEMU, and hypercalls; and an interrupt
of one vCPU by another, in ticks of the time-stamp counter. Between two domains (pair): a block request of 4 KiB, on each
path of its data.

  --host            only on the host
  --rig RIG         host, solo, pair, or all (default)
  --xen FILE        use this Xen (or GRANITE_XEN)
  --qemu FILE       use this QEMU (or GRANITE_QEMU)
";

/// `cargo xtask setup --help`.
pub const SETUP: &str = "\
cargo xtask setup [OPTIONS]

Finds Xen and QEMU. What is not installed is fetched from the packages of Debian or Ubuntu, as an ordinary
user, into ~/.cache/granite (or GRANITE_CACHE); nothing is installed. What was fetched before is checked to
the byte, and fetched again where it is damaged. GRANITE_APT_SOURCES names a list of package sources to use in
place of the system's.

  --xen FILE        use this Xen (or GRANITE_XEN)
  --qemu FILE       use this QEMU (or GRANITE_QEMU)
";

/// `cargo xtask check --help`.
pub const CHECK: &str = "\
cargo xtask check

Formatting, clippy on the host's and the guest's build, documentation, the layers of src/, and the licences
of all dependencies.
";
