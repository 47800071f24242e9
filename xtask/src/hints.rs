//! What a failed build is about, where compiler and linker say it in words of their own.

/// What to do about these complaints, if they are known.
pub fn of(complaints: &[String]) -> Option<String> {
    let mut hints = complaints.iter().filter_map(|complaint| {
        wants_std(complaint).or_else(|| entry(complaint)).or_else(|| wants_libc(complaint))
    });
    hints.next()
}

/// A second panic handler: std's, which a dependency brought along.
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
        "the program has two of granite::entry!; it can have one".to_owned()
    } else {
        "the program has no granite::entry!(main), by which Granite finds its main function".to_owned()
    })
}

/// The linker misses a function of the C library. LLD and GNU's linker tell it, and where it is called, in other words.
fn wants_libc(complaint: &str) -> Option<String> {
    let (symbol, function) = lld(complaint).or_else(|| gnu(complaint))?;
    let (who, tree) = match function {
        Some(function) => {
            let name = function.trim_start_matches('<').split("::").next().unwrap_or(function);
            (
                format!("{function}, of the crate {name},"),
                format!("cargo tree --edges features --invert {name}"),
            )
        }
        None => ("a dependency".to_owned(), "cargo tree --edges features".to_owned()),
    };
    Some(format!(
        "{who} wants `{symbol}` of the C library, and a guest has none\n\
         this dependency wants std or C: give it `default-features = false`, or another crate in its place; who brings it:\n  \
         {tree}"
    ))
}

/// `undefined symbol: getenv`, and below it `>>>  FILE:(rand::seed::h0123456789abcdef)`.
fn lld(complaint: &str) -> Option<(&str, Option<&str>)> {
    let (_, rest) = complaint.split_once("undefined symbol: ")?;
    let (symbol, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let callers = rest.lines().take_while(|line| line.trim_start().starts_with(">>>"));
    let mut functions = callers.filter_map(|line| Some(line.rsplit_once(":(")?.1.split_once(')')?.0));
    // A hash ends the name.
    let function = functions.next().map(|name| name.rsplit_once("::h").map_or(name, |(name, _)| name));
    Some((symbol.trim(), function))
}

/// `undefined reference to `getenv'`, and above it `FILE: in function `rand::seed':`.
fn gnu(complaint: &str) -> Option<(&str, Option<&str>)> {
    let (before, rest) = complaint.split_once("undefined reference to `")?;
    let symbol = rest.split(['\'', '`', '\n']).next().unwrap_or(rest);
    let function = before.rsplit_once("in function `").and_then(|(_, rest)| rest.split('\'').next());
    Some((symbol, function))
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
        assert!(hint("symbol `GRANITE_APPLICATION` is already defined").contains("two of granite::entry!"));
        let libc =
            "/usr/bin/ld: a.o: in function `rand::seed':\na.c:(.text+0x1): undefined reference to `getenv'";
        assert!(hint(libc).starts_with("rand::seed, of the crate rand, wants `getenv`"));
        let lld =
            "error: undefined symbol: getenv\n>>> referenced by seed.rs:7\n>>>   a.o:(rand::seed::h0123)\n";
        assert!(hint(lld).starts_with("rand::seed, of the crate rand, wants `getenv`"), "{}", hint(lld));
        assert_eq!(of(&["mismatched types".to_owned()]), None);
    }
}
