//! The repository is as its documents say: no crate is missing from the map, no link leads nowhere, no promise lacks its test.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest source file, in lines.
const LINES_MAX: usize = 700;

#[test]
fn every_crate_is_in_the_architecture() {
    let architecture = text(Path::new("ARCHITECTURE.md"));
    let manifests = files().into_iter().filter(|file| file.ends_with("Cargo.toml"));

    let folders: Vec<String> = manifests
        .filter_map(|manifest| Some(manifest.parent()?.to_string_lossy().into_owned()))
        .filter(|folder| !folder.is_empty())
        .collect();

    assert!(!folders.is_empty(), "no crate was found");
    let missing: Vec<_> =
        folders.iter().filter(|folder| !architecture.contains(&format!("`{folder}`"))).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name `{missing:?}`");
}

#[test]
fn relative_links_lead_somewhere() {
    let documents: Vec<_> = files().into_iter().filter(|file| has_extension(file, &["md"])).collect();

    let mut broken = Vec::new();
    for document in &documents {
        for target in links(&text(document)) {
            let folder = document.parent().unwrap_or(Path::new(""));
            if !root().join(folder).join(&target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }

    assert!(!documents.is_empty(), "no document was found");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let sources: Vec<String> =
        files().iter().filter(|file| has_extension(file, &["rs", "py"])).map(|file| text(file)).collect();
    let is_defined = |name: &str| {
        let definitions = [format!("fn {name}("), format!("fn {name}<"), format!("def {name}(")];
        sources.iter().any(|source| definitions.iter().any(|definition| source.contains(definition)))
    };

    let mut missing = Vec::new();
    for row in rows(&text(Path::new("docs/promises.md"))) {
        let named = row.get(1).map(|cell| in_code(cell)).unwrap_or_default();
        if named.is_empty() {
            missing.push(format!("no test is named for: {}", row.join(" | ")));
        }
        missing
            .extend(named.into_iter().filter(|name| !is_defined(name.rsplit("::").next().unwrap_or(name))));
    }

    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn no_file_names_a_place_on_a_build_machine() {
    // Put together here, or this file would be the first to fail.
    let places = ["work", "root", "home"].map(|folder| format!("/{folder}/"));

    let mut found = Vec::new();
    for file in files() {
        let bytes = fs::read(root().join(&file)).unwrap();
        let content = String::from_utf8_lossy(&bytes);
        found.extend(
            places.iter().filter(|place| content.contains(*place)).map(|place| (file.clone(), place)),
        );
    }

    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_is_named_for_nothing() {
    let names = ["utils", "common", "helpers", "manager"];

    let found: Vec<_> = files()
        .into_iter()
        .filter(|file| has_extension(file, &["rs", "py"]))
        .filter(|file| file.file_stem().is_some_and(|stem| names.iter().any(|name| stem == *name)))
        .collect();

    assert!(found.is_empty(), "name them for what they hold: {found:?}");
}

#[test]
fn every_format_is_linked_from_the_first_pages() {
    let linked: BTreeSet<String> =
        ["ARCHITECTURE.md", "README.md"].iter().flat_map(|page| links(&text(Path::new(page)))).collect();
    let formats: Vec<_> = files().into_iter().filter(|file| file.starts_with("docs/formats")).collect();

    let missing: Vec<_> =
        formats.iter().filter(|format| !linked.contains(&format.to_string_lossy().into_owned())).collect();

    assert!(!formats.is_empty(), "no format was found");
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn no_source_file_is_too_long_to_read() {
    let sources: Vec<_> = files().into_iter().filter(|file| has_extension(file, &["rs", "py"])).collect();

    let long: Vec<_> = sources
        .iter()
        .map(|file| (file, text(file).lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();

    assert!(!sources.is_empty(), "no source was found");
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}

#[test]
fn links_and_tables_are_read_as_they_are_written() {
    let document = "[a](docs/a.md#part) and ![b](b.png \"title\")\n```\n[c](c.md)\n```\n[d](https://example.org/d.md) [e](#e)\n`[f](f.md)`";
    let table = "| promise | test | break |\n| --- | --- | --- |\n| it holds | `tests::it_holds`, `so_does_it` | none |";

    assert_eq!(links(document), ["docs/a.md", "b.png"]);
    assert_eq!(rows(table), [["it holds", "`tests::it_holds`, `so_does_it`", "none"]]);
    assert_eq!(in_code(rows(table)[0][1]), ["tests::it_holds", "so_does_it"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What git tracks or would track, and is there.
fn files() -> Vec<PathBuf> {
    let listing = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listing.status.success(), "git: {}", String::from_utf8_lossy(&listing.stderr));
    let names = String::from_utf8(listing.stdout).unwrap();
    let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    files.filter(|file| root().join(file).is_file()).collect()
}

fn text(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn has_extension(file: &Path, extensions: &[&str]) -> bool {
    file.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension))
}

/// The relative links of a document, without what follows a `#`; code holds none.
fn links(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            continue;
        }
        if is_code {
            continue;
        }
        // Between backticks is code: every other piece.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        for rest in prose.split("](").skip(1) {
            let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// The rows of a document's tables, without headings, as cells.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    let mut is_body = false;
    for line in document.lines().map(str::trim) {
        let Some(inner) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            is_body = false;
            continue;
        };
        if is_body {
            found.push(inner.split('|').map(str::trim).collect());
        }
        is_body |= inner.chars().all(|character| matches!(character, '-' | ':' | '|' | ' '));
    }
    found
}

fn in_code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
