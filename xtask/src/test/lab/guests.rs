//! The guests of the lab's tests.

/// One run.
pub struct Guest {
    pub name: &'static str,
    /// An example, or a program of `tests/` with `tests/` before its name.
    pub program: &'static str,
    pub line: &'static str,
    pub vcpus: u32,
    pub memory: u32,
    /// Further lines of the configuration.
    pub more: &'static str,
    pub count: u32,
    /// xtask's exit status for it.
    pub status: u8,
    /// The texts expected in the log, or in xtask's own message about the outcome.
    pub shows: &'static [&'static str],
    /// The timeout in seconds.
    pub seconds: u64,
    /// Whether its console shows what it prints.
    pub has_console: bool,
    /// Commands in the control domain, before it is created and after its end.
    pub around: (&'static str, &'static str),
}

const fn guest(
    name: &'static str,
    program: &'static str,
    line: &'static str,
    status: u8,
    shows: &'static [&'static str],
) -> Guest {
    Guest {
        name,
        program,
        line,
        vcpus: 1,
        memory: 64,
        more: "",
        count: 1,
        status,
        shows,
        seconds: 60,
        has_console: true,
        around: ("true", "true"),
    }
}

macro_rules! ten {
    ($text:expr) => {
        concat!($text, $text, $text, $text, $text, $text, $text, $text, $text, $text)
    };
}

/// A command line with its last option after the first 900 bytes.
const LONG: &str = concat!(ten!(ten!("log=info ")), "case=wrong-exit");

const SUCCESS: &[&str] = &["granite: end: success"];

/// The table.
pub const GUESTS: &[Guest] = &[
    guest("hello", "hello", "", 0, &["hello from domain", "granite: end: success"]),
    Guest { memory: 16, ..guest("of_16_mib", "hello", "", 0, SUCCESS) },
    Guest { vcpus: 4, ..guest("of_4_vcpus", "async", "", 0, SUCCESS) },
    Guest { count: 3, ..guest("three_at_once", "hello", "", 0, SUCCESS) },
    guest("grants", "grants", "", 0, SUCCESS),
    guest("grants_version_2", "grants", "grants=2", 0, SUCCESS),
    Guest { more: "max_grant_frames=1", ..guest("1_grant_frame", "grants", "", 0, SUCCESS) },
    Guest { more: "max_grant_frames=4", ..guest("4_grant_frames", "grants", "", 0, SUCCESS) },
    Guest { more: "max_grant_frames=512", ..guest("512_grant_frames", "grants", "", 0, SUCCESS) },
    Guest { more: "max_event_channels=32", ..guest("32_event_channels", "hello", "", 0, SUCCESS) },
    Guest { vcpus: 2, seconds: 180, ..guest("stress", "tests/stress", "", 0, &["stress: "]) },
    guest("fails", "tests/die", "case=wrong-exit", 1, &["granite: end: failure 7"]),
    guest(
        "panics",
        "tests/die",
        "case=panic",
        3,
        &["panic at tests/die.rs", "outer_function (tests/die.rs:"],
    ),
    guest("faults", "tests/die", "case=null", 3, &["page fault (#PF)", "(tests/die.rs:"]),
    Guest {
        vcpus: 4,
        ..guest("panics_elsewhere", "tests/die", "case=panic-elsewhere", 3, &["the panic of vCPU 2"])
    },
    guest("faults_three_times", "tests/die", "case=triple-fault", 3, &["the guest crashed: a triple fault"]),
    Guest { seconds: 4, ..guest("hangs", "tests/die", "case=hang", 124, &["here it hangs"]) },
    Guest {
        more: "cpuid = \"host,nx=0\"",
        has_console: false,
        ..guest("processor_without_nx", "hello", "", 2, &["lacks long mode or no-execute pages"])
    },
    guest("line_of_1000_bytes", "tests/die", LONG, 1, &["granite: end: failure 7"]),
    Guest {
        memory: 100_000,
        has_console: false,
        ..guest("too_large", "hello", "", 2, &["xl did not create the guest", "libxl"])
    },
    Guest {
        more: "vcpus = = 1",
        has_console: false,
        ..guest("bad_configuration", "hello", "", 2, &["xl did not create the guest"])
    },
    // An operator types at its console. The terminal must stay open until the guest has read.
    Guest {
        around: (
            "(until t=$(xenstore-read /local/domain/$(xl domid guest1)/console/tty) && [ -n \"$t\" ]; do usleep 50000; done; \
             (printf 'help\\rmem\\r'; sleep 1; printf 'bad\\nexit\\n'; sleep 5) > $t) > /dev/null 2>&1 &",
            "true",
        ),
        vcpus: 4,
        ..guest(
            "shell",
            "shell",
            "",
            0,
            &[
                "grants  events  mem  time  exit",
                "KiB free",
                "there is no command bad",
                "granite: end: success",
            ],
        )
    },
    // Only after the guest has begun to wait. The second line is longer than its buffer.
    Guest {
        vcpus: 4,
        around: (
            "(until t=$(xenstore-read /local/domain/$(xl domid guest1)/console/tty) && [ -n \"$t\" ]; do usleep 50000; done; \
             (sleep 2; printf 'one\\r'; sleep 1; printf 'one two three\\n'; sleep 5) > $t) > /dev/null 2>&1 &",
            "true",
        ),
        ..guest(
            "awaited",
            "tests/typed",
            "",
            0,
            &[
                "taken twice: Some(Taken)",
                "nothing typed: Err(TimedOut)",
                "an empty buffer: Ok(0)",
                "typed: \"one\"",
                "typed: \"one two \"",
                "granite: end: success",
            ],
        )
    },
    // The cases of grants print more than the console's buffer holds. The daemon is stopped as soon as it has opened a
    // terminal for the guest, because `xl` waits for that.
    Guest {
        around: (
            "(until xenstore-ls /local/domain | grep -q 'tty = \"/dev/pts'; do usleep 10000; done; \
             killall -STOP xenconsoled) > /dev/null 2>&1 &",
            "killall -CONT xenconsoled",
        ),
        has_console: false,
        ..guest("console_that_nobody_reads", "tests/guest", "rig=lab filter=grant::v1::", 0, &["##test done"])
    },
];
