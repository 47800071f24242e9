//! What `--help` prints.

/// `cargo xtask --help`.
pub const MAIN: &str = "\
cargo xtask COMMAND [OPTIONS]

  new     make a repository for an application
  run     build a guest and boot it
  test    run the tests, on the host and in guests
  lab     run commands in the control domain of the rig lab
  bench   measure the freelist against others, and the cost of grants and events
  check   check formatting, lints, documentation, layers and licences
  build   build a guest and print the path of its image
  image   write the kernel, and configurations for xl, libvirt and Qubes
  flags   write a guest's compiler flags to a file, for builds without xtask
  setup   find Xen and QEMU, or download them into your cache (other commands do so when needed)

Options of a command: cargo xtask COMMAND --help (or -h).
";

/// `cargo xtask new --help`.
pub const NEW: &str = "\
cargo xtask new FOLDER [--git URL]

Makes a repository of eight small files for an application that uses this checkout of Granite, by its path. FOLDER must
be new or empty. Its name becomes the package's name.

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

Writes files for a real Xen into FOLDER (default: image): the stripped kernel, NAME.cfg for xl, NAME.xml for libvirt, and
a folder qubes/NAME for /var/lib/qubes/vm-kernels.
";

/// `cargo xtask flags --help`.
pub const FLAGS: &str = "\
cargo xtask flags [FILE]

Writes a guest's compiler flags to FILE (default: guest.toml), for builds without xtask:

  cargo build --release --config guest.toml

Such a build isn't checked. Its image, with symbols, is target/x86_64-unknown-linux-gnu/release/NAME.
";

/// `cargo xtask run --help`.
pub const RUN: &str = "\
cargo xtask run [OPTIONS] [-- COMMAND LINE OF THE GUEST]

Builds src/main.rs as a guest, checks the image, and boots it under Xen in QEMU. Granite's own src/main.rs is the demo: two
domains, one of which serves a disk and the other verifies it.

  --example NAME    boot examples/NAME.rs instead
  --rig RIG         where to boot. solo: as Xen's control domain; pair: the same, and it starts its own image as a second
                    domain; direct: QEMU without Xen; lab: as an ordinary domain, created by xl in a Linux control domain.
                    The default is in [package.metadata.granite], else solo
  --smp N           vCPUs (default 1)
  --mem MIB         the guest's memory (default 64, at min 4)
  --module FILE     a file for the guest; the demo serves it as a read-only disk
  --cfg LINE        in the lab: a further line of xl's configuration, such as maxmem=128; may be repeated
  --guests N        in the lab: create N guests at once (default 1, at most 8)
  --timeout SECONDS end the guest after this long, 0 for never (default: 60, but never on a terminal or with --gdb)
  --accel ACCEL     tcg: QEMU's emulation (default); kvm: the host's processor, if it has nested virtualisation
  --gdb             wait for a debugger, and print how to attach one
  --dev             build without optimisation
  -v, --verbose     print sizes, times, QEMU's command line and Xen's log, which a failing run prints, too
  --xen FILE        use this Xen (or GRANITE_XEN)
  --qemu FILE       use this QEMU (or GRANITE_QEMU)

Every guest accepts log=off|error|warn|info|debug|trace and grants=1|2 (the grant table's version).
The demo also accepts path=map|copy|persistent, sectors=N, child=crash|fail|hang, panic and fail.

Status: 0 success, 1 failure, 2 wrong usage or set-up (also too little memory for the guest), 3 crash, 4 no Xen,
        124 timeout. A second domain's: 5 failure, 6 crash, 7 timeout.
";

/// `cargo xtask test --help`.
pub const TEST: &str = "\
cargo xtask test [OPTIONS] [NAME...]

Runs the tests with one of the NAMEs, or parts of names, in their names; without NAME all of them, on the host and in
guests. Two groups of tests run at a time.

  --list            print the names instead
  --quick           unit tests and the table of cases only, in about a minute once they are built
  --rig RIG         host, solo, pair, direct, lab, or all (default)
  --smp N           vCPUs of the guests (default 1)
  --repeat N        run the tests in guests N times, with a progress bar
  --json FILE       write the results to a file
  --xen FILE        use this Xen (or GRANITE_XEN)
  --qemu FILE       use this QEMU (or GRANITE_QEMU)

Verdicts: PASS, SKIP with the reason, FAIL, CRASH, TIMEOUT. A test that starts and never reports counts as crashed.
Status: 0 if at min one passed and none failed, 1 if not, 2 wrong usage.
";

/// `cargo xtask lab --help`.
pub const LAB: &str = "\
cargo xtask lab shell|log|stop [OPTIONS]

The rig lab is Xen with a Linux control domain, where xl creates the guests. Its packages (80 MB) are downloaded into
your cache at the first use. The booted control domain is saved there, and each run starts from that state.

  shell             run commands from standard input in a control domain of your own
  log               print the console of the last control domain
  stop              end the control domains of other terminals, with their xtask

  --qemu FILE       use this QEMU (or GRANITE_QEMU)
";

/// `cargo xtask bench --help`.
pub const BENCH: &str = "\
cargo xtask bench [OPTIONS]

Measures. On the host: the freelist against those of other systems, as ratios of one run (as cargo bench does). In a
guest under Xen: grants and events, in hypercalls and in instructions counted by QEMU, and an interrupt of one vCPU by
another, in ticks of the time-stamp counter. Between two domains (pair): a block request of 4 KiB, on each data path.

  --host            only on the host
  --rig RIG         host, solo, pair, or all (default)
  --xen FILE        use this Xen (or GRANITE_XEN)
  --qemu FILE       use this QEMU (or GRANITE_QEMU)
";

/// `cargo xtask setup --help`.
pub const SETUP: &str = "\
cargo xtask setup [OPTIONS]

Finds Xen and QEMU. If they aren't installed, it downloads the packages of Debian or Ubuntu into ~/.cache/granite (or
GRANITE_CACHE) and unpacks them there, as an ordinary user. Earlier downloads are checked to the byte, and downloaded again
if damaged. GRANITE_APT_SOURCES names a list of package sources to use instead of the system's.

  --xen FILE        use this Xen (or GRANITE_XEN)
  --qemu FILE       use this QEMU (or GRANITE_QEMU)
";

/// `cargo xtask check --help`.
pub const CHECK: &str = "\
cargo xtask check

Checks the formatting, clippy on the host's and the guest's build, the documentation, the layers of src/ and core/src/, and
the licences of all dependencies.
";
