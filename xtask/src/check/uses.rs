//! Finds the rooms used by a file: through `crate::room`, through `super::` up to the crate's root, or by a macro.

/// A file of a crate.
pub struct Source {
    /// Its path below `src`, without `.rs`.
    pub path: Vec<String>,
    pub text: String,
}

impl Source {
    /// Returns its top-level folder, or file, in `src`.
    pub fn room(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// Returns the number of `super` steps from the file's own module to the root.
    fn depth(&self) -> usize {
        self.path.len() - usize::from(self.path.last().is_some_and(|name| name == "mod"))
    }
}

/// A word, `::`, or any other character of the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'a> {
    Word(&'a str),
    Path,
    Other(char),
}

/// Returns the code's tokens. Comments are skipped, as documentation may link to any room. So are strings.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("'\"'") => 3,
            '"' => end_of_string(rest),
            _ if rest.starts_with("::") => {
                tokens.push(Token::Path);
                2
            }
            _ if first.is_alphanumeric() || first == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                tokens.push(Token::Word(&rest[..end]));
                end
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(Token::Other(first));
                }
                first.len_utf8()
            }
        };
        rest = &rest[end..];
    }
    tokens
}

fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Returns the names of the macros defined by a file, with `!`.
pub fn macros(source: &Source) -> impl Iterator<Item = String> {
    let tokens = tokens(&source.text);
    let names = tokens.windows(3).filter_map(|window| match window {
        [Token::Word("macro_rules"), Token::Other('!'), Token::Word(name)] => Some(format!("{name}!")),
        _ => None,
    });
    names.collect::<Vec<_>>().into_iter()
}

/// Returns the names used by a file: the first names of paths from the root, and macros with their `!`.
pub fn uses(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.text);
    let mut found = Vec::new();
    // Open braces: whether each belongs to a module.
    let mut braces = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = |steps: usize| at.checked_sub(steps).and_then(|at| tokens.get(at));
        match token {
            Token::Other('{') => braces
                .push(matches!((before(2), before(1)), (Some(Token::Word("mod")), Some(Token::Word(_))))),
            Token::Other('}') => drop(braces.pop()),
            Token::Other('!') => match (before(1), tokens.get(at + 1)) {
                (Some(Token::Word("macro_rules")), _) => {}
                (Some(Token::Word(name)), Some(Token::Other('(' | '[' | '{'))) => {
                    found.push(format!("{name}!"))
                }
                _ => {}
            },
            Token::Word("crate") => names_behind(&tokens[at + 1..], 0, &mut found),
            Token::Word("super") if before(1) != Some(&Token::Path) => {
                let depth = source.depth() + braces.iter().filter(|is_module| **is_module).count();
                names_behind(&tokens[at + 1..], depth.saturating_sub(1), &mut found);
            }
            _ => {}
        }
    }
    found
}

/// Collects the first names after the beginning of a path, once `supers` more `super` steps have reached the root.
fn names_behind(tokens: &[Token<'_>], supers: usize, found: &mut Vec<String>) {
    let [Token::Path, rest @ ..] = tokens else { return };
    match rest {
        [Token::Word("super"), rest @ ..] if supers > 0 => names_behind(rest, supers - 1, found),
        [Token::Word(name), ..] if supers == 0 => found.push((*name).to_owned()),
        [Token::Other('{'), group @ ..] => each_of(group, supers, found),
        _ => {}
    }
}

/// Does the same for each part of `a::b, c::{d, e}}`.
fn each_of(group: &[Token<'_>], supers: usize, found: &mut Vec<String>) {
    let mut depth = 0;
    let mut begins = true;
    for (at, token) in group.iter().enumerate() {
        match token {
            Token::Other('}') if depth == 0 => return,
            Token::Other('{') => depth += 1,
            Token::Other('}') => depth -= 1,
            Token::Other(',') if depth == 0 => {
                begins = true;
                continue;
            }
            Token::Word("super") if begins && supers > 0 => names_behind(&group[at + 1..], supers - 1, found),
            Token::Word(name) if begins && supers == 0 => found.push((*name).to_owned()),
            _ => {}
        }
        begins = false;
    }
}
