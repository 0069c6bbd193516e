//! `test`: installs what is missing, then runs everything.

use icecore_services::{self as services, dynoxide};

use crate::run::{self, Counts, Outcome, command};
use crate::servers::Servers;
use crate::{check, install, quickstart, wheel};

pub fn run(yes: bool, long: bool) -> Outcome {
    install::run(install::for_tests, yes)?;
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
    counts.add(second_opinion(&cargo)?);
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

/// What rests on DynamoDB alone, once more at another server that stands for it; if there is one.
fn second_opinion(cargo: &str) -> Outcome<Counts> {
    println!("\n== DynamoDB, a second opinion");
    if dynoxide::program().is_none() {
        println!("There is none: `{}` brings dynoxide, and takes minutes", dynoxide::INSTALL);
        return Ok(Counts::default());
    }
    let server = dynoxide::Server::start()?;
    println!("{}", dynoxide::version()?);
    // The whole workspace: with other features, all would be built again. It has no point in time recovery.
    let which = "package(icecore-dynamodb) and not test(what_the_table_is_set_to_is_told)";
    let package = ["--workspace", "--all-features", "-E", which];
    let mut tests = command(cargo, &[&["nextest", "run", "--cargo-quiet"], &package[..]].concat());
    run::count(tests.env(services::variable("dynamodb"), server.url()))
}
