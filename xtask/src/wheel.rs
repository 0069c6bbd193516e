//! `wheel`: the Python package, built by maturin; and its tests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::install::{self, python};
use crate::peers;
use crate::penguiflow;
use crate::run::{self, Counts, Outcome, command, succeed};
use crate::servers::Servers;

/// The environment that the package is installed in for its tests.
const TESTED_IN: &str = "target/python";

/// A tool of the virtual environment of the package's tests.
pub fn tool(name: &str) -> String {
    run::root().join(TESTED_IN).join("bin").join(name).to_string_lossy().into_owned()
}

/// Builds the wheel, and says how large it is.
pub fn run(is_release: bool) -> Outcome {
    let wheel = build(is_release)?;
    let bytes = fs::metadata(&wheel).map_err(|error| format!("{}: {error}", wheel.display()))?.len();
    println!("{}: {:.1} MB", wheel.display(), bytes as f64 / 1e6);
    Ok(())
}

/// Builds the package, and installs it in its environment.
pub fn build_and_install() -> Outcome {
    let wheel = build(false)?;
    let wheel = wheel.to_string_lossy();
    let install = ["install", "--quiet", "--force-reinstall", "--no-deps", &*wheel];
    succeed(&mut command(&tool("pip"), &install))
}

/// What Penguiflow's calls cost, with a release build of the package beside the one that is tested.
pub fn bench(arguments: &[&str]) -> Outcome {
    install::run_inside(install::for_a_flow)?;
    install::run_inside(install::for_peers)?;
    let wheel = build(true)?;
    let beside = run::root().join("target/bench-python");
    let (wheel, into) = (wheel.to_string_lossy(), beside.to_string_lossy());
    let install = ["install", "--quiet", "--no-deps", "--upgrade", "--target", &*into, &*wheel];
    succeed(&mut command(&tool("pip"), &install))?;
    let script = ["crates/python/bench_penguiflow.py"];
    let mut bench = command(&tool("python"), &[&script, arguments].concat());
    succeed(bench.env("PYTHONPATH", &beside).env("ICECORE_BENCH_PEERS", peers::tool("python")))
}

/// The programs of `examples` are run by these.
const EXAMPLES: &str = "examples/tests";

/// Runs the package's tests, those of the examples, then those with and of Penguiflow.
pub fn test(servers: &Servers, long: bool) -> Outcome<Counts> {
    build_and_install()?;
    let mut counts = pytest(servers, long, "crates/python/tests")?;
    println!("\n== the examples");
    counts.add(pytest(servers, long, EXAMPLES)?);
    counts.add(penguiflow::test(servers, long)?);
    Ok(counts)
}

fn pytest(servers: &Servers, long: bool, tests: &str) -> Outcome<Counts> {
    let settings = ["-m", "pytest", "-c", "crates/python/pyproject.toml", "--color", "no", "--quiet"];
    let mut pytest = command(&tool("python"), &[&settings[..], &[tests]].concat());
    if long {
        pytest.env("ICECORE_LONG", "1");
    }
    run::count(pytest.envs(servers.variables()))
}

fn build(is_release: bool) -> Outcome<PathBuf> {
    // One folder a profile, emptied before: what is in it is what was built.
    let profile = if is_release { "release" } else { "dev" };
    let into = Path::new("target/wheels").join(profile);
    let folder = run::root().join(&into);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let into = into.to_string_lossy();
    let arguments = [
        "build",
        "--quiet",
        "--locked",
        "--manifest-path",
        "crates/python/Cargo.toml",
        "--profile",
        profile,
        "--out",
        &*into,
    ];
    succeed(&mut command(&python("maturin"), &arguments))?;
    let built = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut wheels = built.filter_map(|entry| Some(entry.ok()?.path()));
    wheels.next().ok_or_else(|| format!("there is no wheel in {}", folder.display()))
}
