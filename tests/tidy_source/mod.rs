//! Just enough reading of Rust to see which rooms a file names.

/// A path that starts at the crate's root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CratePath {
    /// Its first segment: a room, or `*`.
    pub(crate) first: String,
    /// The line it stands on.
    pub(crate) line: usize,
}

/// Blanks out comments, strings and character literals; lines stay where they were.
pub(crate) fn bare_code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut bare = String::with_capacity(source.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, &bare) {
            length
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if rest.starts_with('\'') && is_char_literal(rest) {
            quoted(rest, '\'')
        } else {
            0
        };
        if skip == 0 {
            let next = rest.chars().next().expect("the rest is not empty");
            bare.push(next);
            at += next.len_utf8();
        } else {
            bare.push(' ');
            bare.extend(rest[..skip].chars().filter(|next| *next == '\n'));
            at += skip;
        }
    }
    bare
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of the raw string that starts here, if one does.
fn raw_string(rest: &str, before: &str) -> Option<usize> {
    let in_name = before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    let after_r = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_name)?;
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let body = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = rest.len() - body.len();
    Some(body.find(&end).map_or(rest.len(), |at| opening + at + end.len()))
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, next) in rest.char_indices().skip(1) {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if next == quote => return at + next.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Tells `'a'` from the lifetime `'a`.
fn is_char_literal(rest: &str) -> bool {
    let mut letters = rest.chars().skip(1);
    matches!((letters.next(), letters.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

/// Every path in bare code that starts at the crate's root: by `crate::`, or by climbing `super::` out of a module
/// that is `depth` deep.
pub(crate) fn crate_paths(code: &str, depth: usize) -> Vec<CratePath> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            heads(code, at + "crate::".len(), &mut found);
        }
    }
    let mut from = 0;
    while let Some(start) = code[from..].find("super::").map(|start| from + start) {
        let mut end = start;
        let mut climbed = 0;
        while code[end..].starts_with("super::") {
            (end, climbed) = (end + "super::".len(), climbed + 1);
        }
        if climbed >= depth {
            heads(code, end, &mut found);
        }
        from = end;
    }
    found
}

/// The first segments of what is named at `at`: one, or those of a group in braces.
fn heads(code: &str, at: usize, found: &mut Vec<CratePath>) {
    let line = |at: usize| code[..at].bytes().filter(|byte| *byte == b'\n').count() + 1;
    let Some(group) = code[at..].strip_prefix('{') else {
        let first = name(&code[at..]);
        if !first.is_empty() {
            found.push(CratePath { first, line: line(at) });
        }
        return;
    };
    let (mut depth, mut expecting) = (0, true);
    for (offset, next) in group.char_indices() {
        match next {
            '{' => depth += 1,
            '}' if depth == 0 => return,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            _ if next.is_whitespace() || depth > 0 || !expecting => {}
            _ => {
                found.push(CratePath { first: name(&group[offset..]), line: line(at + 1 + offset) });
                expecting = false;
            }
        }
    }
}

fn name(rest: &str) -> String {
    if rest.starts_with('*') {
        return "*".to_owned();
    }
    rest.chars().take_while(|next| next.is_alphanumeric() || *next == '_').collect()
}

#[test]
fn imports_are_found_in_every_spelling() {
    let code = r##"
        use crate::wire::{Body, collect};
        use crate::{guard::Caller, engine::{Engine, Job}, wire};
        // use crate::commented;
        fn f<'a>(x: &'a str) -> char { let y = "crate::quoted"; let z = r#"crate::raw "#; '"' }
        pub(in crate::host) use super::super::proxy::Thing;
        use super::inside;
    "##;
    let firsts: Vec<String> = crate_paths(&bare_code(code), 2).into_iter().map(|path| path.first).collect();
    assert_eq!(firsts, ["wire", "guard", "engine", "wire", "host", "proxy"]);
}
