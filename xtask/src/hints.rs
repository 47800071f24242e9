//! Hints for failed builds, where the messages of compiler and linker hide the cause.

/// Returns advice about the first known message.
pub fn of(complaints: &[String]) -> Option<String> {
    let mut hints = complaints.iter().filter_map(|complaint| {
        wants_std(complaint).or_else(|| entry(complaint)).or_else(|| wants_libc(complaint))
    });
    hints.next()
}

/// Recognises a second panic handler: std's, linked through a dependency.
fn wants_std(complaint: &str) -> Option<String> {
    let (_, rest) = complaint.split_once("first defined in crate `std` (which `")?;
    let name = rest.split_once('`')?.0;
    Some(format!(
        "the dependency {name} wants std, and a guest has none\n\
         give it `default-features = false` in Cargo.toml, or another crate in its place; who brings it:\n  \
         cargo tree --edges features --invert {name}"
    ))
}

fn entry(complaint: &str) -> Option<String> {
    if !complaint.contains("GRANITE_APPLICATION") {
        return None;
    }
    let twice = ["multiple definition", "already defined", "defined multiple times", "duplicate symbol"];
    Some(if twice.iter().any(|words| complaint.contains(words)) {
        "the program has two granite::entry!; it must have one".to_owned()
    } else {
        "the program has no granite::entry!(main), which names its main function".to_owned()
    })
}

/// Recognises a missing function of the C library. LLD and GNU's linker word it, and its caller, differently.
fn wants_libc(complaint: &str) -> Option<String> {
    let (symbol, by) = lld(complaint).or_else(|| gnu(complaint))?;
    let (who, tree) = match by {
        Some(By::Crate(name)) => (format!("the crate {name}"), format!(" --invert {name}")),
        Some(By::File(file)) => (file.to_owned(), String::new()),
        None => ("a dependency".to_owned(), String::new()),
    };
    Some(format!(
        "{who} wants `{symbol}` of the C library, and a guest has none\n\
         a dependency that wants std or C needs `default-features = false`, or another in its place; who brings it:\n  \
         cargo tree --edges features{tree}"
    ))
}

/// The caller of the missing function.
#[derive(Debug, PartialEq, Eq)]
enum By<'a> {
    Crate(&'a str),
    /// A file and line of the application.
    File(&'a str),
}

/// Parses `undefined symbol: getenv`, followed by
/// `>>> referenced by seed.rs:7 (/registry/src/INDEX/rand-0.1.2/src/seed.rs:7)` and
/// `>>>  OBJECT:(rand::seed::h0123456789abcdef)`.
fn lld(complaint: &str) -> Option<(&str, Option<By<'_>>)> {
    let (_, rest) = complaint.split_once("undefined symbol: ")?;
    let (symbol, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let mut callers = Vec::new();
    let mut functions = Vec::new();
    for line in rest.lines().take_while(|line| line.trim_start().starts_with(">>>")) {
        if let Some((_, place)) = line.split_once("referenced by ") {
            callers.extend(place.split_once('(').and_then(|(_, path)| path.strip_suffix(')')));
        } else if let Some((_, function)) = line.rsplit_once(":(") {
            functions.extend(function.split(')').next());
        }
    }
    let by_file = callers.iter().find_map(|path| crate_of_file(path));
    let by = by_file.or_else(|| functions.into_iter().find_map(crate_of_function));
    Some((symbol.trim(), by.map(By::Crate).or_else(|| callers.first().copied().map(By::File))))
}

/// Returns the crate containing this file, if cargo fetched the crate.
fn crate_of_file(path: &str) -> Option<&str> {
    let below = path.split_once("/registry/src/")?.1.split_once('/')?.1;
    Some(below.split('/').next()?.rsplit_once('-')?.0)
}

/// Returns the crate containing this function. `None` for Rust's own crates, which don't identify the caller.
fn crate_of_function(name: &str) -> Option<&str> {
    let name = name.trim_start_matches('<').split("::").next()?;
    (!["core", "alloc", "std", ""].contains(&name)).then_some(name)
}

/// Parses `undefined reference to `getenv'`, preceded by `FILE: in function `rand::seed':`.
fn gnu(complaint: &str) -> Option<(&str, Option<By<'_>>)> {
    let (before, rest) = complaint.split_once("undefined reference to `")?;
    let symbol = rest.split(['\'', '`', '\n']).next().unwrap_or(rest);
    let function = before.rsplit_once("in function `").and_then(|(_, rest)| rest.split('\'').next());
    Some((symbol, function.and_then(crate_of_function).map(By::Crate)))
}

#[cfg(test)]
mod tests {
    use super::of;

    fn hint(text: &str) -> String {
        of(&["linking failed".to_owned(), text.to_owned()]).unwrap_or_default()
    }

    #[test]
    fn known_complaints_have_a_hint() {
        let std = "the lang item is first defined in crate `std` (which `memchr` depends on)";
        assert!(hint(std).starts_with("the dependency memchr wants std"));
        let none = "a.o: in function `rust_entry':\nx: undefined reference to `GRANITE_APPLICATION'";
        assert!(hint(none).contains("no granite::entry!"));
        assert!(hint("symbol `GRANITE_APPLICATION` is already defined").contains("two granite::entry!"));
        let libc =
            "/usr/bin/ld: a.o: in function `rand::seed':\na.c:(.text+0x1): undefined reference to `getenv'";
        assert!(hint(libc).starts_with("the crate rand wants `getenv`"));
        let lld = "error: undefined symbol: getenv\n>>> referenced by seed.rs:7 (/x/registry/src/i/rand-0.1.2/src/seed.rs:7)\n\
                   >>>   a.o:(core::ops::call::h0123)\n";
        assert!(hint(lld).starts_with("the crate rand wants `getenv`"), "{}", hint(lld));
        let own = lld.replace("/x/registry/src/i/rand-0.1.2/", "");
        assert!(hint(&own).starts_with("src/seed.rs:7 wants `getenv`"), "{}", hint(&own));
        assert_eq!(of(&["mismatched types".to_owned()]), None);
    }
}
