//! xtask's command line.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};

use crate::error::{Error, Result};
use crate::guest::Program;
use crate::machine::{Accelerator, MIN_MEMORY, Machine, Rig};
use crate::project::project;
use crate::setup::Choice;

/// The arguments of `cargo xtask run`.
#[derive(Debug)]
pub struct Run {
    /// The program to build.
    pub program: Program,
    /// Whether to build it optimised.
    pub optimised: bool,
    /// The machine to boot it on.
    pub machine: Machine,
    /// Whether to wait for a debugger.
    pub gdb: bool,
    /// The timeout: zero for no limit, `None` for the default.
    pub timeout: Option<Duration>,
    /// The choice of Xen and QEMU.
    pub choice: Choice,
    /// The guest's command line.
    pub line: String,
    /// Further lines of the guest's configuration in the lab.
    pub cfg: Vec<String>,
    /// The number of guests in the lab.
    pub guests: u32,
}

/// The default timeout, without `--timeout`. On a terminal there is no limit: a server runs until Ctrl-C.
pub const TIMEOUT: Duration = Duration::from_secs(60);

impl Run {
    /// Returns the timeout to use; `None` for no limit.
    pub fn deadline(&self) -> Option<Duration> {
        let unlimited = self.gdb || std::io::stdout().is_terminal();
        let default = (!unlimited).then_some(TIMEOUT);
        self.timeout.or(default).filter(|timeout| !timeout.is_zero())
    }
}

/// Every rig used by `test`.
const ALL_RIGS: [Rig; 4] = [Rig::Solo, Rig::Pair, Rig::Direct, Rig::Lab];

/// The arguments of `cargo xtask test`.
#[derive(Clone, Debug)]
pub struct Test {
    /// Whether to run the host's tests.
    pub host: bool,
    /// The rigs to run guests in.
    pub rigs: Vec<Rig>,
    /// The minimum number of vCPUs of the guests.
    pub smp: u32,
    /// The number of rounds; `None` is one round without a progress bar.
    pub repeat: Option<u32>,
    /// The file for the results.
    pub json: Option<PathBuf>,
    /// Selects tests with one of these in their names; all tests if empty.
    pub filter: Vec<String>,
    /// Whether to print the names instead of running the tests.
    pub list: bool,
    /// Whether to run only the quick set.
    pub quick: bool,
    /// The choice of Xen and QEMU.
    pub choice: Choice,
}

impl Default for Test {
    fn default() -> Self {
        Self {
            host: true,
            rigs: ALL_RIGS.to_vec(),
            smp: 1,
            repeat: None,
            json: None,
            filter: Vec::new(),
            list: false,
            quick: false,
            choice: Choice::default(),
        }
    }
}

impl Test {
    /// Returns whether a test with this name is selected.
    pub fn selects(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|part| name.contains(part.as_str()))
    }

    /// Returns whether the host and all rigs are included.
    pub fn is_of_all_rigs(&self) -> bool {
        self.host && self.rigs == ALL_RIGS
    }
}

/// Reads `run`'s arguments. Returns `None` for `--help`.
///
/// # Errors
///
/// If an option is unknown, a value is bad, or the project's metadata can't be read.
pub fn run(parser: &mut Parser) -> Result<Option<Run>> {
    let (mut program, mut named) = (None, None);
    let mut run = Run {
        program: Program::Main,
        optimised: true,
        machine: Machine::default(),
        gdb: false,
        timeout: None,
        choice: Choice::default(),
        line: String::new(),
        cfg: Vec::new(),
        guests: 1,
    };
    while let Some(argument) = next(parser)? {
        let Argument::Option(name) = &argument else {
            let Argument::Rest(line) = argument else { return Err(unexpected(argument)) };
            run.line = line;
            continue;
        };
        match name.as_str() {
            "help" => return Ok(None),
            "example" => program = Some(Program::Example(parser.value()?.string()?)),
            "rig" => named = Some(rig(&parser.value()?.string()?)?),
            "smp" => run.machine.smp = number(parser, "--smp", 1, 64)?,
            "mem" => run.machine.memory = number(parser, "--mem", MIN_MEMORY, 1 << 20)?,
            "module" => run.machine.module = Some(file(parser, "--module")?),
            "timeout" => {
                run.timeout = Some(Duration::from_secs(number(parser, "--timeout", 0, 86_400)?.into()))
            }
            "accel" => run.machine.accelerator = accelerator(&parser.value()?.string()?)?,
            "gdb" => run.gdb = true,
            "cfg" => run.cfg.push(parser.value()?.string()?),
            "guests" => run.guests = number(parser, "--guests", 1, 8)?,
            "dev" => run.optimised = false,
            "verbose" => run.machine.verbose = true,
            _ => tool(parser, &mut run.choice, argument)?,
        }
    }
    run.program = program.unwrap_or(Program::Main);
    let needed = project()?.needs(&run.program)?.rig.as_deref().map(rig).transpose()?;
    run.machine.rig = named.or(needed).unwrap_or(run.machine.rig);
    if (!run.cfg.is_empty() || run.guests > 1) && run.machine.rig != Rig::Lab {
        return Err(Error::new("--cfg and --guests are for guests in the lab\nadd --rig lab"));
    }
    run.choice = run.choice.or_environment();
    Ok(Some(run))
}

/// Reads `test`'s arguments. Returns `None` for `--help`.
///
/// # Errors
///
/// If an option is unknown, or a value is bad.
pub fn test(parser: &mut Parser) -> Result<Option<Test>> {
    let mut test = Test::default();
    while let Some(argument) = next(parser)? {
        let Argument::Option(name) = &argument else {
            match argument {
                // The guest's command line separates names by spaces.
                Argument::Word(words) => test.filter.extend(words.split_whitespace().map(str::to_owned)),
                other => return Err(unexpected(other)),
            }
            continue;
        };
        match name.as_str() {
            "help" => return Ok(None),
            "rig" => match parser.value()?.string()?.as_str() {
                "all" => (test.host, test.rigs) = (true, ALL_RIGS.to_vec()),
                "host" => (test.host, test.rigs) = (true, Vec::new()),
                other => (test.host, test.rigs) = (false, vec![rig(other)?]),
            },
            "smp" => test.smp = number(parser, "--smp", 1, 64)?,
            "repeat" => test.repeat = Some(number(parser, "--repeat", 1, 1_000_000)?),
            "list" => test.list = true,
            "quick" => test.quick = true,
            "json" => test.json = Some(parser.value()?.into()),
            _ => tool(parser, &mut test.choice, argument)?,
        }
    }
    test.choice = test.choice.or_environment();
    Ok(Some(test))
}

/// The arguments of `cargo xtask build`, `image` and `flags`.
#[derive(Debug)]
pub struct Build {
    /// The program to build.
    pub program: Program,
    /// Whether to build it optimised.
    pub optimised: bool,
    path: Option<PathBuf>,
}

impl Build {
    /// Returns the folder or file to write: the user's, or else the default `otherwise`.
    pub fn path<'a>(&'a self, otherwise: &'a str) -> &'a Path {
        self.path.as_deref().unwrap_or(Path::new(otherwise))
    }
}

/// Reads the arguments of `build`, `image` and `flags`. Returns `None` for `--help`.
///
/// # Errors
///
/// If an option is unknown, or a value is bad.
pub fn build(parser: &mut Parser) -> Result<Option<Build>> {
    let mut build = Build { program: Program::Main, optimised: true, path: None };
    while let Some(argument) = next(parser)? {
        match argument {
            Argument::Option(name) if name == "help" => return Ok(None),
            Argument::Option(name) if name == "example" => {
                build.program = Program::Example(parser.value()?.string()?);
            }
            Argument::Option(name) if name == "dev" => build.optimised = false,
            Argument::Word(path) if build.path.is_none() => build.path = Some(path.into()),
            other => return Err(unexpected(other)),
        }
    }
    Ok(Some(build))
}

/// What `cargo xtask lab` does.
#[derive(Debug)]
pub enum Lab {
    /// Run commands in a control domain.
    Shell(Choice),
    /// Print the console of the last one.
    Log,
    /// End those of other terminals.
    Stop,
}

/// Reads the arguments of `lab`. Returns `None` for `--help`.
///
/// # Errors
///
/// If the subcommand or an option is unknown.
pub fn lab(parser: &mut Parser) -> Result<Option<Lab>> {
    match next(parser)? {
        Some(Argument::Word(word)) if word == "shell" => Ok(choice(parser)?.map(Lab::Shell)),
        Some(Argument::Word(word)) if word == "log" => Ok(none(parser)?.map(|()| Lab::Log)),
        Some(Argument::Word(word)) if word == "stop" => Ok(none(parser)?.map(|()| Lab::Stop)),
        Some(Argument::Option(name)) if name == "help" => Ok(None),
        Some(other) => Err(unexpected(other)),
        None => Err(Error::new("lab needs a word: shell, log or stop\ntry: cargo xtask lab --help")),
    }
}

/// The arguments of `cargo xtask new`.
#[derive(Debug)]
pub struct New {
    /// The folder to make.
    pub path: PathBuf,
    /// The URL of Granite's git repository; `None` for this checkout.
    pub git: Option<String>,
}

/// Reads `new`'s arguments. Returns `None` for `--help`.
///
/// # Errors
///
/// If an option is unknown, or the path is missing.
pub fn new(parser: &mut Parser) -> Result<Option<New>> {
    let (mut path, mut git) = (None, None);
    while let Some(argument) = next(parser)? {
        match argument {
            Argument::Option(name) if name == "help" => return Ok(None),
            Argument::Option(name) if name == "git" => git = Some(parser.value()?.string()?),
            Argument::Word(word) if path.is_none() => path = Some(PathBuf::from(word)),
            other => return Err(unexpected(other)),
        }
    }
    let path =
        path.ok_or_else(|| Error::new("new needs the name of a folder\ntry: cargo xtask new ../kv"))?;
    Ok(Some(New { path, git }))
}

/// The arguments of `cargo xtask bench`.
#[derive(Debug, Default)]
pub struct Bench {
    /// Whether to compare the freelist with others, on the host.
    pub host: bool,
    /// The rigs to count instructions in.
    pub rigs: Vec<Rig>,
    /// The choice of Xen and QEMU.
    pub choice: Choice,
}

/// Reads `bench`'s arguments. Returns `None` for `--help`.
///
/// # Errors
///
/// If an option is unknown, or a value is bad.
pub fn bench(parser: &mut Parser) -> Result<Option<Bench>> {
    let mut bench = Bench::default();
    while let Some(argument) = next(parser)? {
        match argument {
            Argument::Option(name) if name == "help" => return Ok(None),
            Argument::Option(name) if name == "host" => bench.host = true,
            Argument::Option(name) if name == "rig" => match parser.value()?.string()?.as_str() {
                "host" => bench.host = true,
                "solo" => bench.rigs = vec![Rig::Solo],
                "pair" | "twin" => bench.rigs = vec![Rig::Pair],
                "all" => (bench.host, bench.rigs) = (true, vec![Rig::Solo, Rig::Pair]),
                other => {
                    return Err(Error::new(format!(
                        "--rig {other}: benchmarks run on host, solo, pair, or all"
                    )));
                }
            },
            other => tool(parser, &mut bench.choice, other)?,
        }
    }
    if !bench.host && bench.rigs.is_empty() {
        (bench.host, bench.rigs) = (true, vec![Rig::Solo, Rig::Pair]);
    }
    bench.choice = bench.choice.or_environment();
    Ok(Some(bench))
}

/// Reads a choice of tools. Returns `None` for `--help`.
///
/// # Errors
///
/// If an option is unknown, or a value is bad.
pub fn choice(parser: &mut Parser) -> Result<Option<Choice>> {
    let mut choice = Choice::default();
    while let Some(argument) = next(parser)? {
        match argument {
            Argument::Option(name) if name == "help" => return Ok(None),
            other => tool(parser, &mut choice, other)?,
        }
    }
    Ok(Some(choice.or_environment()))
}

/// Reads an empty command line. Returns `None` for `--help`.
///
/// # Errors
///
/// If there is an argument.
pub fn none(parser: &mut Parser) -> Result<Option<()>> {
    match next(parser)? {
        None => Ok(Some(())),
        Some(Argument::Option(name)) if name == "help" => Ok(None),
        Some(other) => Err(unexpected(other)),
    }
}

/// One argument.
enum Argument {
    /// An option, by its long name. Its value, if any, is not read yet.
    Option(String),
    /// A word.
    Word(String),
    /// Everything after `--`.
    Rest(String),
}

fn next(parser: &mut Parser) -> Result<Option<Argument>> {
    if let Some(raw) = parser.try_raw_args()
        && raw.as_slice().first().is_some_and(|argument| argument == "--")
    {
        let words = raw.skip(1).map(|word| Ok(as_option(word.string()?)));
        return Ok(Some(Argument::Rest(words.collect::<Result<Vec<_>>>()?.join(" "))));
    }
    Ok(match parser.next()? {
        None => None,
        Some(Short('h')) => Some(Argument::Option("help".into())),
        Some(Short('v')) => Some(Argument::Option("verbose".into())),
        Some(Long(name)) => Some(Argument::Option(name.into())),
        Some(Value(word)) => Some(Argument::Word(word.string()?)),
        Some(other @ Short(_)) => return Err(other.unexpected().into()),
    })
}

/// Returns a word for the guest's command line: quotes a value with spaces again, because the shell removed the quotes
/// and the guest needs them.
fn as_option(word: String) -> String {
    if !word.contains(char::is_whitespace) || word.contains('"') {
        return word;
    }
    match word.split_once('=') {
        Some((name, value)) if !name.contains(char::is_whitespace) => format!("{name}=\"{value}\""),
        _ => word, // several options in one word
    }
}

fn unexpected(argument: Argument) -> Error {
    let (what, text) = match argument {
        Argument::Option(name) => ("option --", name),
        Argument::Word(word) => ("argument ", word),
        Argument::Rest(rest) => ("command line of a guest: ", rest),
    };
    Error::new(format!("unexpected {what}{text}\ntry: cargo xtask COMMAND --help"))
}

/// Reads an option common to several commands: `--xen` or `--qemu`.
fn tool(parser: &mut Parser, choice: &mut Choice, argument: Argument) -> Result<()> {
    match argument {
        Argument::Option(name) if name == "xen" => choice.xen = Some(file(parser, "--xen")?),
        Argument::Option(name) if name == "qemu" => choice.qemu = Some(file(parser, "--qemu")?),
        other => return Err(unexpected(other)),
    }
    Ok(())
}

fn rig(name: &str) -> Result<Rig> {
    match name {
        "solo" => Ok(Rig::Solo),
        // `twin` is its former name.
        "pair" | "twin" => Ok(Rig::Pair),
        "direct" => Ok(Rig::Direct),
        "lab" => Ok(Rig::Lab),
        other => Err(Error::new(format!(
            "--rig {other}: there is no such rig\nthere are solo, pair, direct and lab; test has host and all too"
        ))),
    }
}

fn accelerator(name: &str) -> Result<Accelerator> {
    match name {
        "tcg" => Ok(Accelerator::Tcg),
        "kvm" => Ok(Accelerator::Kvm),
        other => Err(Error::new(format!("--accel {other}: it is tcg or kvm"))),
    }
}

fn number(parser: &mut Parser, option: &str, min: u32, max: u32) -> Result<u32> {
    let text = parser.value()?.string()?;
    text.parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| Error::new(format!("{option} {text}: must be a number from {min} to {max}")))
}

/// Reads the path of an existing file and makes it absolute, because QEMU may run in another folder.
fn file(parser: &mut Parser, option: &str) -> Result<PathBuf> {
    let path = PathBuf::from(parser.value()?);
    let is_file = path.is_file();
    let absolute = std::path::absolute(&path).ok().filter(|_| is_file);
    absolute.ok_or_else(|| Error::new(format!("{option} {}: there is no such file", path.display())))
}
