//! The package to build, as described by cargo and its manifest.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use cargo_metadata::{MetadataCommand, Package, Target, TargetKind};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::guest::Program;
use crate::paths;

/// The package in the checkout's root, and the names of the workspace's packages.
#[derive(Debug)]
pub struct Project {
    package: Package,
    /// All packages of the workspace.
    members: Vec<Package>,
}

/// A test program that `cargo test` builds and runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// The name of its file, as cargo prints it.
    pub name: String,
    /// Its package.
    pub package: String,
    /// Whether it's the package's library with its unit tests, and not a file of `tests/`.
    pub is_library: bool,
    /// Its root source file.
    pub source: PathBuf,
}

/// A program's requirements, from the manifest: `[package.metadata.granite]` for `src/main.rs`, and
/// `[package.metadata.granite.example.NAME]` for an example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A rig other than the usual one: `rig = "pair"`.
    pub rig: Option<String>,
    /// An example whose image becomes a module: `module = "hello"`.
    pub module: Option<String>,
    /// Features of the package: `features = ["a", "b"]`, and an example's `required-features`.
    pub features: Vec<String>,
}

/// Returns the package in the checkout's root. Cargo is asked once.
///
/// # Errors
///
/// If cargo can't read the manifest.
pub fn project() -> Result<&'static Project> {
    static PROJECT: OnceLock<Project> = OnceLock::new();
    if let Some(project) = PROJECT.get() {
        return Ok(project);
    }
    let project = Project::read()?;
    Ok(PROJECT.get_or_init(|| project))
}

impl Project {
    fn read() -> Result<Self> {
        let manifest = paths::root().join("Cargo.toml");
        let mut command = MetadataCommand::new();
        command.no_deps().manifest_path(&manifest);
        if let Some(cargo) = std::env::var_os("CARGO") {
            command.cargo_path(cargo);
        }
        let metadata = command.exec().map_err(|error| Error::new(format!("cargo metadata: {error}")))?;
        let members = metadata.packages;
        let is_it = |package: &&Package| package.manifest_path.as_std_path() == manifest;
        let package = members.iter().find(is_it).cloned();
        package
            .map(|package| Self { package, members })
            .ok_or_else(|| Error::new(format!("{} has no [package]", manifest.display())))
    }

    /// Returns the package's name.
    pub fn name(&self) -> &str {
        &self.package.name
    }

    /// Returns the names of all packages in the checkout's workspace.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|package| package.name.as_str())
    }

    /// Returns the test programs of the workspace.
    pub fn suites(&self) -> Vec<Suite> {
        let suite = |package: &Package, target: &Target| {
            let is_library = target.kind.contains(&TargetKind::Lib);
            let is_suite = target.test && (is_library || target.kind.contains(&TargetKind::Test));
            is_suite.then(|| Suite {
                name: target.name.replace('-', "_"),
                package: package.name.to_string(),
                is_library,
                source: target.src_path.clone().into(),
            })
        };
        let all = |package: &'_ Package| -> Vec<Suite> {
            package.targets.iter().filter_map(|target| suite(package, target)).collect()
        };
        self.members.iter().flat_map(all).collect()
    }

    /// Returns the name of the program in `src/main.rs`.
    ///
    /// # Errors
    ///
    /// If there is none, or if there are several without a default.
    pub fn main(&self) -> Result<&str> {
        let names: Vec<_> = self.targets(&TargetKind::Bin).map(|target| target.name.as_str()).collect();
        let by_name = |wanted: &str| names.iter().find(|name| **name == wanted).copied();
        let default = self.package.default_run.as_deref().and_then(by_name).or_else(|| by_name(self.name()));
        match (default, &names[..]) {
            (Some(name), _) => Ok(name),
            (None, [name]) => Ok(*name),
            (None, []) => Err(Error::new(format!("the package {} has no src/main.rs", self.name()))),
            (None, _) => Err(Error::new(format!(
                "the package {} has several programs: {}\nname one of them as default-run in Cargo.toml",
                self.name(),
                names.join(", ")
            ))),
        }
    }

    /// Returns the names of the examples, sorted.
    pub fn examples(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.targets(&TargetKind::Example).map(|target| target.name.clone()).collect();
        names.sort();
        names
    }

    /// Returns the bootable tests or benches: those with `granite::tests!` or `granite::entry!`.
    pub fn guests(&self, kind: &TargetKind) -> Vec<String> {
        let is_guest = |target: &&Target| {
            let source = fs::read_to_string(&target.src_path).unwrap_or_default();
            ["granite::tests!", "granite::entry!"].iter().any(|entry| source.contains(entry))
        };
        self.targets(kind).filter(is_guest).map(|target| target.name.clone()).collect()
    }

    /// Returns whether the package has a library beside its programs.
    pub fn has_library(&self) -> bool {
        self.targets(&TargetKind::Lib).next().is_some()
    }

    fn targets<'s>(&'s self, kind: &TargetKind) -> impl Iterator<Item = &'s Target> {
        self.package.targets.iter().filter(move |target| target.kind.contains(kind))
    }

    /// Returns the configurations for the application's code, in addition to Granite's own: `cfgs = ["fast"]`.
    pub fn cfgs(&self) -> Vec<String> {
        strings(self.granite().get("cfgs"))
    }

    /// Returns the size of the application's stack in KiB, if the manifest has it: `stack = 1024`.
    pub fn stack(&self) -> Option<u64> {
        self.granite().get("stack")?.as_u64()
    }

    fn granite(&self) -> &Value {
        self.package.metadata.get("granite").unwrap_or(&Value::Null)
    }

    /// Returns a program's requirements.
    ///
    /// # Errors
    ///
    /// If it needs a feature missing from the package.
    pub fn needs(&self, program: &Program) -> Result<Needs> {
        let (table, required) = match program {
            Program::Main => (self.granite(), Vec::new()),
            Program::Example(name) => {
                let example = self.targets(&TargetKind::Example).find(|target| target.name == *name);
                let required = example.map(|example| example.required_features.clone()).unwrap_or_default();
                let table = self.granite().get("example").and_then(|examples| examples.get(name));
                (table.unwrap_or(&Value::Null), required)
            }
            Program::Test(_) | Program::Bench(_) => return Ok(Needs::default()),
        };
        let text = |key| Some(table.get(key)?.as_str()?.to_owned());
        let mut features = strings(table.get("features"));
        features.extend(required);
        if let Some(unknown) = features.iter().find(|name| !self.package.features.contains_key(*name)) {
            let known: Vec<_> = self.package.features.keys().map(String::as_str).collect();
            return Err(Error::new(format!(
                "Cargo.toml: {program} needs the feature {unknown}, which {} doesn't have\nit has: {}",
                self.name(),
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )));
        }
        Ok(Needs { rig: text("rig"), module: text("module"), features })
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::{Needs, project};
    use crate::guest::Program;

    #[test]
    fn programs_say_what_they_need() {
        let project = project().unwrap();
        let needs = |program| project.needs(&program).unwrap();
        assert_eq!(needs(Program::Main).rig.as_deref(), Some("pair"));
        let disk = needs(Program::Example("async_disk".into()));
        assert_eq!((disk.rig.as_deref(), &disk.features[..]), (Some("pair"), &["embassy".to_owned()][..]));
        assert_eq!(needs(Program::Example("launch".into())).module.as_deref(), Some("hello"));
        assert_eq!(needs(Program::Example("hello".into())), Needs::default());
    }
}
