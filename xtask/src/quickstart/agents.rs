//! A flow and a planner of Penguiflow, as PyPI has it, on our store: killed, gone on with, looked into, set back.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::tool::Tool;
use crate::run::{self, Outcome, command};
use crate::{install, penguiflow, wheel};

const FLOW: &str = "examples/penguiflow_agent/flow.py";
const PLANNER: &str = "examples/penguiflow_agent/planner.py";
/// A document for each question.
const ANSWERS: &str = "acme/research/answers";
const QUESTIONS: usize = 20;
/// After so many answers the flow is killed.
const KILLED_AFTER: usize = 10;
/// The archive has to be asked twice.
const RETRIED: &str = "question-003";
/// The news come too late.
const GIVEN_UP: &str = "question-007";
const TENANT: &str = "acme";

struct Agents<'a> {
    tool: &'a Tool,
}

pub fn run(tool: &Tool) -> Outcome {
    prepare()?;
    let agents = Agents { tool };

    println!(
        "\n7. A flow of Penguiflow {} answers {QUESTIONS} questions; half-way, its process is killed.",
        penguiflow::version()
    );
    let promised = agents.killed_flow()?;
    println!("   {} answers had been printed when it died. Each is a promise.", promised.len());

    println!("\n8. It is run again, and each history is read.");
    let answered = agents.flow_again(&promised)?;
    println!("   None of the {} was asked again; the other {answered} were answered.", promised.len());
    for question in &promised {
        agents.check_history(question)?;
    }
    println!(
        "   The {} histories are whole to their last event, and no event is there twice.",
        promised.len()
    );

    println!("\n9. What happened, as `icecore timeline` shows it:");
    agents.timelines()?.iter().for_each(|line| println!("   {line}"));

    println!("\n10. An agent waits for a human, and its process is killed.");
    let token = agents.killed_planner()?;
    println!("   It waits under the token {token}.");

    println!("\n11. Another process resumes it, and a third one tries to.");
    agents.resumes(&token, 1)?.iter().for_each(|line| println!("   {line}"));
    println!("   {}", agents.refuses(&token)?);

    println!("\n12. The answers as they were, and set back.");
    agents.set_back()?.iter().for_each(|line| println!("   {line}"));

    println!("\n13. The pause is put back, and resumed again.");
    agents.put_back(&token)?;
    agents.resumes(&token, 2)?.iter().for_each(|line| println!("   {line}"));

    println!("\n14. Every commit is verified, and Penguiflow's own command finds the history.");
    println!("   {}", tool.lines(&["verify", "--quiet"])?.concat());
    println!("   penguiflow-admin history: {} events of {RETRIED}", agents.admin()?);
    Ok(())
}

/// Python, Penguiflow from PyPI, and the package.
fn prepare() -> Outcome {
    println!("\nNow with Python: what follows needs the package, and Penguiflow from PyPI.");
    let is_new = ["-c", "import sys; sys.exit(sys.version_info < (3, 11))"];
    if !command("python3", &is_new).output().is_ok_and(|output| output.status.success()) {
        return Err(
            "it needs Python 3.11 or later as `python3` (on Debian: apt install python3-venv)".to_owned()
        );
    }
    install::run_inside(install::for_a_flow)?;
    wheel::build_and_install()
}

impl Agents<'_> {
    fn python(&self, arguments: &[&str]) -> Command {
        let mut python = command(&wheel::tool("python"), arguments);
        python.env("ICECORE_STORE", self.tool.url()).env("ICECORE_TENANT", TENANT);
        python
    }

    /// Runs it to its end; it must succeed. Its lines.
    fn lines(&self, arguments: &[&str]) -> Outcome<Vec<String>> {
        run::lines(&mut self.python(arguments))
    }

    /// Kills it when it has printed so many lines, which are given.
    fn killed(&self, arguments: &[&str], after: usize) -> Outcome<Vec<String>> {
        let child = self.python(arguments).stdout(Stdio::piped()).spawn();
        run::killed_after(child.map_err(|error| format!("python could not be started: {error}"))?, after)
    }

    /// The questions whose answer was printed.
    fn killed_flow(&self) -> Outcome<Vec<String>> {
        let lines = self.killed(&[FLOW, &QUESTIONS.to_string()], KILLED_AFTER)?;
        Ok(lines.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// How many it had to answer: all but those that were promised.
    fn flow_again(&self, promised: &[String]) -> Outcome<usize> {
        let lines = self.lines(&[FLOW, &QUESTIONS.to_string()])?;
        let kept: HashSet<_> = lines.iter().filter_map(|line| line.strip_suffix(" is answered")).collect();
        if let Some(lost) = promised.iter().find(|question| !kept.contains(question.as_str())) {
            return Err(format!("the answer to {lost} was promised, and was asked for again"));
        }
        if lines.len() != QUESTIONS {
            return Err(format!("{QUESTIONS} questions, and it said {lines:?}"));
        }
        Ok(QUESTIONS - kept.len())
    }

    /// A history goes to the run of the last node, or to where it was given up; and has each event once.
    fn check_history(&self, question: &str) -> Outcome {
        let read = self.tool.lines(&["read", &format!("{TENANT}/trace/{question}"), "--output", "json"])?;
        let events = read.iter().map(|line| serde_json::from_str::<Value>(line));
        let events = events.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{question}: {error}"))?;
        let what = |event: &Value| {
            (event["kind"].to_string(), event["node"].to_string(), event["data"]["ts"].to_string())
        };
        let once: HashSet<_> = events.iter().map(what).collect();
        if once.len() != events.len() {
            return Err(format!("{question} has {} events, {} of them once", events.len(), once.len()));
        }
        let wanted = if question == GIVEN_UP { ("node_failed", "news") } else { ("node_success", "answer") };
        let is_end = |event: &Value| event["kind"] == wanted.0 && event["node"] == wanted.1;
        if events.iter().any(is_end) {
            Ok(())
        } else {
            Err(format!("the history of {question} ends with {:?}", read.last()))
        }
    }

    /// One that was tried again, and one that was given up.
    fn timelines(&self) -> Outcome<Vec<String>> {
        let mut shown = Vec::new();
        for (question, told) in [(RETRIED, "retry_after_ms"), (GIVEN_UP, "NODE_TIMEOUT")] {
            let trace = format!("{TENANT}/trace/{question}");
            if !self.tool.lines(&["timeline", &trace, "--output", "json"])?.concat().contains(told) {
                return Err(format!("the timeline of {question} has no {told}"));
            }
            shown.extend(self.tool.lines(&["timeline", &trace])?);
        }
        Ok(shown)
    }

    /// The token under which it waits.
    fn killed_planner(&self) -> Outcome<String> {
        let lines = self.killed(&[PLANNER, "start", "--stay"], 2)?;
        let token = lines[1].strip_prefix("token ");
        token.map(str::to_owned).ok_or_else(|| format!("it has no token: {lines:?}"))
    }

    fn resumes(&self, token: &str, turns: usize) -> Outcome<Vec<String>> {
        let lines = self.lines(&[PLANNER, "resume", token])?;
        let wanted = ["finished: You get 40 euros back.".to_owned(), format!("turns remembered: {turns}")];
        if lines == wanted { Ok(lines) } else { Err(format!("it resumed with {lines:?}, not {wanted:?}")) }
    }

    fn refuses(&self, token: &str) -> Outcome<String> {
        let output =
            self.python(&[PLANNER, "resume", token]).output().map_err(|error| format!("python: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let is_refused = output.status.code() == Some(1) && said.starts_with("Nobody waits");
        if is_refused { Ok(said) } else { Err(format!("a token was taken twice: {} {said}", output.status)) }
    }

    /// The last version of a pause is that it was taken: back to the one before.
    fn put_back(&self, token: &str) -> Outcome {
        let pause = format!("{TENANT}/pause/{token}");
        let last = self.tool.json(&["read", &pause, "--reverse", "--limit", "1"])?;
        let taken = last["version"].as_u64().filter(|_| last["kind"] == "icecore.document.delete");
        let taken = taken.ok_or_else(|| format!("the last of {pause} is not that it was taken: {last}"))?;
        let receipt = format!("{pause} at version {}", taken + 1);
        self.tool.prints(&["rollback", &pause, "--to", &(taken - 1).to_string()], &[receipt])
    }

    /// The answers at two versions, what differs between two, and the run after a rollback.
    fn set_back(&self) -> Outcome<Vec<String>> {
        let count = |at: &[&str]| -> Outcome<usize> {
            let state = self.tool.json(&[&["state", ANSWERS], at].concat())?;
            Ok(state["documents"].as_object().map_or(0, serde_json::Map::len))
        };
        let same = |what: &str, found: usize, wanted: usize| {
            if found == wanted { Ok(()) } else { Err(format!("{what}: {found} answers instead of {wanted}")) }
        };
        same("at version 5", count(&["--at", "5"])?, 5)?;
        same("at the head", count(&[])?, QUESTIONS)?;
        let diff = self.tool.lines(&["diff", ANSWERS, "5", "6", "--quiet"])?;
        if diff.len() != 1 || !diff[0].starts_with("+ question-006 ") {
            return Err(format!("version 6 differs from 5 by {diff:?}"));
        }
        let promised = KILLED_AFTER.to_string();
        let receipt = format!("{ANSWERS} at version {}", QUESTIONS + 1);
        self.tool.prints(&["rollback", ANSWERS, "--to", &promised], &[receipt])?;
        same("after the rollback", count(&[])?, KILLED_AFTER)?;
        let asked = self.lines(&[FLOW, &QUESTIONS.to_string()])?;
        let again = asked.iter().filter(|line| !line.ends_with(" is answered")).count();
        same("asked again", again, QUESTIONS - KILLED_AFTER)?;
        same("at the head again", count(&[])?, QUESTIONS)?;
        let mut told = vec!["Version 5 has 5 answers; version 6 differs by".to_owned()];
        told.extend(diff.iter().map(|line| format!("  {line}")));
        told.push(format!("After `rollback --to {promised}` there are {KILLED_AFTER}, and the flow answers the other {again} again."));
        Ok(told)
    }

    /// How many events Penguiflow's command finds.
    fn admin(&self) -> Outcome<usize> {
        let module = ["-m", "penguiflow.admin", "history", "--state-store"];
        let lines = self.lines(&[&module[..], &["icecore.penguiflow:create_store", RETRIED]].concat())?;
        let events = lines.iter().filter(|line| line.starts_with('{')).count();
        if events > 0 { Ok(events) } else { Err(format!("penguiflow-admin found {lines:?}")) }
    }
}
