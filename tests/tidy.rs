//! The house rules that no compiler checks: who imports whom, how long a file may be, what never lands in the repository.

#![expect(clippy::unwrap_used, reason = "a test program: whatever fails here is a failed test")]

mod tidy_source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tidy_source::{bare_code, crate_paths};

const MAX_LINES: usize = 400;
const MAX_REPOSITORY_BYTES: u64 = 24 * 1024 * 1024;
const CODE_FOLDERS: [&str; 4] = ["src", "tests", "benches", "examples"];
const VAGUE_NAMES: [&str; 4] = ["utils", "common", "helpers", "types"];

/// What a room may import, as the table in `docs/ARCHITECTURE.md` says it.
#[derive(Debug, PartialEq)]
enum MayImport {
    All,
    AllBut(BTreeSet<String>),
    Only(BTreeSet<String>),
}

impl MayImport {
    fn allows(&self, room: &str) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(rooms) => !rooms.contains(room),
            Self::Only(rooms) => rooms.contains(room),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads the rows of the table between the `tidy:rooms` marks.
fn read_table(page: &str) -> BTreeMap<String, MayImport> {
    let (_, after) = page.split_once("<!-- tidy:rooms -->").expect("the page marks the start of its table");
    let (table, _) = after.split_once("<!-- /tidy:rooms -->").expect("the page marks the end of its table");
    let mut rooms = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 3, "a row of the table has three cells: {row}");
        let names = backticked(cells[2]);
        let may = match cells[2] {
            "all" => MayImport::All,
            cell if cell.starts_with("all but") => MayImport::AllBut(names),
            "–" => MayImport::Only(BTreeSet::new()),
            _ => {
                assert!(!names.is_empty(), "name rooms in backticks: {row}");
                MayImport::Only(names)
            }
        };
        for room in backticked(cells[0]) {
            rooms.insert(
                room,
                match &may {
                    MayImport::All => MayImport::All,
                    MayImport::AllBut(names) => MayImport::AllBut(names.clone()),
                    MayImport::Only(names) => MayImport::Only(names.clone()),
                },
            );
        }
    }
    rooms
}

fn backticked(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every file below the folder with this extension, sorted.
fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "node_modules" && name != ".venv") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The module path of a source file: `src/engine/onnx/port.rs` is `[engine, onnx, port]`.
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut path: Vec<String> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if path.last().is_some_and(|last| last == "mod" || last == "lib") {
        path.pop();
    }
    path
}

fn tracked_files() -> Option<Vec<PathBuf>> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().ok()?;
    if !listed.status.success() {
        return None;
    }
    let listed = String::from_utf8(listed.stdout).unwrap();
    Some(listed.split('\0').filter(|name| !name.is_empty()).map(|name| root().join(name)).collect())
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_room_is_in_the_table_and_every_row_is_a_room() {
    let table = read_table(&std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap());
    let library = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared: BTreeSet<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let listed: BTreeSet<&str> =
        table.keys().map(String::as_str).filter(|name| !["main", "cli"].contains(name)).collect();
    assert_eq!(declared, listed);
}

#[test]
fn no_room_imports_what_the_table_does_not_list() {
    let table = read_table(&std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap());
    let mut faults = Vec::new();
    for file in files_below(&root().join("src"), "rs") {
        let module = module_path(&file);
        let Some(room) = module.first() else { continue };
        let Some(may) = table.get(room) else {
            faults.push(format!("{}: `{room}` is not in the table of docs/ARCHITECTURE.md", shown(&file)));
            continue;
        };
        for path in crate_paths(&bare_code(&std::fs::read_to_string(&file).unwrap()), module.len()) {
            if path.first == "*" || path.first == "self" {
                faults.push(format!("{}:{}: import rooms by name", shown(&file), path.line));
            } else if path.first != *room && table.contains_key(&path.first) && !may.allows(&path.first) {
                faults.push(format!("{}:{}: `{room}` may not import `{}`", shown(&file), path.line, path.first));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn the_engine_knows_no_http() {
    let mut faults = Vec::new();
    for file in files_below(&root().join("src/engine"), "rs") {
        let code = bare_code(&std::fs::read_to_string(&file).unwrap());
        for foreign in ["http::", "http_body::", "hyper::", "tower_service::"] {
            let found = code.match_indices(foreign).any(|(at, _)| {
                !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':')
            });
            if found {
                faults.push(format!("{}: uses {foreign}", shown(&file)));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    let mut faults = Vec::new();
    for file in CODE_FOLDERS.iter().flat_map(|folder| files_below(&root().join(folder), "rs")) {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{}: {lines} lines, {MAX_LINES} are allowed", shown(&file)));
        }
    }
    assert_none(&faults);
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    let mut faults = Vec::new();
    for file in CODE_FOLDERS.iter().flat_map(|folder| files_below(&root().join(folder), "rs")) {
        let code = bare_code(&std::fs::read_to_string(&file).unwrap());
        let inline = VAGUE_NAMES.iter().any(|name| code.contains(&format!("mod {name} {{")));
        if inline
            || file
                .iter()
                .any(|part| VAGUE_NAMES.iter().any(|name| Path::new(part).with_extension("") == Path::new(name)))
        {
            faults.push(format!("{}: name what is inside", shown(&file)));
        }
    }
    assert_none(&faults);
}

#[test]
fn lints_are_waived_with_a_reason() {
    let mut faults = Vec::new();
    for file in CODE_FOLDERS.iter().flat_map(|folder| files_below(&root().join(folder), "rs")) {
        let code = bare_code(&std::fs::read_to_string(&file).unwrap());
        if code.contains("[allow(") {
            faults.push(format!("{}: write #[expect(lint, reason = \"…\")]", shown(&file)));
        }
        if code.contains("#[ignore") {
            faults.push(format!("{}: a test that cannot run prints `skipped: <reason>`", shown(&file)));
        }
    }
    assert_none(&faults);
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    // In pieces, so that this file does not name them either.
    let machine = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/t", "mp/"),
    ];
    let registries = [
        concat!("registry.npm", "js"),
        concat!("files.python", "hosted"),
        concat!("pypi", ".org/simple"),
        concat!("index.crates", ".io"),
        concat!("static.crates", ".io"),
        concat!("--index", "-url"),
        concat!("--extra-index", "-url"),
        concat!("\"resolved\"", ": "),
    ];
    let Some(files) = tracked_files() else { return println!("skipped: no git here") };
    let mut faults = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let is_lock = file.file_name().is_some_and(|name| name == "Cargo.lock");
        for (at, line) in text.lines().enumerate() {
            let names_machine = machine.iter().any(|path| {
                line.match_indices(path).any(|(start, _)| {
                    !line[..start].ends_with(|before: char| before.is_alphanumeric() || "._-}$)>*".contains(before))
                })
            });
            let odd_source =
                is_lock && line.starts_with("source = ") && !line.contains("github.com/rust-lang/crates.io-index");
            if names_machine || odd_source || registries.iter().any(|host| line.contains(host)) {
                faults.push(format!("{}:{}: names a machine's path or a registry", shown(&file), at + 1));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_test_that_a_page_names_exists() {
    let sources: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|folder| files_below(&root().join(folder), "rs"))
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for page in ["docs/PROTOCOL.md", "docs/SECURITY.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
        let named: BTreeSet<String> =
            rows.filter_map(|row| row.trim_matches('|').rsplit('|').next()).flat_map(backticked).collect();
        let missing = |name: &&String| !sources.iter().any(|source| source.contains(&format!("fn {name}(")));
        let missing: Vec<String> = named.iter().filter(missing).map(|name| format!("{page}: {name}")).collect();
        assert!(named.len() > 20, "{page} names {} tests", named.len());
        assert_none(&missing);
    }
}

#[test]
fn the_repository_stays_small() {
    let Some(files) = tracked_files() else { return println!("skipped: no git here") };
    let sizes = files.iter().filter_map(|file| Some((file.metadata().ok()?.len(), file)));
    let total: u64 = sizes.clone().map(|(size, _)| size).sum();
    let biggest: Vec<String> =
        sizes.filter(|(size, _)| *size > 1024 * 1024).map(|(size, file)| format!("{} {size}", shown(file))).collect();
    assert!(total <= MAX_REPOSITORY_BYTES, "{total} bytes are tracked; the biggest: {biggest:#?}");
}
