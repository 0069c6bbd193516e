//! Keeps a server process, and ends it with this one.
//!
//! Between the two stands a shell that reads a pipe whose other end only this process has. Whether this process drops its
//! [`Guarded`], exits, or is killed: the pipe ends, and the shell stops the server. The parent-death signal of Linux would not
//! do: it follows the thread that started the server, and a test's thread ends before the test's process does.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::Result;

/// Who a server runs as: some refuse to run as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

/// A server process that ends with this one.
#[derive(Debug)]
pub struct Guarded {
    shell: Child,
    pid: Pid,
}

/// `read` ends when the pipe does. The server's own standard input is empty.
const SCRIPT: &str = r#"signal=$1; shift
"$@" </dev/null >&2 & server=$!
echo "$server"
exec >/dev/null
read -r _
kill -s "$signal" "$server" 2>/dev/null
wait "$server""#;

impl Guarded {
    /// Starts a server, in a group of its own so that an interrupt from the keyboard reaches it only through this process.
    ///
    /// `signal` is the one that stops it at once. What it says goes to `output`.
    ///
    /// # Errors
    /// If the shell cannot be started.
    pub fn start(
        program: &Path,
        arguments: &[String],
        user: Option<User>,
        signal: &str,
        output: &File,
    ) -> Result<Self> {
        let failed = |error: std::io::Error| format!("starting {}: {error}", program.display());
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "guard", signal]).arg(program).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(output.try_clone().map_err(failed)?).process_group(0);
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        let mut shell = command.spawn().map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = &mut shell.stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        }
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("starting {}: the shell said {line:?}", program.display()))?;
        Ok(Self { shell, pid })
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        is_running(self.pid())
    }

    /// Kills it, and what it has started, with a signal that nobody can catch; returns when all are gone.
    pub fn kill(self) {
        let mut family = children(self.pid());
        family.insert(0, self.pid());
        for pid in &family {
            if let Some(pid) = pid_of(*pid) {
                // It may be gone already.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        drop(self);
        let deadline = Instant::now() + Duration::from_secs(30);
        while family.iter().any(|pid| is_running(*pid)) && Instant::now() < deadline {
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It ends when the server has ended.
        let _ = self.shell.wait();
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Whether a process runs: one that has ended and was not waited for does not.
pub fn is_running(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state stands behind the program's name, which is in brackets and may hold anything.
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => pid_of(pid).is_some_and(|pid| test_kill_process(pid).is_ok()),
    }
}

/// The processes that a process has started, where `/proc` tells.
fn children(pid: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |child: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parent == Some(pid)
    };
    numbers.filter(is_child).collect()
}
