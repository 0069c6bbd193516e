//! `test`: installs what is missing, then runs everything.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use icecore_services::{azurite, moto, pgbouncer, postgres};

use crate::run::{self, Counts, Outcome, command, succeed};
use crate::servers::Servers;
use crate::{check, penguiflow, quickstart, wheel};

const NEXTEST: &str = "0.9.143";
const RUFF: &str = "0.17.6";
const MYPY: &str = "2.4.1";
const MATURIN: &str = "1.16.0";
const PYTEST: &str = "9.2.0";
const PYTEST_ASYNCIO: &str = "1.5.0";
const PYTEST_TIMEOUT: &str = "2.4.0";
const MOTO: &str = "5.2.5";
const AZURITE: &str = "3.35.0";

/// A tool of the virtual environment in `target/tools`.
pub fn python(tool: &str) -> String {
    run::root().join("target/tools/bin").join(tool).to_string_lossy().into_owned()
}

/// Something that is missing: what it is, and the commands that install it.
pub struct Missing {
    pub what: String,
    pub commands: Vec<Vec<String>>,
}

pub fn run(yes: bool, long: bool) -> Outcome {
    install(yes)?;
    let mut counts = check::run()?;
    // They run again below, with all the others: counted once.
    counts = Counts { passed: 0, ..counts };
    let cargo = run::cargo_path();
    println!("\n== servers");
    let servers = Servers::start()?;
    servers.say()?;
    let mut everything =
        command(&cargo, &["nextest", "run", "--cargo-quiet", "--workspace", "--all-features"]);
    everything.envs(servers.variables());
    if long {
        everything.args(["--profile", "long"]).env("ICECORE_LONG", "1").env("ICECORE_FUZZ_SECONDS", "600");
    } else {
        everything.env("ICECORE_FUZZ_SECONDS", "60");
    }
    counts.add(run::count(&mut everything)?);
    counts.add(run::count(&mut command(
        &cargo,
        &["test", "--quiet", "--doc", "--workspace", "--all-features"],
    ))?);
    println!("\n== the Python package");
    counts.add(wheel::test(&servers, long)?);
    drop(servers);
    println!("\n== quickstart");
    match quickstart::run() {
        Ok(()) => counts.passed += 1,
        Err(reason) => {
            println!("quickstart: {reason}");
            counts.failed += 1;
        }
    }
    println!("\n{}", counts.line());
    if counts.failed > 0 { Err("not everything passed".to_owned()) } else { Ok(()) }
}

fn install(yes: bool) -> Outcome {
    let missing = find_missing();
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
    let still: Vec<_> = find_missing().into_iter().map(|missing| missing.what).collect();
    if still.is_empty() { Ok(()) } else { Err(format!("still missing: {}", still.join("; "))) }
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

fn find_missing() -> Vec<Missing> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut missing = Vec::new();
    let says = |program: &str, arguments: &[&str], version: &str| {
        let output = command(program, arguments).output();
        output.is_ok_and(|output| {
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains(version)
        })
    };
    // Another version of nextest will do; building one takes minutes.
    if !says(&run::cargo_path(), &["nextest", "--version"], "nextest") {
        missing.push(Missing {
            what: format!("cargo-nextest {NEXTEST}, which runs the tests (some minutes)"),
            commands: vec![words(&format!("cargo install cargo-nextest --version {NEXTEST} --locked"))],
        });
    }
    let wants_tools = [("ruff", RUFF), ("mypy", MYPY), ("maturin", MATURIN)]
        .iter()
        .any(|(tool, version)| !says(&python(tool), &["--version"], version));
    let pytest =
        format!("pytest=={PYTEST} pytest-asyncio=={PYTEST_ASYNCIO} pytest-timeout=={PYTEST_TIMEOUT}");
    let frozen = command(&wheel::tool("pip"), &["freeze"]).output().map(|output| output.stdout);
    let frozen = String::from_utf8_lossy(&frozen.unwrap_or_default()).into_owned();
    let wants_pytest = !pytest.split(' ').all(|wanted| frozen.lines().any(|line| line == wanted));
    let wants_moto = moto::version().as_deref() != Ok(MOTO);
    let wants_environment = (wants_tools || wants_moto) && !says(&python("pip"), &["--version"], "pip");
    if wants_environment || wants_pytest {
        // Debian's python3 comes without what makes a virtual environment.
        if !says("python3", &["-c", "import ensurepip, venv; print('venv')"], "venv") {
            missing.push(Missing {
                what: "Python's virtual environments, for the tools below".to_owned(),
                commands: from_debian("python3 python3-venv"),
            });
        }
    }
    if wants_environment {
        missing.push(Missing {
            what: "a virtual environment in target/tools, for the tools below".to_owned(),
            commands: vec![words("python3 -m venv target/tools")],
        });
    }
    if wants_tools {
        missing.push(Missing {
            what: format!(
                "ruff {RUFF}, mypy {MYPY} and maturin {MATURIN}, in target/tools: they check the Python files and build the package"
            ),
            commands: vec![words(&format!(
                "target/tools/bin/pip install --quiet ruff=={RUFF} mypy=={MYPY} maturin=={MATURIN}"
            ))],
        });
    }
    if wants_pytest {
        missing.push(Missing {
            what: format!(
                "pytest {PYTEST} and two plugins, in target/python, where the Python package is tested"
            ),
            commands: vec![
                words("python3 -m venv target/python"),
                words(&format!("target/python/bin/pip install --quiet {pytest}")),
            ],
        });
    }
    missing.extend(penguiflow::missing(&frozen));
    if wants_moto {
        missing.push(Missing {
            what: format!("moto {MOTO}, in target/tools, which stands for S3 (half a minute)"),
            commands: vec![words(&format!("target/tools/bin/pip install --quiet moto[server]=={MOTO}"))],
        });
    }
    if azurite::version().as_deref() != Ok(AZURITE) {
        if !says("node", &["--version"], "v") || !says("npm", &["--version"], ".") {
            missing.push(Missing {
                what: "node and npm, for Azurite".to_owned(),
                commands: from_debian("nodejs npm"),
            });
        }
        missing.push(Missing {
            what: format!(
                "Azurite {AZURITE}, in target/tools, which stands for Azure's blobs (half a minute)"
            ),
            commands: vec![words(&format!("npm install --prefix target/tools azurite@{AZURITE}"))],
        });
    }
    if postgres::programs().is_err() {
        missing.push(Missing {
            what: "PostgreSQL, of which the tests start servers of their own".to_owned(),
            commands: from_debian("postgresql"),
        });
    }
    if pgbouncer::program().is_err() {
        missing.push(Missing {
            what: "pgbouncer, which stands between in some tests".to_owned(),
            commands: from_debian("pgbouncer"),
        });
    }
    missing
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
