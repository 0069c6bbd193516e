//! What is opened, what is refused, and whom a write waits for.

use std::time::Duration;

use icecore_conformance::commits;
use icecore_log::{Backend, ErrorKind, Mode};
use rusqlite::Connection;

use super::super::{Access, Settings, SqliteStore};
use super::{open, run};

fn kind(path: &std::path::Path, access: Access) -> ErrorKind {
    SqliteStore::open(path, access, Settings::default()).unwrap_err().kind()
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE logs (line TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();

    for access in [Access::ReadWrite, Access::ReadOnly] {
        assert_eq!(kind(&path, access), ErrorKind::Refused);
    }

    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    std::fs::write(&path, "Dear Ada,\n".repeat(1_000)).unwrap();

    for access in [Access::ReadWrite, Access::ReadOnly] {
        assert_eq!(kind(&path, access), ErrorKind::Refused);
    }

    assert_eq!(std::fs::read(&path).unwrap(), "Dear Ada,\n".repeat(1_000).into_bytes());
}

#[test]
fn a_database_of_a_later_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(open(&path));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();

    for access in [Access::ReadWrite, Access::ReadOnly] {
        let error = SqliteStore::open(&path, access, Settings::default()).unwrap_err();
        assert_eq!((error.kind(), error.fact("format")), (ErrorKind::Refused, Some("2")));
    }
}

#[test]
fn a_reader_makes_nothing_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();

    assert_eq!(kind(&folder.path().join("store.db"), Access::ReadOnly), ErrorKind::NotFound);
    assert_eq!(kind(&folder.path().join("none/store.db"), Access::ReadOnly), ErrorKind::NotFound);

    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_files_beside_the_database_go_when_the_last_store_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/down/store.db");

    drop(open(&path));

    let files: Vec<_> =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files, [path]);
}

/// Several processes may start at once. One that looked at the number of the format before another had made the tables, and
/// at the tables after, once took them for those of another program.
#[test]
fn a_store_that_several_make_at_once_is_made_once() {
    for _ in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/store.db");

        let opened = std::thread::scope(|scope| {
            let opening: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&path))).collect();
            opening.into_iter().map(|opening| opening.join().unwrap()).collect::<Vec<_>>()
        });

        assert_eq!(opened.len(), 4);
    }
}

/// Whoever holds the database too long is waited for no longer than was agreed; nothing is written, and later it works.
#[tokio::test]
async fn a_create_beside_a_stuck_process_is_unavailable_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let settings = Settings { busy_timeout: Duration::from_millis(50), ..Settings::default() };
    let store = SqliteStore::open(&path, Access::ReadWrite, settings).unwrap();
    let stuck = Connection::open(&path).unwrap();
    stuck.execute_batch("BEGIN IMMEDIATE").unwrap();

    let told = commits::create(&store, run("s-1", 3)).await;

    assert_eq!(told, icecore_conformance::Told::failed(ErrorKind::Unavailable));
    assert_eq!(commits::head(&store, &commits::log("s-1")).await, None);
    drop(stuck);
    // A disk that is busy is one more who holds it for a moment.
    while !commits::create(&store, run("s-1", 3)).await.is_done() {}
}

/// `COMMIT` fails here on a foreign key that is checked only then; on a disk it would be a sync that fails.
#[tokio::test]
async fn a_commit_that_fails_is_unknown_and_the_same_bytes_decide() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path);
    let saboteur = Connection::open(&path).unwrap();
    let trap = "CREATE TABLE parents (id INTEGER PRIMARY KEY);
        CREATE TABLE trap (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER spring AFTER INSERT ON commits BEGIN INSERT INTO trap VALUES (1); END;";
    saboteur.execute_batch(trap).unwrap();

    let failed = store.create(vec![run("s-1", 3), run("s-2", 1)], Mode::Each).await;

    let kinds: Vec<_> = failed.iter().map(|created| icecore_conformance::Told::from(created).end).collect();
    assert_eq!(kinds, [icecore_conformance::Ending::Failed(ErrorKind::Unknown); 2]);
    saboteur.execute_batch("DROP TRIGGER spring").unwrap();
    assert!(commits::create(&store, run("s-1", 3)).await.is_done());
}
