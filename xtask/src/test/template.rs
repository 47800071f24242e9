//! An application in its own repository outside this checkout, used as its author would. Granite's checkout is
//! read-only meanwhile, and the repository is moved once.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::checkout::{copy_sources, io, is_root, make_writable, shell};
use super::commands::output_of;
use super::{Case, NotPassed, Session, readme};
use crate::machine::Rig;
use crate::paths;
use crate::setup::Choice;

/// A program using third-party crates, and its dependencies.
const ECOSYSTEM: &str = include_str!("../../../tests/application/ecosystem.rs");
const DEPENDENCIES: &str = include_str!("../../../tests/application/dependencies.toml");

/// The date of the commit in the git repository.
const DATE: &str = "2000-01-01T00:00:00Z";

/// A case's name, a cargo command in the repository, the expected exit status, and the expected output.
type Step = (&'static str, &'static [&'static str], u8, &'static [&'static str]);

/// The commands for the application as made, each independent of the others.
const STEPS: &[Step] = &[
    ("run", &["xtask", "run"], 0, &["hello from domain 0", "granite: end: success"]),
    ("test", &["xtask", "test"], 0, &["PASS    solo   a_page_is_granted", "1 passed, 0 failed"]),
    ("check", &["xtask", "check"], 0, &["PASS    formatting", "PASS    clippy, guest", "PASS    licences"]),
    ("clippy", &["clippy", "--all-targets", "--", "-D", "warnings"], 0, &[]),
    ("cargo_test", &["test"], 0, &["cases run in a guest"]),
    ("image", &["xtask", "image", "made"], 0, &["made/kv.cfg", "made/kv.xml", "made/qubes/kv/vmlinuz"]),
    ("bench", &["xtask", "bench"], 2, &["no benches/NAME.rs has granite::entry!"]),
    ("no_such_example", &["xtask", "run", "--example", "none"], 2, &["there is no example none"]),
    ("new_again", &["xtask", "new", "."], 2, &["isn't an empty folder", "nothing was changed"]),
    ("new_bad_name", &["xtask", "new", "../1st"], 2, &["\"1st\" can't be a package's name"]),
    ("new_without_access", &["xtask", "new", "/proc/kv"], 2, &["/proc/kv"]),
    ("flags", &["xtask", "flags"], 0, &["cargo build --release --config guest.toml"]),
    ("bare_cargo", &["build", "--release", "--config", "guest.toml"], 0, &[]),
];

/// A mistake: the case's name, a file, a text in it and its replacement, and the error of `cargo xtask run`.
type Mistake = (&'static str, &'static str, &'static str, &'static str, &'static str);

const MISTAKES: &[Mistake] = &[
    ("no_entry", "src/main.rs", "granite::entry!(main);\n", "", "the program has no granite::entry!(main)"),
    (
        "two_entries",
        "src/main.rs",
        "granite::entry!(main);\n",
        "granite::entry!(main);\nmod other {\n    granite::entry!(crate::main);\n}\n",
        "the program has two granite::entry!",
    ),
    (
        "feature_that_is_not_there",
        "Cargo.toml",
        "# features = [\"embassy\"]",
        "features = [\"fast\"]",
        "src/main.rs needs the feature fast, which kv doesn't have",
    ),
    (
        "std_of_a_dependency",
        "Cargo.toml",
        "[dependencies]\n",
        "[dependencies]\nlog = { version = \"0.4\", features = [\"std\"] }\n",
        "the dependency log wants std",
    ),
];

/// Runs all cases.
pub fn run(session: &mut Session<'_>) {
    let choice = session.arguments.choice.clone();
    let mut made = None;
    let mut case = |session: &mut Session<'_>, name: &str, run: &dyn Fn(&mut Application) -> Case| {
        session.case(Rig::Solo, &format!("application::{name}"), || {
            let made = made.get_or_insert_with(|| Application::new(choice.clone()));
            match made {
                Ok(application) => run(application),
                Err(why) => Err(NotPassed::fail(why.clone())),
            }
        });
    };
    for &(name, words, status, shows) in STEPS {
        case(session, name, &|application| application.expect(words, status, shows));
    }
    case(session, "readme", &|application| readme::application(application));
    for mistake in MISTAKES {
        case(session, mistake.0, &|application| application.mistake(mistake));
    }
    case(session, "cfgs_are_passed_on", &Application::cfgs);
    case(session, "stack", &Application::stack);
    case(session, "a_case_that_crashes", &Application::crash);
    case(session, "flags_that_are_lost", &Application::lost_flags);
    case(session, "ecosystem", &Application::ecosystem);
    case(session, "new_git", &Application::git);
    case(session, "moved", &Application::moved);
}

/// The application's repository and its copy of Granite, both deleted on drop.
pub(super) struct Application {
    base: Base,
    pub(super) folder: PathBuf,
    granite: PathBuf,
    choice: Choice,
}

impl Drop for Application {
    fn drop(&mut self) {
        self.base.clear();
    }
}

/// The folder of the repositories, outside this checkout: its formatting rules don't apply to an application.
struct Base {
    path: PathBuf,
    /// Held until this process ends, if the folder is the one of every run.
    _lock: Option<File>,
}

impl Base {
    /// Returns a folder, the same one in every run if no other run has it now: cargo rebuilds a package that has moved.
    fn new() -> Self {
        let mut hasher = DefaultHasher::new();
        paths::target().hash(&mut hasher);
        let name = format!("granite-applications-{:016x}", hasher.finish());
        let path = std::env::temp_dir().join(&name);
        // In the build folder: its owner is this run's user.
        let file = File::create(paths::target().join("applications.lock")).ok();
        let lock = file.filter(|file| file.try_lock().is_ok());
        let path = if lock.is_some() { path } else { path.with_extension(std::process::id().to_string()) };
        Self { path, _lock: lock }
    }

    /// Deletes the folder.
    fn clear(&self) {
        if self.path.exists() {
            let _ = make_writable(&self.path);
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Application {
    /// The command that makes it, in Granite's checkout.
    pub(super) const NEW: [&str; 4] = ["cargo", "xtask", "new", "../kv"];

    /// Makes the application by `cargo xtask new` in a read-only copy of this checkout.
    fn new(choice: Choice) -> Result<Self, String> {
        let base = Base::new();
        // A killed run leaves its folder.
        base.clear();
        let (folder, granite) = (base.path.join("kv"), base.path.join("granite"));
        let text = |not_passed| match not_passed {
            NotPassed::Skip(why) | NotPassed::Fail(why, _) => why,
        };
        copy_sources(paths::root(), &granite, &paths::target()).map_err(text)?;
        if !is_root() {
            shell(&format!("chmod -R a-w '{}'", granite.display())).map_err(text)?;
        }
        let this = Self { base, folder, granite, choice };
        let command = this.command(&this.granite, &Self::NEW[1..]);
        output_of(command, 0, &["made kv: 8 files"]).map_err(|not_passed| match not_passed {
            NotPassed::Skip(why) => why,
            NotPassed::Fail(why, log) => format!("cargo xtask new: {why}\n{}", log.join("\n")),
        })?;
        Ok(this)
    }

    /// Returns a cargo command in a folder.
    fn command(&self, folder: &std::path::Path, words: &[&str]) -> Command {
        let granite = self.granite.display();
        // Permissions don't stop root. A read-only mount does, in a mount namespace of its own, if one can be made.
        let guard = format!(
            "if unshare --mount true 2>/dev/null; then exec unshare --mount sh -c 'mount --bind \"$0\" \"$0\" && mount -o \
             remount,bind,ro \"$0\" && exec cargo \"$@\"' '{granite}' \"$@\"; else exec cargo \"$@\"; fi"
        );
        let mut command = Command::new("sh");
        command.args(["-c", if is_root() { &guard } else { "exec cargo \"$@\"" }, "sh"]).args(words);
        command.current_dir(folder).envs(self.choice.to_environment()).stdin(Stdio::null());
        command.env("CARGO_TARGET_DIR", paths::target().join("applications/build"));
        // Cargo set these for this xtask's checkout.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO"] {
            command.env_remove(name);
        }
        command
    }

    pub(super) fn expect(&self, words: &[&str], status: u8, shows: &[&str]) -> Case {
        output_of(self.command(&self.folder, words), status, shows).map(|_| ())
    }

    /// Runs `run` with one file changed, and then restores the file.
    fn with(&self, file: &str, change: impl Fn(String) -> String, run: impl FnOnce() -> Case) -> Case {
        let path = self.folder.join(file);
        let before = fs::read_to_string(&path).map_err(io)?;
        let after = change(before.clone());
        if after == before {
            return Err(NotPassed::fail(format!("nothing to change in {file}")));
        }
        fs::write(&path, after).map_err(io)?;
        let result = run();
        fs::write(&path, before).map_err(io)?;
        result
    }

    fn mistake(&self, &(_, file, before, after, says): &Mistake) -> Case {
        let run = || self.expect(&["xtask", "run"], 2, &[says]);
        self.with(file, |text| text.replace(before, after), run)
    }

    fn cfgs(&mut self) -> Case {
        let say = "#[cfg(fast)]\n    println!(\"fast\");\n    Ok(())";
        self.with(
            "src/main.rs",
            |text| text.replace("Ok(())", say),
            || {
                let change = |text: String| text.replace("# cfgs = [", "cfgs = [");
                self.with("Cargo.toml", change, || self.expect(&["xtask", "run"], 0, &["\nfast"]))?;
                let mut command = self.command(&self.folder, &["xtask", "run"]);
                command.env("RUSTFLAGS", "--cfg fast");
                output_of(command, 0, &["\nfast"]).map(|_| ())
            },
        )
    }

    /// A function needing 512 KiB of stack hits the guard page, and runs with a larger `stack` in Cargo.toml.
    fn stack(&mut self) -> Case {
        let deep = "    let mut deep = [0u8; 512 << 10];\n    core::hint::black_box(&mut deep)[1] = 1;\n    \
                    println!(\"{}\", deep.len());\n    Ok(())";
        self.with(
            "src/main.rs",
            |text| text.replace("    Ok(())", deep),
            || {
                self.expect(&["xtask", "run"], 3, &["the boot stack overflowed"])?;
                let change = |text: String| text.replace("# stack = ", "stack = ");
                self.with("Cargo.toml", change, || self.expect(&["xtask", "run"], 0, &["\n524288"]))
            },
        )
    }

    /// The cases after a crashing one still get their verdicts.
    fn crash(&mut self) -> Case {
        let change = |text: String| {
            let cases = "granite::tests![on_purpose, a_page_is_granted_and_comes_back];\n\n\
                         fn on_purpose(_: &'static Platform) -> Result<(), NotPassed> {\n    panic!(\"on purpose\")\n}";
            text.replace("granite::tests![a_page_is_granted_and_comes_back];", cases)
        };
        let shows =
            ["CRASH   solo   on_purpose", "tests/guest.rs:12", "PASS    solo   a_page", "1 passed, 1 failed"];
        self.with("tests/guest.rs", change, || self.expect(&["xtask", "test"], 1, &shows))
    }

    /// The build of a guest without some of its flags fails, and the error names the remedy.
    fn lost_flags(&mut self) -> Case {
        let mut command =
            self.command(&self.folder, &["build", "--release", "--target", crate::guest::TARGET]);
        command.env("RUSTFLAGS", "--cfg granite_guest -Cpanic=abort");
        output_of(command, 101, &["a guest needs the compiler flag -C", "cargo xtask build"]).map(|_| ())
    }

    fn ecosystem(&mut self) -> Case {
        fs::create_dir_all(self.folder.join("examples")).map_err(io)?;
        fs::write(self.folder.join("examples/ecosystem.rs"), ECOSYSTEM).map_err(io)?;
        let change = |text: String| {
            let text = text.replace(
                "\" }\n\n# Booted",
                "\", features = [\"critical-section\", \"embassy\", \"random\"] }\n\n# Booted",
            );
            text.replace("[dependencies]\n", &format!("[dependencies]\n{DEPENDENCIES}"))
        };
        let shows = [
            "1000 numbers from vCPU 1 to vCPU 0",
            "random: [",
            "json: 3",
            "tcp: hello",
            "granite: end: success",
        ];
        let words = ["xtask", "run", "--example", "ecosystem", "--smp", "2"];
        let result = self.with("Cargo.toml", change, || self.expect(&words, 0, &shows));
        fs::remove_dir_all(self.folder.join("examples")).map_err(io)?;
        result
    }

    /// An application with Granite from a git repository. Cargo keeps a clone of it in its home folder.
    fn git(&mut self) -> Case {
        if !Command::new("git").arg("--version").output().is_ok_and(|output| output.status.success()) {
            return Err(NotPassed::Skip("there is no git".into()));
        }
        // With the same name, contents and date, cargo reuses the last run's build.
        let name = self.base.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (from, repository) = (self.granite.display(), self.base.path.join(&name));
        shell(&format!(
            "cp -r '{from}' '{0}' && chmod -R u+w '{0}' && cd '{0}' && git init -q && git add -A && \
             export GIT_AUTHOR_DATE='{DATE}' GIT_COMMITTER_DATE='{DATE}' && \
             git -c user.name=test -c user.email=test@localhost commit -qm all",
            repository.display()
        ))?;
        let folder = self.base.path.join("by-git");
        let mut new = self
            .command(&self.granite, &["xtask", "new", "--git", &format!("file://{}", repository.display())]);
        new.arg(&folder);
        let shows = ["hello from domain 0", "granite: end: success"];
        let ran = output_of(new, 0, &["made by-git: 8 files"])
            .and_then(|_| output_of(self.command(&folder, &["xtask", "run"]), 0, &shows));
        let home = "${CARGO_HOME:-$HOME/.cargo}/git";
        shell(&format!("rm -rf {home}/db/{name}-* {home}/checkouts/{name}-*"))?;
        ran.map(|_| ())
    }

    /// The application also works after a move.
    fn moved(&mut self) -> Case {
        let place = self.base.path.join("moved, with a space");
        fs::create_dir_all(&place).map_err(io)?;
        let there = place.join("kv");
        fs::rename(&self.folder, &there).map_err(io)?;
        self.folder = there;
        for (_, words, status, shows) in STEPS.iter().filter(|step| ["run", "test"].contains(&step.0)) {
            self.expect(words, *status, shows)?;
        }
        Ok(())
    }
}
