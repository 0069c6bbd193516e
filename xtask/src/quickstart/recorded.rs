//! A recorded run goes into a log, through a kill; a document is changed and set back; damage is found.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use super::tool::{Tool, clear};
use crate::run::{self, Outcome};

pub const LOG: &str = "acme/flow/recorded";
pub const DOCUMENTS: &str = "acme/session/cart";
const FLOW: &str = "examples/recorded-flow.ndjson";
const DAMAGED: &str = "target/quickstart-damaged";

pub fn run(tool: &Tool) -> Outcome {
    clear(DAMAGED)?;
    let flow = fs::read_to_string(run::root().join(FLOW)).map_err(|error| format!("{FLOW}: {error}"))?;
    let lines: Vec<&str> = flow.lines().collect();

    println!(
        "\n1. {} events of a recorded Penguiflow run go into {LOG}; half-way, the import is killed.",
        lines.len()
    );
    let promised = killed_import(tool, &lines)?;
    println!("   {} receipts had been printed when it died. Each is a promise.", promised.len());

    println!("\n2. The same file is imported again.");
    let receipts =
        receipts(&tool.lines(&["import", LOG, FLOW, "--receipts", "--output", "json", "--quiet"])?)?;
    let again: HashMap<&String, &u64> = receipts.iter().map(|(id, version)| (id, version)).collect();
    for (id, version) in &promised {
        if again.get(id) != Some(&version) {
            return Err(format!(
                "entry {id} was promised at version {version}, and is now at {:?}",
                again.get(id)
            ));
        }
    }
    println!("   All {} promises hold: same id, same version. The rest was appended.", promised.len());

    println!("\n3. The log is read back.");
    check_events(tool, &lines)?;
    println!("   {} events, each once, in the order of the file, data unchanged to the byte.", lines.len());

    println!("\n4. A document is put and patched in {DOCUMENTS}, seen at both versions, and set back.");
    documents(tool)?.iter().for_each(|line| println!("   {line}"));

    println!("\n5. Every commit's place in the chain is verified, and every stored byte.");
    println!("   {}", tool.lines(&["verify", "--quiet"])?.concat());

    println!("\n6. One bit is flipped, in a copy.");
    println!("   {}", damaged(tool)?);

    Ok(())
}

/// Feeds the import line by line, and kills it when half of the receipts were seen.
fn killed_import(tool: &Tool, lines: &[&str]) -> Outcome<Vec<(String, u64)>> {
    let mut child = tool
        .command(&["import", LOG, "-", "--receipts", "--output", "json", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the import could not be run: {error}"))?;
    let mut input = child.stdin.take().ok_or("the import has no pipe")?;
    let half = lines.len() / 2;
    // A little more than half is given, so that something is under way when it dies; the pipe stays open.
    let given = lines[..(half + 50).min(lines.len())].join("\n");
    let feed = std::thread::spawn(move || {
        // It dies while we write: that is the point.
        let _ = writeln!(input, "{given}");
        input
    });
    let seen = run::killed_after(child, half);
    drop(feed.join());
    receipts(&seen?)
}

fn receipts(lines: &[String]) -> Outcome<Vec<(String, u64)>> {
    let receipt = |line: &String| {
        let value: Value = serde_json::from_str(line).ok()?;
        Some((value["id"].as_str()?.to_owned(), value["version"].as_u64()?))
    };
    lines.iter().map(|line| receipt(line).ok_or_else(|| format!("no receipt: {line}"))).collect()
}

fn check_events(tool: &Tool, lines: &[&str]) -> Outcome {
    let read = tool.lines(&["read", LOG, "--output", "json"])?;
    if read.len() != lines.len() {
        return Err(format!("{} events were read, {} imported", read.len(), lines.len()));
    }
    for (number, (read, line)) in read.iter().zip(lines).enumerate() {
        let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
        let (read_value, given) = (parse(read)?, parse(line)?);
        if read_value["id"] != given["id"]
            || read_value["kind"] != given["kind"]
            || !data_of(line).is_some_and(|data| read.contains(data))
        {
            return Err(format!("event {} was read differently: {read}", number + 1));
        }
    }
    Ok(())
}

/// The bytes of a line's data, as they stand there.
fn data_of(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"data\": ")?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    values.next()?.ok()?;
    rest.get(..values.byte_offset())
}

/// Changes a document, and looks at it as it was, at what differs, and at what a rollback makes of it: byte for byte.
fn documents(tool: &Tool) -> Outcome<Vec<String>> {
    const FIRST: &str = r#"{"items":["tea"],"total":3.50}"#;
    const SECOND: &str = r#"{"items":["tea","milk"],"total":4.75}"#;
    let receipt = |version: u64| [format!("{DOCUMENTS} at version {version}")];
    tool.prints(&["put", DOCUMENTS, "cart", FIRST], &receipt(1))?;
    tool.prints(&["patch", DOCUMENTS, "cart", r#"{"items":["tea","milk"],"total":4.75}"#], &receipt(2))?;
    tool.prints(&["state", DOCUMENTS, "cart", "--at", "1"], &[FIRST.to_owned()])?;
    tool.prints(&["state", DOCUMENTS, "cart"], &[SECOND.to_owned()])?;
    let differs = ["~ cart", "    + /items/1 \"milk\"", "    ~ /total 3.50 -> 4.75"].map(str::to_owned);
    tool.prints(&["diff", DOCUMENTS, "1", "2"], &differs)?;
    tool.prints(&["rollback", DOCUMENTS, "--to", "1"], &receipt(3))?;
    tool.prints(&["state", DOCUMENTS, "cart"], &[FIRST.to_owned()])?;
    tool.prints(&["state", DOCUMENTS, "cart", "--at", "2"], &[SECOND.to_owned()])?;
    let mut told = vec![format!("Version 1: {FIRST}"), format!("Version 2: {SECOND}")];
    told.extend(differs.map(|line| format!("  {line}")));
    told.push("Version 3 is version 1 again, by a new commit: version 2 is still there.".to_owned());
    Ok(told)
}

/// Copies the store, flips a bit in the middle of its segment, and has it found.
fn damaged(tool: &Tool) -> Outcome<String> {
    let failed = |error: std::io::Error| format!("copying the store: {error}");
    let (from, to) = (run::root().join(tool.store), run::root().join(DAMAGED));
    fs::create_dir_all(&to).map_err(failed)?;
    for entry in fs::read_dir(&from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
        }
    }
    let segment = to.join("00000001.seg");
    let mut bytes = fs::read(&segment).map_err(failed)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).map_err(failed)?;
    let damaged = tool.at(DAMAGED);
    let output = damaged.output(&["verify", "--quiet"])?;
    if output.status.code() != Some(20) {
        return Err(format!("verify did not find the flipped bit: {}", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find(|line| ["log=", "version=", "file="].iter().all(|fact| line.contains(fact)));
    let line = line.ok_or_else(|| format!("the damage was not named: {said}"))?;
    Ok(format!("verify ends with exit code 20: {line}"))
}
