//! Processes of a test's own program, which are killed with a signal that nobody can catch, and what they had acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

const STORE: &str = "ICECORE_CRASH_STORE";
const WRITER: &str = "ICECORE_CRASH_WRITER";

/// Where a writer process writes, and who it is.
pub fn role() -> (String, String) {
    (std::env::var(STORE).unwrap(), std::env::var(WRITER).unwrap())
}

/// Says that something was acknowledged. One write a line: a line that is cut short is not taken for another.
pub fn acknowledge(what: &str) {
    std::io::stdout().lock().write_all(format!("ack {what}\n").as_bytes()).unwrap();
}

/// Starts the ignored test of that name as a writer.
pub fn start(role: &str, url: &str, writer: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([role, "--exact", "--ignored", "--nocapture", "--quiet"])
        .env(STORE, url)
        .env(WRITER, format!("w{writer}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads acknowledgements, kills the writer after so many, and gives all that it had printed.
pub fn kill_after(mut child: Child, count: usize) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let mut is_killed = count == 0;
    if is_killed {
        child.kill().unwrap();
    }
    while let Some(Ok(line)) = lines.next() {
        acknowledged.extend(line.strip_prefix("ack ").map(str::to_owned));
        if acknowledged.len() >= count && !is_killed {
            child.kill().unwrap();
            is_killed = true;
        }
    }
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert!(is_killed, "the writer ended by itself: {status}, {said}");
    acknowledged
}

/// Kills so many writers, each after as many acknowledgements as are drawn for it, and gives what they had printed.
pub fn kill_all(role: &str, url: &str, writers: usize, mut count: impl FnMut() -> usize) -> Vec<String> {
    let killing: Vec<_> = (0..writers)
        .map(|writer| {
            let (child, count) = (start(role, url, writer), count());
            std::thread::spawn(move || kill_after(child, count))
        })
        .collect();
    killing.into_iter().flat_map(|killed| killed.join().unwrap()).collect()
}

/// Numbers at random; `ICECORE_SEED` draws the same ones again.
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Self {
        let seed = std::env::var("ICECORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x1CE);
        println!("seed {seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound).unwrap()
    }
}

/// So many rounds, or ten times as many with `ICECORE_LONG=1`.
pub fn rounds(short: usize) -> usize {
    let rounds = if std::env::var_os("ICECORE_LONG").is_some() { 10 * short } else { short };
    println!("{rounds} rounds");
    rounds
}
