//! Writes a configuration as TOML in which each key has its documentation as a comment.
//!
//! Keys without a value, and lists of tables without a row, come as examples on lines that begin with `#>`.

use std::fmt::Write as _;

use falgate::config::Config;
use serde_json::Value;

const WIDTH: usize = 110;

const HEAD: &str = "\
#:schema ./falgate.schema.json
#
# Every setting of falgate with its built-in value: a file needs to hold only what differs. Lines that begin with `#>`
# are examples of keys that have no built-in value.
#
# A variable sets any key over the file: FALGATE__GATE__LISTEN=0.0.0.0:8787 sets `listen` in [gate]. Its value is read as
# TOML, and as plain text where it is none.
#
# Secrets never stand here: name the variable or the file that holds them. Relative paths start at the working directory.
# `falgate check --config FILE` names everything that is wrong with a file.
";

/// Rows of lists of tables, at the end of the file.
const ROWS: [(&str, &str); 2] = [
    (
        "proxy.policy",
        r#"[[proxy.policy]]
endpoint = "fal-ai/flux/**"
[proxy.policy.fields]
num_images = { max = 1, default = 1 }
num_inference_steps = { max = 8, outside = "clamp" }
loras = { deny = true }"#,
    ),
    (
        "route",
        r#"[[route]]
endpoint = "fal-ai/lcm-sd15-i2i"
to = "engine"
spill = "upstream""#,
    ),
];

/// Examples of keys that have no built-in value and whose type alone shows too little.
const EXAMPLES: [(&str, &str); 14] = [
    ("guard.identity.callers", "\"required\""),
    ("guard.identity.ca_file", "\"/etc/ssl/private-ca.pem\""),
    (
        "guard.jwt",
        r#"{ issuer = "https://login.example", audience = "draw", algorithms = ["ES256"], keys = { jwks_url = "https://login.example/keys" }, tier_claim = "plan" }"#,
    ),
    (
        "guard.session",
        r#"{ url = "http://127.0.0.1:3000/auth", cookies = ["session"], caller_header = "x-auth-caller", tier_header = "x-auth-tier" }"#,
    ),
    (
        "guard.human",
        r#"{ provider = "turnstile", secret = { env = "TURNSTILE_SECRET" }, hostnames = ["draw.example"] }"#,
    ),
    ("guard.keys.env", "\"FALGATE_ACCESS_KEYS\""),
    ("guard.keys.file", "\"/run/secrets/falgate_access_keys\""),
    ("host.fetch.ca_file", "\"/etc/ssl/private-ca.pem\""),
    ("gate.tls", "{ cert_file = \"cert.pem\", key_file = \"key.pem\" }"),
    ("upstream.ca_file", "\"/etc/ssl/private-ca.pem\""),
    ("gate.public_url", "\"https://draw.example\""),
    ("gate.admin", "\"127.0.0.1:9787\""),
    ("engine.model", "\"tests/models/tiny-lcm-onnx\""),
    ("engine.library", "\"/usr/local/lib/libonnxruntime.so\""),
];

/// A table of the file: its path, and its keys in the order of the settings.
type Block = (String, Vec<String>);

/// Writes the file.
pub(crate) fn write(config: &Config, schema: &Value) -> String {
    let mut text = HEAD.to_owned();
    let values = toml::Table::try_from(config).unwrap();
    for (table, keys) in blocks(config, schema) {
        if !table.is_empty() {
            let _ = writeln!(text, "\n{}[{table}]", comment(&describe(schema, &table), "# "));
        }
        for key in &keys {
            let path = join(&table, key);
            if ROWS.iter().all(|(rows, _)| *rows != path) {
                let value = path.split('.').fold(None, |found: Option<&toml::Value>, key| match found {
                    None => values.get(key),
                    Some(inside) => inside.get(key),
                });
                let _ = writeln!(text, "{}{key} = {}", comment(&describe(schema, &path), "# "), value.unwrap());
            }
        }
        unset_keys(&mut text, &table, &keys, schema);
    }
    for (path, example) in ROWS {
        let example = example.replace('\n', "\n#> ");
        let _ = writeln!(text, "\n{}#> {example}", comment(&describe(schema, path), "# "));
    }
    text
}

/// Tables and keys in the order in which serde meets them, which is the one that people chose. A list of tables is a key,
/// and so is a choice that one of its cases writes as a table.
fn blocks(config: &Config, schema: &Value) -> Vec<Block> {
    let mut blocks: Vec<Block> = vec![(String::new(), Vec::new())];
    let mut in_row = false;
    for line in toml::to_string(config).unwrap().lines() {
        if let Some(rows) = line.strip_prefix("[[").and_then(|line| line.strip_suffix("]]")) {
            let (table, key) = rows.rsplit_once('.').unwrap_or(("", rows));
            let (_, keys) = blocks.iter_mut().find(|(name, _)| name == table).unwrap();
            if !keys.iter().any(|known| known == key) {
                keys.push(key.to_owned());
            }
            in_row = true;
        } else if let Some(table) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let of_row = in_row
                && blocks
                    .iter()
                    .any(|(name, keys)| keys.iter().any(|key| table.starts_with(&format!("{}.", join(name, key)))));
            let (parent, key) = table.rsplit_once('.').unwrap_or(("", table));
            if !of_row && !find(schema, table)["oneOf"].is_null() {
                blocks.iter_mut().find(|(name, _)| name == parent).unwrap().1.push(key.to_owned());
                in_row = true;
            } else if !of_row {
                blocks.push((table.to_owned(), Vec::new()));
                in_row = false;
            }
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !in_row) {
            blocks.last_mut().unwrap().1.push(key.to_owned());
        }
    }
    blocks
}

/// Keys of the table that have no built-in value.
fn unset_keys(text: &mut String, table: &str, written: &[String], schema: &Value) {
    let found = find(schema, table);
    for (key, inner) in found["properties"].as_object().into_iter().flatten() {
        let is_table = resolve(schema, inner).get("properties").is_some();
        if written.contains(key) || is_table && !is_nullable(inner) {
            continue;
        }
        let path = join(table, key);
        let example = EXAMPLES
            .iter()
            .find(|(known, _)| *known == path)
            .map_or_else(|| placeholder(&resolve(schema, inner)).to_owned(), |(_, example)| (*example).to_owned());
        let _ = writeln!(text, "{}#> {key} = {example}", comment(&describe(schema, &path), "# "));
    }
}

fn placeholder(schema: &Value) -> &'static str {
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find_map(|kind| kind.as_str().filter(|kind| *kind != "null")),
        kind => kind.as_str(),
    };
    match kind {
        Some("integer") => "4",
        Some("number") => "1.0",
        Some("boolean") => "true",
        Some("array") => "[]",
        Some("object") => "{}",
        _ => "\"\"",
    }
}

fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

fn is_nullable(schema: &Value) -> bool {
    schema["anyOf"].as_array().is_some_and(|choices| choices.iter().any(|choice| choice["type"] == "null"))
}

/// Follows references and looks through `anyOf: [it, null]`.
fn resolve(root: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        return resolve(root, root.pointer(name.trim_start_matches('#')).unwrap());
    }
    match schema["anyOf"].as_array().and_then(|choices| choices.iter().find(|choice| choice["type"] != "null")) {
        Some(choice) => resolve(root, choice),
        None => schema.clone(),
    }
}

/// The schema of the table or key, with its own description if it has one.
fn find(root: &Value, path: &str) -> Value {
    path.split('.').filter(|key| !key.is_empty()).fold(root.clone(), |table, key| {
        let written = &table["properties"][key];
        assert!(!written.is_null(), "the schema has no {path}");
        let mut found = resolve(root, written);
        if let Some(description) = written.get("description") {
            found["description"] = description.clone();
        }
        found
    })
}

#[track_caller]
fn describe(root: &Value, path: &str) -> String {
    let found = find(root, path);
    found["description"].as_str().unwrap_or_else(|| panic!("{path} has no documentation")).to_owned()
}

/// Wraps a text into comment lines.
fn comment(text: &str, start: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.split("\n\n") {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.len() + word.len() + 1 > WIDTH {
                let _ = writeln!(lines, "{start}{line}");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(lines, "{start}{line}");
    }
    lines
}
