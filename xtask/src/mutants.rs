//! `mutants`: breaks the code on purpose, one promise after the other, and looks whether its test notices.
//!
//! The table is the source of `docs/promises.md`. A test checks that each place to break is still there, so that no row
//! speaks of code that has gone; `cargo xtask mutants` breaks each in a copy of the repository and runs its test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::promises::promises;
use crate::run::{self, Outcome, command};
use crate::servers::Servers;

/// A promise, the test that would notice if it were broken, and a break that makes it fail.
pub struct Promise {
    pub promise: &'static str,
    pub package: &'static str,
    pub test: &'static str,
    /// What is broken, in words.
    pub broken: &'static str,
    pub file: &'static str,
    /// Stands once in the file.
    pub find: &'static str,
    pub replace: &'static str,
}

pub fn run(wanted: &[&str]) -> Outcome {
    let copy = Copy::new()?;
    let mut survivors = Vec::new();
    let chosen =
        promises().filter(|row| wanted.is_empty() || wanted.iter().any(|name| row.test.contains(name)));
    for row in chosen {
        let started = Instant::now();
        let is_whole = copy.passes(row)?;
        let is_noticed = is_whole && !copy.broken(row)?;
        let seconds = started.elapsed().as_secs_f64();
        let found = match (is_whole, is_noticed) {
            (false, _) => "FAILS WITHOUT THE BREAK",
            (true, false) => "NOT NOTICED",
            (true, true) => "noticed",
        };
        println!("{found} in {seconds:.0} s: {} ({}). {}", row.broken, row.test, row.promise);
        if !is_noticed {
            survivors.push(row.test);
        }
    }
    if survivors.is_empty() { Ok(()) } else { Err(format!("breaks that no test notices: {survivors:?}")) }
}

/// A copy of what git knows of, with a target of its own, so that nothing here is built anew.
struct Copy {
    root: PathBuf,
    /// For the tests that need them. They end with this.
    servers: Servers,
}

impl Copy {
    fn new() -> Outcome<Self> {
        let root = run::root().join("target/mutants");
        let source = root.join("source");
        fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let copy = Self { root, servers: Servers::start()? };
        let files: BTreeSet<PathBuf> = run::tracked_files()?.into_iter().collect();
        remove_others(&source, &source, &files).map_err(|error| format!("{}: {error}", source.display()))?;
        for file in &files {
            copy.restore(file)?;
        }
        Ok(copy)
    }

    fn source(&self) -> PathBuf {
        self.root.join("source")
    }

    /// Puts a file as it is here, unless it is so already: what is not touched is not built again.
    fn restore(&self, file: &Path) -> Outcome {
        let (from, to) = (run::root().join(file), self.source().join(file));
        let failed = |error: std::io::Error| format!("{}: {error}", file.display());
        let bytes = fs::read(&from).map_err(failed)?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let folder = to.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).and_then(|()| fs::write(&to, bytes)).map_err(failed)
    }

    fn broken(&self, row: &Promise) -> Outcome<bool> {
        let path = self.source().join(row.file);
        let failed = |error: std::io::Error| format!("{}: {error}", row.file);
        let whole = fs::read_to_string(&path).map_err(failed)?;
        fs::write(&path, whole.replacen(row.find, row.replace, 1)).map_err(failed)?;
        let passes = self.passes(row);
        self.restore(Path::new(row.file))?;
        passes
    }

    fn passes(&self, row: &Promise) -> Outcome<bool> {
        let mut test = command(
            &run::cargo_path(),
            &["nextest", "run", "--cargo-quiet", "--all-features", "--package", row.package, "--", row.test],
        );
        let output = test
            .current_dir(self.source())
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("RUSTFLAGS", "--cap-lints warn")
            .env("RUST_BACKTRACE", "0")
            .envs(self.servers.variables())
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        // A break that does not compile proves nothing.
        if !said.contains("Summary [") {
            return Err(format!("{}: the test could not be run\n{said}", row.test));
        }
        if said.contains(" 0 tests run") {
            return Err(format!("there is no test {}", row.test));
        }
        Ok(output.status.success())
    }
}

/// Removes what was copied once and is no more.
fn remove_others(source: &Path, folder: &Path, files: &BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(source, &path, files)?;
        } else if path.strip_prefix(source).is_ok_and(|file| !files.contains(file)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page that users read.
    fn page() -> String {
        let mut page = String::from(
            "# Promises\n\nWhat a user may rely on, the test that would notice if it were broken, and the break that was made on purpose, and made it fail. A promise without a test is not in this table.\n\nThe table is written from `xtask/src/promises`. `cargo xtask mutants` makes every break again, in a copy, and fails if one goes unnoticed.\n\n| promise | test | the break that made it fail |\n| --- | --- | --- |\n",
        );
        promises().for_each(|row| {
            page += &format!("| {} | `{}` | {} |\n", row.promise, row.test, row.broken);
        });
        page
    }

    #[test]
    fn every_place_to_break_is_there_once() {
        for row in promises() {
            let text = fs::read_to_string(run::root().join(row.file)).unwrap();

            assert_eq!(text.matches(row.find).count(), 1, "{}: {}", row.file, row.find);
            assert_ne!(row.find, row.replace);
        }
    }

    /// `ICECORE_BLESS=1` writes it anew.
    #[test]
    fn the_page_of_the_promises_is_what_the_table_says() {
        let path = run::root().join("docs/promises.md");
        if std::env::var_os("ICECORE_BLESS").is_some() {
            fs::write(&path, page()).unwrap();
        }

        assert_eq!(fs::read_to_string(path).unwrap(), page());
    }
}
