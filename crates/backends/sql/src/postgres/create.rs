//! The arrays of the statements that create.

use icecore_log::{LogId, StoredCommit};
use sqlx::postgres::PgRow;

use super::wire;
use crate::server::Done;
use crate::server::create::Task;
use crate::server::rows::{self, Row};
use crate::server::statement::query;

type Statement = crate::server::statement::Statement<sqlx::Postgres>;

pub(super) fn statement(tasks: &[&mut Task<'_>]) -> Statement {
    Pieces::of(tasks.iter().map(|task| &**task)).bind()
}

/// The places that [`wire::CREATE`] answers with.
pub(super) fn places(added: &[PgRow]) -> Done<Vec<usize>> {
    let place = |row: &PgRow| Ok(usize::try_from(row.number(0)? - 1).unwrap_or(usize::MAX));
    added.iter().map(place).collect()
}

pub(super) fn slots(tasks: &[&mut Task<'_>]) -> Statement {
    let names: Vec<&[u8]> = tasks.iter().map(|task| task.run.log.as_str().as_bytes()).collect();
    let number = |commit: Option<&StoredCommit>| commit.map_or(0, |commit| commit.version.0.cast_signed());
    let first: Vec<i64> = tasks.iter().map(|task| number(task.rest().first())).collect();
    let last: Vec<i64> = tasks.iter().map(|task| number(task.rest().last())).collect();
    query(wire::SLOTS).bind(names).bind(first).bind(last)
}

/// The arrays of [`wire::CREATE`].
#[derive(Default)]
struct Pieces<'a> {
    names: Vec<&'a [u8]>,
    previous: Vec<[u8; 32]>,
    versions: Vec<i64>,
    firsts: Columns<'a>,
    other_runs: Vec<i64>,
    other_versions: Vec<i64>,
    others: Columns<'a>,
}

#[derive(Default)]
struct Columns<'a> {
    header_crc: Vec<i64>,
    body_crc: Vec<Option<i64>>,
    header: Vec<&'a [u8]>,
    body: Vec<Option<&'a [u8]>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, log: &LogId, commit: &'a StoredCommit) {
        let body = commit.body.as_deref();
        self.header_crc.push(rows::commit_crc(log, commit.version, &commit.header));
        self.body_crc.push(body.map(|body| rows::commit_crc(log, commit.version, body)));
        self.header.push(&commit.header);
        self.body.push(body);
    }
}

impl<'a> Pieces<'a> {
    fn of<'t>(tasks: impl Iterator<Item = &'t Task<'a>>) -> Self
    where
        'a: 't,
    {
        let mut pieces = Self::default();
        for (place, task) in (1..).zip(tasks) {
            let log = &task.run.log;
            let Some((first, others)) = task.piece().split_first() else { continue };
            pieces.names.push(log.as_str().as_bytes());
            pieces.previous.push(task.previous().0);
            pieces.versions.push(first.version.0.cast_signed());
            pieces.firsts.push(log, first);
            for commit in others {
                pieces.other_runs.push(place);
                pieces.other_versions.push(commit.version.0.cast_signed());
                pieces.others.push(log, commit);
            }
        }
        pieces
    }

    fn bind(self) -> Statement {
        query(wire::CREATE)
            .bind(self.names)
            .bind(self.previous)
            .bind(self.versions)
            .bind(self.firsts.header_crc)
            .bind(self.firsts.body_crc)
            .bind(self.firsts.header)
            .bind(self.firsts.body)
            .bind(self.other_runs)
            .bind(self.other_versions)
            .bind(self.others.header_crc)
            .bind(self.others.body_crc)
            .bind(self.others.header)
            .bind(self.others.body)
    }
}
