//! `cargo xtask new`: creates a repository for an application from the files in `template/`.

use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::paths;

/// The template's files, with their paths.
const FILES: &[(&str, &str)] = &[
    (".cargo/config.toml", include_str!("../../template/.cargo/config.toml")),
    ("Cargo.toml", include_str!("../../template/Cargo.toml")),
    ("README.md", include_str!("../../template/README.md")),
    ("rust-toolchain.toml", include_str!("../../template/rust-toolchain.toml")),
    ("src/main.rs", include_str!("../../template/src/main.rs")),
    ("tests/guest.rs", include_str!("../../template/tests/guest.rs")),
    ("xtask/Cargo.toml", include_str!("../../template/xtask/Cargo.toml")),
    ("xtask/src/main.rs", include_str!("../../template/xtask/src/main.rs")),
];

/// Creates the repository. It uses the Granite of this checkout, or of a git repository.
///
/// # Errors
///
/// If the folder isn't empty or can't be written, or its name can't be a package name. The folder is unchanged then.
pub fn new(folder: &Path, git: Option<&str>) -> Result<u8> {
    let folder = &std::path::absolute(folder).context("finding", folder)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    check_name(&name)?;
    if fs::symlink_metadata(folder).is_ok() && !is_empty_folder(folder)? {
        return Err(Error::new(format!(
            "{} exists and isn't an empty folder\nchoose another name; nothing was changed",
            folder.display()
        )));
    }
    let was_there = folder.exists();
    let written = write(folder, &name, git);
    if written.is_err() {
        // Remove the files and folders created so far.
        for (file, _) in FILES {
            let _ = fs::remove_file(folder.join(file));
        }
        for inner in ["xtask/src", "xtask", "tests", "src", ".cargo"] {
            let _ = fs::remove_dir(folder.join(inner));
        }
        if !was_there {
            let _ = fs::remove_dir(folder);
        }
    }
    written?;
    say!(
        "made {}: {} files\n\n  cd {}\n  cargo xtask run",
        name,
        FILES.len(),
        crate::machine::quoted(&folder.to_string_lossy())
    );
    Ok(0)
}

fn is_empty_folder(folder: &Path) -> Result<bool> {
    Ok(folder.is_dir() && fs::read_dir(folder).context("reading", folder)?.next().is_none())
}

/// Checks that cargo accepts the name for a package, and linkers and domains for theirs.
fn check_name(name: &str) -> Result<()> {
    // Cargo reserves some program names for its own folders.
    const TAKEN: &[&str] = &[
        "granite",
        "granite-core",
        "granite-xtask",
        "xtask",
        "test",
        "core",
        "std",
        "alloc",
        "build",
        "deps",
        "examples",
        "incremental",
    ];
    const KEYWORDS: &[&str] = &[
        "as", "async", "await", "box", "break", "const", "continue", "crate", "do", "dyn", "else", "enum",
        "extern", "false", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut",
        "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type",
        "unsafe", "use", "where", "while", "yield",
    ];
    let first = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if first && rest && !TAKEN.contains(&name) && !KEYWORDS.contains(&name) {
        return Ok(());
    }
    Err(Error::new(format!(
        "\"{name}\" can't be a package's name: it begins with a letter, has letters, digits, - and _, and is no name of \
         Rust's or Granite's\nname another folder; nothing was changed"
    )))
}

fn write(folder: &Path, name: &str, git: Option<&str>) -> Result<()> {
    let granite = paths::granite();
    let path = |below: &str| {
        let path = if below.is_empty() { granite.clone() } else { granite.join(below) };
        format!("path = {}", toml_text(&path.to_string_lossy()))
    };
    for (file, text) in FILES {
        let (app, tool) = match git {
            Some(url) => (format!("git = {}", toml_text(url)), format!("git = {}", toml_text(url))),
            None => (path(""), path("xtask")),
        };
        let text = text
            .replace("path = \"..\"", &app)
            .replace("path = \"../../xtask\"", &tool)
            .replace("name = \"app\"", &format!("name = \"{name}\""))
            .replace("# app\n", &format!("# {name}\n"));
        let path = folder.join(file);
        if let Some(inner) = path.parent() {
            fs::create_dir_all(inner).context("making", inner)?;
        }
        fs::write(&path, text).context("writing", &path)?;
    }
    Ok(())
}

/// Quotes a text for TOML.
fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::{FILES, check_name, new};
    use std::fs;

    #[test]
    fn names_are_those_of_packages() {
        for good in ["kv", "my-app", "a_1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "1st", "a b", "fn", "granite", "deps", "ä", "..", "a.b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let folder = std::env::temp_dir().join(format!("granite-new-{}", std::process::id()));
        let app = folder.join("app");
        fs::create_dir_all(&app).unwrap();
        fs::write(app.join("file"), "mine").unwrap();
        let error = new(&app, None).unwrap_err().to_string();
        assert!(error.contains("isn't an empty folder"), "{error}");
        assert_eq!(fs::read_dir(&app).unwrap().count(), 1);
        fs::remove_file(app.join("file")).unwrap();
        assert_eq!(new(&app, Some("https://example.org/g.git")).unwrap(), 0);
        let manifest = fs::read_to_string(app.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("granite = { git = \"https://example.org/g.git\" }"), "{manifest}");
        assert!(new(&app, None).is_err(), "a second time");
        assert!(new(&folder.join("no/such/way/1"), None).is_err());
        // A file in place of a folder: no created file stays.
        fs::write(folder.join("plain"), "").unwrap();
        assert!(new(&folder.join("plain/kv"), None).is_err());
        assert!(FILES.len() <= 8);
        fs::remove_dir_all(&folder).unwrap();
    }
}
