//! Three PostgreSQL servers: a primary whose commits wait for one of two standbys. Each may be killed, promoted, and brought back.

use std::fs;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::{Command, Server, programs, run, sql};
use crate::Result;
use crate::kept::{Kept, PATIENCE, on_a_free_port};

/// Every server has these, so that who is promoted waits for one of the others, as the primary before it did.
///
/// `wal_keep_size` is what a standby that comes back needs; without it, it would have to be made anew.
const SETTINGS: [&str; 3] = [
    "synchronous_standby_names=ANY 1 (node0, node1, node2)",
    "wal_keep_size=256MB",
    "wal_retrieve_retry_interval=100ms",
];

/// A primary and two standbys, of which one must have a commit before it is acknowledged.
#[derive(Debug)]
pub struct Quorum {
    /// The servers. Killed and started again, one is what it was before: see [`Self::rejoin`].
    pub nodes: Vec<Server>,
    /// Who was made the primary last.
    pub primary: usize,
}

impl Quorum {
    /// Starts them, and waits until both standbys stream.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start() -> Result<Self> {
        let first = Server::start(&SETTINGS)?;
        let standbys = thread::scope(|scope| {
            let first = &first;
            let started = [1, 2].map(|number| scope.spawn(move || standby(number, first)));
            started.map(|standby| standby.join().unwrap_or_else(|_| Err("starting a standby".to_owned())))
        });
        let [second, third] = standbys;
        let set = Self { nodes: vec![first, second?, third?], primary: 0 };
        set.until_it_streams(1)?;
        set.until_it_streams(2)?;
        Ok(set)
    }

    /// Where it is: all of them, of whom the primary is to be found out.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(Server::address).collect();
        format!("postgres://postgres@{}/postgres", hosts.join(","))
    }

    /// The standbys, by their numbers.
    pub fn standbys(&self) -> [usize; 2] {
        [(self.primary + 1) % 3, (self.primary + 2) % 3]
    }

    /// Makes the standby the primary that has most, and has the other follow it; its number. Whether the one before is dead is not
    /// asked, and nobody keeps it from going on.
    ///
    /// # Errors
    /// If no standby runs, or it is not promoted.
    pub fn fail_over(&mut self) -> Result<usize> {
        let (mut next, mut most) = (None, 0_u64);
        for node in self.standbys().into_iter().filter(|node| self.nodes[*node].pid().is_some()) {
            // What was received is synced.
            let received = sql(&self.nodes[node].url(), &["SELECT pg_last_wal_receive_lsn() - '0/0'"])?;
            let received = received.parse().map_err(|_| format!("a standby has received {received:?}"))?;
            if next.is_none() || received > most {
                (next, most) = (Some(node), received);
            }
        }
        let next = next.ok_or("no standby runs")?;
        let other = self.standbys().into_iter().find(|node| *node != next);
        self.promote(next)?;
        if let Some(node) = other.filter(|node| self.nodes[*node].pid().is_some()) {
            self.follow(node)?;
        }
        Ok(next)
    }

    /// Makes this standby the primary, whatever it has; nobody follows it yet.
    ///
    /// # Errors
    /// If it is not promoted.
    pub fn promote(&mut self, node: usize) -> Result {
        match sql(&self.nodes[node].url(), &["SELECT pg_promote(true, 30)"])?.as_str() {
            "t" => self.primary = node,
            told => return Err(format!("pg_promote says {told:?}")),
        }
        Ok(())
    }

    /// Has a standby that runs follow the primary.
    ///
    /// # Errors
    /// If it does not.
    pub fn follow(&self, node: usize) -> Result {
        let set =
            format!("ALTER SYSTEM SET primary_conninfo = '{}'", self.nodes[self.primary].conninfo(node));
        sql(&self.nodes[node].url(), &[&set, "SELECT pg_reload_conf()"])?;
        self.until_it_streams(node)
    }

    /// Makes a server a standby of the primary again, by a copy: what it had that the primary has not is gone.
    ///
    /// # Errors
    /// If it cannot be copied, or does not start.
    pub fn rejoin(&mut self, node: usize) -> Result {
        self.nodes[node].kill();
        self.nodes[node].copy(&self.nodes[self.primary], node)?;
        self.nodes[node].resume()?;
        self.until_it_streams(node)
    }

    /// Waits until a standby follows the primary, and counts for its commits.
    ///
    /// # Errors
    /// If it never does.
    pub fn until_it_streams(&self, node: usize) -> Result {
        let url = self.nodes[self.primary].url();
        let count = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'node{node}' AND state = 'streaming' AND sync_state = 'quorum'"
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = sql(&url, &[&count])?;
            if found == "1" {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("node{node} does not stream: {}", self.nodes[node].kept.said()));
            }
            sleep(Duration::from_millis(5));
        }
    }
}

/// Starts a standby of this one.
fn standby(number: usize, primary: &Server) -> Result<Server> {
    let settings = SETTINGS.map(str::to_owned).to_vec();
    let server = Server { kept: Kept::new("PostgreSQL")?, settings };
    server.copy(primary, number)?;
    on_a_free_port(server, |server| &mut server.kept, Server::resume)
}

impl Server {
    /// Its `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.kept.port)
    }

    /// How a standby finds it, and says who it is.
    fn conninfo(&self, standby: usize) -> String {
        format!("host=127.0.0.1 port={} user=postgres application_name=node{standby}", self.kept.port)
    }

    /// Becomes a standby of a primary, by a copy of it.
    fn copy(&self, primary: &Self, number: usize) -> Result {
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(&data).map_err(|error| format!("removing a server's files: {error}"))?;
        }
        let mut copy = Command::new(programs()?.join("pg_basebackup"));
        copy.arg("-D").arg(data).args(["-d", &primary.conninfo(number)]);
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        self.kept.as_user(&mut copy);
        run(&mut copy).map(drop)
    }
}
