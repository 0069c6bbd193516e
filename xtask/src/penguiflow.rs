//! Penguiflow, on whose contract our store is tested: two releases, and the tests that each of them comes with.

use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::install::Missing;
use crate::run::{self, Counts, Outcome, command};
use crate::servers::Servers;
use crate::wheel;

struct Release {
    version: &'static str,
    /// Of the source archive, which has the tests.
    sha256: &'static str,
}

/// Installed with the package's tests; its dependencies serve the other one as well.
const NEWEST: Release =
    Release { version: "3.11.2", sha256: "c9a15f838df9a3b567a947708fdddc21256d1c771aa26871471309f466d34e8f" };

/// The first whose contract ours keeps; it is used by way of PYTHONPATH.
const OLDEST: Release =
    Release { version: "3.6.4", sha256: "4288c90c5492b1d8ab53cde898c41fc8ba57ba6413596af86fe403d83665eaae" };

/// What Penguiflow needs of what it asks for: the rest, 800 MB, serves one provider of models.
const NEEDED: [&str; 6] = [
    "pydantic==2.14.4",
    "click==8.5.1",
    "PyYAML==6.0.4",
    "fastapi==0.165.0",
    "uvicorn==0.54.0",
    "mcp==1.30.0",
];

/// Without them, modules among Penguiflow's own tests cannot be imported.
const FOR_ITS_TESTS: [&str; 2] = ["ag-ui-protocol==1.0.0", "hypothesis==6.170.17"];

/// Our tests of what is for Penguiflow; they run with both releases.
const OURS: &str = "crates/python/tests/penguiflow";

/// What puts our store into Penguiflow's own tests.
const SWAP: &str = "crates/python/tests/penguiflow_own";

/// Where the stores are made that the contract judges.
const PLACES: &str = "crates/python/tests/penguiflow_contract";

/// The contract judges our store at each of these, two at a time; so the two that are moto's stand apart.
const JUDGED: [(&Release, &str); 12] = [
    (&NEWEST, "s3"),
    (&NEWEST, "mongodb"),
    (&NEWEST, "gcs"),
    (&NEWEST, "azure"),
    (&NEWEST, "dynamodb"),
    (&NEWEST, "postgres"),
    (&NEWEST, "mysql"),
    (&NEWEST, "redis"),
    (&NEWEST, "sqlite"),
    (&NEWEST, "file"),
    (&NEWEST, "memory"),
    (&OLDEST, "file"),
];

/// Servers that stand for others, in Python and JavaScript: four in five of the contract's cases, which are about what becomes of a
/// value or an id before it is stored anywhere, take minutes there. They run with `--long`.
const SLOW: [&str; 3] = ["s3", "azure", "dynamodb"];
const NOT_WHERE_IT_IS_SLOW: &str = "not test_values and not test_ids";

/// Penguiflow's own tests run once for each: over files, what is written waits for a disk as it would in use.
const OWN: [(&Release, &str); 3] = [(&NEWEST, "file:"), (&NEWEST, "sqlite:"), (&OLDEST, "file:")];

const SOURCES: &str = "target/penguiflow-src";

impl Release {
    fn sources(&self) -> String {
        format!("{SOURCES}/penguiflow-{}", self.version)
    }

    /// Where a release is that is not installed in the environment.
    fn beside(&self) -> String {
        format!("target/penguiflow-{}", self.version)
    }

    /// A command that finds this release, and first what is in `folders`.
    fn pytest(&self, folders: &[&str]) -> Outcome<Command> {
        let beside = self.beside();
        let release = (self.version != NEWEST.version).then_some(&*beside);
        let path = folders.iter().copied().chain(release).map(|folder| run::root().join(folder));
        let path = std::env::join_paths(path).map_err(|error| error.to_string())?;
        // Not `python -m pytest`: that one would import from the folder where it is started.
        let mut pytest = command(&wheel::tool("pytest"), &["--color", "no"]);
        pytest.env("PYTHONPATH", path);
        Ok(pytest)
    }
}

const PIP: &str = "target/python/bin/pip";

/// The one that is installed.
pub fn version() -> &'static str {
    NEWEST.version
}

/// The newest release and what it needs, unless they are there; `frozen` is what pip says of the environment.
pub fn missing(frozen: &str) -> Option<Missing> {
    let newest = format!("penguiflow=={}", NEWEST.version);
    let is_there = |wanted: &str| frozen.lines().any(|line| line == wanted);
    if is_there(&newest) && NEEDED.iter().all(|wanted| is_there(wanted)) {
        return None;
    }
    Some(Missing::inside(
        format!(
            "Penguiflow {} and what its flows and planners need, in target/python (15 s, 120 MB)",
            NEWEST.version
        ),
        vec![install(&NEEDED, &[]), install(&[&newest], &["--no-deps"])],
    ))
}

/// What its tests need, the other release, and the sources of both.
pub fn missing_for_tests(frozen: &str) -> Vec<Missing> {
    let exists = |path: String| run::root().join(path).exists();
    let mut missing = Vec::new();
    if !FOR_ITS_TESTS.iter().all(|wanted| frozen.lines().any(|line| line == *wanted)) {
        missing.push(Missing::inside(
            "what Penguiflow's own tests need, in target/python",
            vec![install(&FOR_ITS_TESTS, &[])],
        ));
    }
    let beside = OLDEST.beside();
    if !exists(format!("{beside}/penguiflow-{}.dist-info/RECORD", OLDEST.version)) {
        let oldest = format!("penguiflow=={}", OLDEST.version);
        missing.push(Missing::inside(
            format!("Penguiflow {}, in {beside} (20 MB)", OLDEST.version),
            vec![install(&[&oldest], &["--no-deps", "--upgrade", "--target", &beside])],
        ));
    }
    for release in [&NEWEST, &OLDEST] {
        if !exists(release.sources()) {
            missing.push(Missing::inside(
                format!("the sources of Penguiflow {}, for its tests (20 MB)", release.version),
                unpacked(release),
            ));
        }
    }
    missing
}

fn install(packages: &[&str], options: &[&str]) -> Vec<String> {
    [&[PIP, "install", "--quiet"], options, packages].concat().into_iter().map(str::to_owned).collect()
}

/// pip takes a hash only from a file, and looks at it before it looks into the archive.
fn unpacked(release: &Release) -> Vec<Vec<String>> {
    let (version, sha256, sources) = (release.version, release.sha256, release.sources());
    let shell = |script: String| ["sh", "-c", &*script].map(str::to_owned).to_vec();
    vec![
        shell(format!(
            "echo 'penguiflow=={version} --hash=sha256:{sha256}' | {PIP} download --quiet --no-deps --no-binary :all: --require-hashes --dest {SOURCES} -r /dev/stdin"
        )),
        // Moved when it is whole: what is at its place is whole.
        shell(format!(
            "rm -rf {sources}.part && mkdir {sources}.part && tar -xzf {sources}.tar.gz -C {sources}.part --strip-components 1 && mv {sources}.part {sources}"
        )),
    ]
}

/// Our tests with the older release, the contract, and Penguiflow's own tests, unchanged, on our store.
pub fn test(servers: &Servers, long: bool) -> Outcome<Counts> {
    let mut counts = Counts::default();
    println!("\n== with Penguiflow {}", OLDEST.version);
    let mut ours = OLDEST.pytest(&[])?;
    counts.add(run::count(ours.envs(servers.variables()).args(["--quiet", OURS]))?);
    counts.add(judge(servers, long)?);
    for (release, place) in OWN {
        println!("\n== Penguiflow {}'s own tests on our store, {place}", release.version);
        let mut pytest = release.pytest(&[SWAP])?;
        pytest.args(["-p", "swap", "-p", "no:cacheprovider", "--timeout", "120"]);
        // As it is by default; pytest-asyncio warns if nobody says so.
        pytest.args(["-o", "asyncio_default_fixture_loop_scope=function", "tests"]);
        pytest.env("ICECORE_SWAP_URL", place);
        // Where its tests leave something, they leave it there.
        counts.add(run::count(pytest.current_dir(run::root().join(release.sources())))?);
    }
    Ok(counts)
}

/// The contract at all its places.
fn judge(servers: &Servers, long: bool) -> Outcome<Counts> {
    let places = Mutex::new(JUDGED.iter());
    let judged = Mutex::new(Ok(Counts::default()));
    let work = || {
        while let Some((release, place)) = places.lock().ok().and_then(|mut places| places.next()) {
            let mut shown = Vec::new();
            let found = judge_at(release, place, servers, long, &mut shown);
            let Ok(mut judged) = judged.lock() else { return };
            println!("\n== the contract of Penguiflow {}: {place}", release.version);
            print!("{}", String::from_utf8_lossy(&shown));
            match (&mut *judged, found) {
                (Ok(counts), Ok(found)) => counts.add(found),
                (Ok(_), Err(error)) => *judged = Err(error),
                (Err(_), _) => {}
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    judged.into_inner().unwrap_or_else(|_| Err("the contract: it panicked".to_owned()))
}

fn judge_at(
    release: &Release,
    place: &str,
    servers: &Servers,
    long: bool,
    shown: &mut Vec<u8>,
) -> Outcome<Counts> {
    let mut pytest = release.pytest(&[PLACES])?;
    pytest.args(["--quiet", "-p", "icecore.penguiflow.contract", "-p", "no:cacheprovider"]);
    pytest.args(["--pyargs", "icecore.penguiflow.contract", "--state-store", "places:make"]);
    pytest.args(["--timeout", "120", "-o", "asyncio_default_fixture_loop_scope=function"]);
    if SLOW.contains(&place) && !long {
        pytest.args(["-k", NOT_WHERE_IT_IS_SLOW]);
    }
    pytest.envs(servers.variables()).env("ICECORE_CONTRACT_PLACE", place);
    run::count_into(pytest.current_dir(run::root().join("target")), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_taken_by_its_hash_only() {
        let commands = unpacked(&OLDEST).concat().join(" ");

        assert!(commands.contains(&format!("--hash=sha256:{}' | {PIP} download", OLDEST.sha256)));
        assert!(commands.contains("--require-hashes"));
    }

    #[test]
    fn another_version_of_what_is_wanted_is_missing() {
        let frozen = format!("penguiflow==3.0.0\n{}", NEEDED.join("\n"));

        assert!(missing(&frozen).is_some());
        assert!(missing(&frozen.replace("3.0.0", NEWEST.version)).is_none());
    }
}
