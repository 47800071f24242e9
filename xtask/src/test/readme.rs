//! README's steps, followed to the letter.

use std::fs;

use super::commands::{output_of, xtask};
use super::template::Application;
use super::{Case, NotPassed};
use crate::paths;
use crate::setup::Choice;

/// Commands that need a real dom0.
const OF_DOM0: [&str; 2] = ["xl", "virsh"];

/// Follows the section on applications in the application's repository, which was made by its first step.
pub fn application(application: &Application) -> Case {
    let readme = text()?;
    let steps = commands(section(&readme, "## An application")?);
    let [new, cd, rest @ ..] = &steps[..] else { return Err(NotPassed::fail("README has no steps")) };
    if (new, cd) != (&Application::NEW.join(" "), &"cd ../kv".to_owned()) {
        return Err(NotPassed::fail(format!("README begins with {new:?} and {cd:?}")));
    }
    for step in rest {
        let words: Vec<_> = step.split(' ').collect();
        match &words[..] {
            ["cargo", words @ ..] => application.expect(words, 0, &[])?,
            [program, ..] if OF_DOM0.contains(program) => {}
            _ => return Err(NotPassed::fail(format!("not a command of cargo's: {step}"))),
        }
    }
    let main = fs::read_to_string(application.folder.join("src/main.rs")).unwrap_or_default();
    if readme.contains(&main) { Ok(()) } else { Err(NotPassed::fail("README shows another src/main.rs")) }
}

/// Runs the commands of the section on examples.
pub fn examples(choice: &Choice) -> Case {
    let readme = text()?;
    let steps = commands(section(&readme, "## Examples")?);
    if steps.is_empty() {
        return Err(NotPassed::fail("README has no examples"));
    }
    for step in steps {
        let words: Vec<_> = step.split(' ').collect();
        let ["cargo", "xtask", words @ ..] = &words[..] else {
            return Err(NotPassed::fail(format!("not a command of xtask: {step}")));
        };
        output_of(xtask(choice, words), 0, &["granite: end: success"])?;
    }
    Ok(())
}

fn text() -> Result<String, NotPassed> {
    fs::read_to_string(paths::root().join("README.md")).map_err(|error| NotPassed::fail(error.to_string()))
}

/// The text of a section, with its subsections.
fn section<'t>(readme: &'t str, title: &str) -> Result<&'t str, NotPassed> {
    let (_, rest) =
        readme.split_once(title).ok_or_else(|| NotPassed::fail(format!("README has no \"{title}\"")))?;
    Ok(rest.split("\n## ").next().unwrap_or(rest))
}

/// The commands in its shell blocks, without comments.
fn commands(section: &str) -> Vec<String> {
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{commands, section};

    #[test]
    fn commands_are_those_of_shell_blocks() {
        let readme = "## A\n```sh\nx  # comment\n\ny z\n```\n```text\nno\n```\n### Below\n```sh\nw\n```\n## B\n```sh\nb\n```";
        assert_eq!(commands(section(readme, "## A").unwrap()), ["x", "y z", "w"]);
        assert!(section(readme, "## C").is_err());
    }
}
