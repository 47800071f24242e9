//! Builds a guest's image: runs cargo, reads its messages, and checks the result.

use std::fs;
use std::io::{BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::Stdio;

use cargo_metadata::diagnostic::Diagnostic;
use cargo_metadata::{Message, TargetKind};

use crate::error::{Context, Error, Result};
use crate::guest::{self, Program};
use crate::hints;
use crate::image::{self, Image};
use crate::project::project;

/// The messages of a build, as collected from cargo.
#[derive(Default)]
struct Heard {
    executable: Option<PathBuf>,
    /// The version of Granite in the build.
    granite: Option<String>,
    /// The messages of compilers and linker, without colours.
    complaints: Vec<String>,
}

/// Builds a program, checks the finished image, and writes the stripped image beside it.
///
/// # Errors
///
/// If it can't be built or is unfit to boot.
pub fn build(program: &Program, optimised: bool) -> Result<Image> {
    let (kind, name) = program.target()?;
    let needs = project()?.needs(program)?;
    let mut command = guest::cargo("build", guest::FOLDER, &guest::rustflags()?)?;
    let colours = std::io::stderr().is_terminal();
    let format = if colours { "json-diagnostic-rendered-ansi" } else { "json" };
    command.arg(format!("--{kind}")).args([name, "--message-format", format]);
    if optimised {
        command.arg("--release");
    }
    if !needs.features.is_empty() {
        command.args(["--features", &needs.features.join(",")]);
    }
    let no_cargo = |error| Error::new(format!("cannot run cargo: {error}"));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(no_cargo)?;
    let heard =
        child.stdout.take().map(|output| listen(BufReader::new(output), kind, name)).unwrap_or_default();
    let built = child.wait().map_err(no_cargo)?.success();

    same_granite(heard.granite.as_deref(), env!("CARGO_PKG_VERSION"))?;
    if !built {
        let hint = hints::of(&heard.complaints).map(|hint| format!("\n{hint}")).unwrap_or_default();
        return Err(Error::new(format!("{program} does not build{hint}")));
    }
    let path =
        heard.executable.ok_or_else(|| Error::new(format!("cargo built {program} and did not say where")))?;
    let bytes = fs::read(&path).context("reading", &path)?;
    image::check(&bytes).map_err(|error| Error::new(format!("{program} is not fit to boot: {error}")))?;
    let stripped = path.with_extension("stripped");
    guest::write_whole(&stripped, &image::strip(&bytes))?;
    Ok(Image { path, stripped })
}

/// Checks that the application and its xtask use the same Granite: both rely on the same flags, options and output.
fn same_granite(application: Option<&str>, own: &str) -> Result<()> {
    match application {
        Some(other) if other != own => Err(Error::new(format!(
            "the application uses Granite {other}, and its xtask is of Granite {own}\n\
             name the same Granite in Cargo.toml and in xtask/Cargo.toml"
        ))),
        _ => Ok(()),
    }
}

/// Reads cargo's messages to the end. For a test image, cargo also builds the package's program, in either order, so
/// the executable is identified by kind and name.
fn listen(output: impl std::io::BufRead, kind: &str, name: &str) -> Heard {
    let mut heard = Heard::default();
    for message in Message::parse_stream(output).map_while(std::result::Result::ok) {
        match message {
            Message::CompilerMessage(message) => {
                if let Some(text) = &message.message.rendered {
                    complain!("{}", text.trim_end());
                }
                collect(&message.message, &mut heard.complaints);
            }
            Message::CompilerArtifact(artifact) => {
                let target = artifact.target;
                let is_kind = target.kind.iter().any(|of_it| *of_it == TargetKind::from(kind));
                if is_kind && target.name == name {
                    heard.executable = artifact.executable.map(Into::into);
                }
                let id = &artifact.package_id.repr;
                if target.name == "granite" && target.kind.contains(&TargetKind::Lib) {
                    heard.granite = id.rsplit(['#', '@']).next().map(str::to_owned);
                }
            }
            _ => {}
        }
    }
    heard
}

/// Collects the plain texts of a diagnostic and of its children.
fn collect(diagnostic: &Diagnostic, into: &mut Vec<String>) {
    into.push(diagnostic.message.clone());
    diagnostic.children.iter().for_each(|child| collect(child, into));
}

#[cfg(test)]
mod tests {
    use super::{listen, same_granite};
    use std::path::PathBuf;

    fn artifact(kind: &str, name: &str, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"path+file:///a#granite@1.2.3","manifest_path":"/a/Cargo.toml",
               "target":{{"kind":["{kind}"],"crate_types":["bin"],"name":"{name}","src_path":"/a/x.rs","edition":"2024",
               "doc":true,"doctest":true,"test":true}},"profile":{{"opt_level":"0","debuginfo":0,"debug_assertions":true,
               "overflow_checks":true,"test":false}},"features":[],"filenames":[],"executable":{executable},"fresh":true}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn another_granite_than_the_tool_s_is_refused() {
        assert!(same_granite(Some("1.2.3"), "1.2.3").is_ok() && same_granite(None, "1.2.3").is_ok());
        let error = same_granite(Some("1.3.0"), "1.2.3").unwrap_err().to_string();
        assert!(error.starts_with("the application uses Granite 1.3.0, and its xtask is of Granite 1.2.3"));
    }

    #[test]
    fn the_executable_is_found_among_the_messages_in_any_order() {
        let messages = [
            artifact("lib", "granite", "null"),
            artifact("test", "guest", r#""/a \"b\"/guest""#),
            artifact("bin", "granite", r#""/a/granite""#),
        ];
        for messages in [messages.join("\n"), messages.iter().rev().cloned().collect::<Vec<_>>().join("\n")] {
            let executable = |kind, name| listen(messages.as_bytes(), kind, name).executable;
            assert_eq!(executable("test", "guest"), Some(PathBuf::from("/a \"b\"/guest")));
            assert_eq!(executable("bin", "granite"), Some(PathBuf::from("/a/granite")));
            assert_eq!(executable("test", "die"), None);
            assert_eq!(listen(messages.as_bytes(), "x", "y").granite.as_deref(), Some("1.2.3"));
        }
    }
}
