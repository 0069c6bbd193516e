//! Running commands, and counting what their test runners say.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub type Outcome<T = ()> = Result<T, String>;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The files that git tracks or would track, relative to the repository.
pub fn tracked_files() -> Outcome<Vec<PathBuf>> {
    let listing = command("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| format!("git: {error}"))?;
    let names = String::from_utf8_lossy(&listing.stdout).into_owned();
    let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(files.filter(|file| root().join(file).is_file()).collect())
}

/// Tests that passed and failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    pub fn line(self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Runs cargo; it must succeed.
pub fn cargo(arguments: &[&str]) -> Outcome {
    succeed(&mut command(&cargo_path(), arguments))
}

pub fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Runs a command; it must succeed.
pub fn succeed(command: &mut Command) -> Outcome {
    let shown = shown(command);
    println!("$ {shown}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` ended with {status}")),
        Err(error) => Err(format!("`{shown}` could not be started: {error}")),
    }
}

/// Runs a command, silently; it must succeed. The lines of its standard output.
pub fn lines(command: &mut Command) -> Outcome<Vec<String>> {
    let shown = shown(command);
    let output = command.output().map_err(|error| format!("`{shown}` could not be started: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        return Err(format!("`{shown}` ended with {}: {said}{complained}", output.status));
    }
    Ok(text(&output.stdout).lines().map(str::to_owned).collect())
}

/// The first lines that a process prints; then it is killed. It must not have ended by itself before.
pub fn killed_after(mut child: Child, count: usize) -> Outcome<Vec<String>> {
    let failed = |error: std::io::Error| format!("a process that is to be killed: {error}");
    let output = child.stdout.take().ok_or("a process that is to be killed has no pipe")?;
    let lines = BufReader::new(output).lines().take(count).collect::<Result<Vec<_>, _>>();
    child.kill().map_err(failed)?;
    child.wait().map_err(failed)?;
    let lines = lines.map_err(failed)?;
    if lines.len() == count { Ok(lines) } else { Err(format!("it ended by itself after {lines:?}")) }
}

/// Runs a test runner, shows what it prints, and counts; one that ran no test, or says nothing that is understood, has failed.
pub fn count(command: &mut Command) -> Outcome<Counts> {
    count_into(command, &mut std::io::stdout())
}

/// As [`count`], with what it prints written elsewhere.
pub fn count_into(command: &mut Command, shown_in: &mut impl Write) -> Outcome<Counts> {
    let shown = shown(command);
    let failed = |error: std::io::Error| format!("`{shown}` could not be run: {error}");
    writeln!(shown_in, "$ {shown}").map_err(failed)?;
    // Runners print their summaries on either stream; one pipe keeps the order.
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let copy = writer.try_clone().map_err(failed)?;
    let mut child = command.stdout(copy).stderr(writer).stdin(Stdio::null()).spawn().map_err(failed)?;
    command.stdout(Stdio::null()).stderr(Stdio::null()); // Our ends of the pipe go with this.
    let mut counts = Counts::default();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        shown_in.write_all(&line).map_err(failed)?;
        counts.add(counted(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    let status = child.wait().map_err(failed)?;
    if counts.passed + counts.failed == 0 || (!status.success() && counts.failed == 0) {
        counts.failed += 1;
        writeln!(shown_in, "`{shown}` ended with {status}: counted as one failure").map_err(failed)?;
    }
    Ok(counts)
}

/// What a line of a runner's summary says: nextest's `Summary`, cargo test's `test result`, or the last one of pytest.
fn counted(line: &str) -> Counts {
    let line = without_colours(line);
    // Nextest shows, further in, what a test printed of itself.
    let is_cargo = line.starts_with("test result:");
    let line = line.trim().trim_matches('=').trim();
    let is_nextest = line.starts_with("Summary [");
    if !is_nextest && !is_of_pytest(line) && !is_cargo {
        return Counts::default();
    }
    let words: Vec<&str> = line.split([' ', ',', ';', '.']).filter(|word| !word.is_empty()).collect();
    let before = |names: &[&str]| {
        let counts = words.windows(2).filter(|pair| names.contains(&pair[1]));
        counts.filter_map(|pair| pair[0].parse::<u64>().ok()).sum()
    };
    Counts { passed: before(&["passed"]), failed: before(&["failed", "timed", "error", "errors"]) }
}

/// Such as `1 failed, 12 passed, 2 errors in 3.21s`; a minute and more is followed by `(0:01:02)`.
fn is_of_pytest(line: &str) -> bool {
    const OUTCOMES: [&str; 9] =
        ["passed", "failed", "error", "errors", "skipped", "deselected", "warning", "warnings", "xfailed"];
    let Some((outcomes, time)) = line.rsplit_once(" in ") else { return false };
    let is_time =
        time.split(' ').next().and_then(|time| time.strip_suffix('s')?.parse::<f64>().ok()).is_some();
    let is_outcome = |one: &str| {
        one.split_once(' ')
            .is_some_and(|(count, outcome)| count.parse::<u64>().is_ok() && OUTCOMES.contains(&outcome))
    };
    is_time && outcomes.split(", ").all(is_outcome)
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut is_code = false;
    for character in line.chars() {
        match character {
            '\u{1b}' => is_code = true,
            'm' if is_code => is_code = false,
            _ if is_code => {}
            other => plain.push(other),
        }
    }
    plain
}

pub fn shown(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summaries_of_cargos_runners_are_counted() {
        let nextest =
            "     Summary [   4.8s] 32 tests run: 29 passed (1 slow), 2 failed, 1 timed out, 0 skipped";
        let cargo = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s";

        assert_eq!(counted(nextest), Counts { passed: 29, failed: 3 });
        assert_eq!(counted(cargo), Counts { passed: 3, failed: 1 });
        assert_eq!(counted("12 passed, 1 failed"), Counts::default());
        assert_eq!(counted(&format!("    {cargo}")), Counts::default());
    }

    #[test]
    fn the_summary_of_pytest_is_counted() {
        let quiet = "1 failed, 200 passed, 2 skipped, 3 errors in 9.43s";
        let framed = "======== 12 passed, 1 warning in 62.10s (0:01:02) ========";

        assert_eq!(counted(quiet), Counts { passed: 200, failed: 4 });
        assert_eq!(counted(framed), Counts { passed: 12, failed: 0 });
        assert_eq!(counted("1 error in 0.10s"), Counts { passed: 0, failed: 1 });
        assert_eq!(counted("3 passed in a row"), Counts::default());
        assert_eq!(counted("assert 2 failed in 1.0s"), Counts::default());
    }

    #[test]
    fn a_runner_that_ran_nothing_has_failed() {
        assert_eq!(count(&mut command("true", &[])), Ok(Counts { passed: 0, failed: 1 }));
    }

    #[test]
    fn a_runner_that_fails_without_saying_what_has_failed() {
        let mut lying = command("sh", &["-c", "echo 'test result: ok. 3 passed; 0 failed'; exit 1"]);

        assert_eq!(count(&mut lying), Ok(Counts { passed: 3, failed: 1 }));
    }
}
