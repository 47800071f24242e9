//! xtask's command line.

mod run;
mod test;

pub use run::{Run, TIMEOUT, run};
pub use test::{Test, test};

use std::path::{Path, PathBuf};

use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};

use crate::error::{Error, Result};
use crate::guest::Program;
use crate::machine::Rig;
use crate::setup::Choice;

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
