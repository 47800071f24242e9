//! The names of tests, read from the sources: so a misspelt name is refused at once, and only test programs with a
//! possible match are built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::project::Suite;

/// The minimum similarity of a suggestion, from 0 to 1.
const SIMILAR: f64 = 0.8;
/// The maximum number of suggestions.
const SUGGESTIONS: usize = 4;

/// The names of a suite's tests, as found in its sources.
pub struct Names {
    /// The names. Those made by macros are guessed.
    full: BTreeSet<String>,
    /// The parts of names: suite, files, modules, functions.
    words: BTreeSet<String>,
}

impl Names {
    /// Reads the sources of a suite.
    pub fn of(suite: &Suite) -> Self {
        let mut this = Self { full: BTreeSet::new(), words: BTreeSet::from([suite.name.clone()]) };
        let files = files(suite);
        for file in &files {
            let Ok(text) = fs::read_to_string(file) else { continue };
            let code = || text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            let path = module(suite, file);
            this.words.extend(path.split("::").map(str::to_owned));
            this.functions(&path, suite.is_library, code());
            if !suite.is_library {
                this.table(file, &files, code());
            }
        }
        this
    }

    /// Adds the functions: in a library, only those after `#[test]`.
    fn functions<'t>(&mut self, file: &str, only_tests: bool, code: impl Iterator<Item = &'t str>) {
        let (mut is_test, mut path) = (false, file.to_owned());
        for line in code {
            is_test |= line.starts_with("#[test]");
            if let Some(name) = item(line, "mod ").filter(|_| line.ends_with('{')) {
                path = format!("{file}::{name}");
                self.words.insert(name);
            }
            if (is_test || !only_tests)
                && let Some(name) = item(line, "fn ")
            {
                self.full.insert(format!("{path}::{name}"));
                self.words.insert(name);
                is_test = false;
            }
        }
    }

    /// Adds quoted names such as `grant::v1::twice`. Combines a quoted prefix such as `grant::v1::` with each
    /// identifier in the folder's files: a macro may make names this way.
    fn table<'t>(&mut self, file: &Path, files: &[PathBuf], code: impl Iterator<Item = &'t str>) {
        for line in code {
            for quoted in line.split('"').skip(1).step_by(2).filter(|quoted| is_path(quoted)) {
                self.words.extend(quoted.split("::").map(str::to_owned));
                if quoted.ends_with("::") {
                    let beside = files.iter().filter(|other| other.parent() == file.parent());
                    let texts = beside.filter_map(|other| fs::read_to_string(other).ok());
                    for word in
                        texts.flat_map(|text| identifiers(&text).map(str::to_owned).collect::<Vec<_>>())
                    {
                        self.full.insert(format!("{quoted}{word}"));
                        self.words.insert(word);
                    }
                } else if quoted.contains("::") {
                    self.full.insert(quoted.to_owned());
                }
            }
        }
    }

    /// Returns whether the name of a test contains this.
    pub fn have(&self, name: &str) -> bool {
        self.full.iter().any(|full| full.contains(name))
    }

    /// Returns whether the name of a test may contain this: each part is in a word.
    pub fn can_have(&self, name: &str) -> bool {
        name.split("::").all(|part| self.words.iter().any(|word| word.contains(part)))
    }

    /// Returns the names and their parts.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.full.iter().chain(&self.words).map(String::as_str)
    }
}

/// Returns the suite's name and the module path of a file, as printed by cargo.
fn module(suite: &Suite, file: &Path) -> String {
    let root = suite.source.parent().unwrap_or(Path::new("."));
    let below = file.strip_prefix(root).unwrap_or(file).with_extension("");
    let parts = below.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let parts = parts.filter(|part| !["lib", "main", "mod", suite.name.as_str()].contains(&part.as_str()));
    [suite.name.clone()].into_iter().chain(parts).collect::<Vec<_>>().join("::")
}

/// Returns the lower-case identifiers long enough for a test's name.
fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c)).filter(|word| word.len() > 3 && !word.starts_with(char::is_uppercase))
}

/// Returns the source files of a suite: all files in the folder of a `main.rs` or `lib.rs`, or the file itself with the
/// files and folders of its modules.
fn files(suite: &Suite) -> Vec<PathBuf> {
    let folder = suite.source.parent().unwrap_or(Path::new("."));
    if ["main", "lib"].iter().any(|stem| suite.source.file_stem().is_some_and(|own| own == *stem)) {
        let mut files = Vec::new();
        below(folder, &mut files);
        return files;
    }
    let text = fs::read_to_string(&suite.source).unwrap_or_default();
    let mut files = vec![suite.source.clone()];
    for name in text.lines().filter_map(|line| item(line.trim(), "mod ")) {
        files.push(folder.join(&name).with_extension("rs"));
        below(&folder.join(name), &mut files);
    }
    files
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            below(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn item(line: &str, keyword: &str) -> Option<String> {
    let rest = line.strip_prefix("pub ").unwrap_or(line).strip_prefix(keyword)?;
    let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
    (!name.is_empty()).then_some(name)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| is_word(c) || c == ':')
}

/// Returns the names most similar to `wanted`, the best first.
pub fn suggestions<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let last = |name: &'n str| name.rsplit("::").next().unwrap_or(name);
    let likeness = |name| {
        let whole = strsim::jaro_winkler(wanted, name);
        whole.max(strsim::jaro_winkler(wanted.rsplit("::").next().unwrap_or(wanted), last(name)))
    };
    let mut found: Vec<_> = names.map(|name| (likeness(name), name)).collect();
    found.retain(|(likeness, _)| *likeness >= SIMILAR);
    found.sort_by(|(one, name), (other, second)| other.total_cmp(one).then(name.len().cmp(&second.len())));
    found.dedup_by(|(_, one), (_, other)| one == other);
    found.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::{Names, suggestions};
    use crate::project::project;

    #[test]
    fn the_sources_name_their_tests() {
        let suites = project().unwrap().suites();
        let names = |name: &str| Names::of(suites.iter().find(|suite| suite.name == name).unwrap());
        let models = names("models");
        assert!(models.have("models::loom::freelist::alloc_against_alloc"));
        assert!(models.have("against_alloc") && models.can_have("models::against_alloc"));
        assert!(!models.have("alocc_against_alloc") && !models.can_have("alocc_against_alloc"));
        let guest = names("guest");
        assert!(guest.have("grant::v2::status_general_error") && !guest.have("run::smp"));
        let own = names("granite_xtask");
        assert!(own.have("granite_xtask::test::names::tests::the_sources_name_their_tests"));
        assert!(
            !own.have("similar_names_of_others") && !own.have("is_path"),
            "no function that isn't a test"
        );
    }

    #[test]
    fn similar_names_are_suggested() {
        let names = ["grant::v1::twice", "ring::well", "demo::well"];
        assert_eq!(suggestions("demo::wel", names.into_iter())[0], "demo::well");
        assert_eq!(suggestions("twize", names.into_iter()), ["grant::v1::twice"]);
        assert!(suggestions("zzz", names.into_iter()).is_empty());
    }
}
