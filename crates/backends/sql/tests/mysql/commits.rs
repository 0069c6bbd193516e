//! What a server answers to a `COMMIT`, and what became of it: in a cluster of several primaries the two are not the same.

use icecore_conformance::Told;
use icecore_conformance::commits::{append, create_in, log, numbered, read_all, run};
use icecore_log::{Mode, PageLimit};
use icecore_services::mariadb::sql;

use crate::network::behind_a_proxy;
use crate::{database, store};

/// A deadlock, a wait for a lock, a commit that failed, a node that is not ready, one that only reads, a row that is there.
const SAID: [u16; 6] = [1213, 1205, 1180, 1047, 1290, 1062];
/// `ROLLBACK`, as a client sends it.
const ROLLBACK: &[u8] = b"\x09\0\0\0\x03ROLLBACK";

/// An error, as a server sends it in answer to a statement.
fn error(number: u16) -> Vec<u8> {
    let content = [&[0xff][..], &number.to_le_bytes(), b"#HY000said by the test"].concat();
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&length[..3], &[1], &content].concat()
}

/// Contract 2. Whatever is said, it was committed or it was not, and only a look decides; it is there once in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_at_a_commit_says_nothing_of_what_became_of_it() {
    let database = database();
    let (proxy, through) = behind_a_proxy(&database);
    let (store, direct) = (store(&through).await.unwrap(), store(&database.url()).await.unwrap());
    let log = log("s-1");
    append(&store, &log, 1..=1).await;
    let mut last = 1;

    for number in SAID {
        for is_committed in [true, false] {
            for mode in [Mode::Each, Mode::AllOrNone] {
                proxy.swap("COMMIT", if is_committed { None } else { Some(ROLLBACK) }, &error(number));
                let ours = run(&log, last + 1..=last + 2, 0);
                let told = create_in(&store, vec![ours], mode).await;

                assert!(proxy.has_swapped());
                assert_eq!(told, [Told::done(2)], "{number} {mode:?}, committed: {is_committed}");
                last += 2;
                let found = read_all(&direct, &log, last - 1, PageLimit::WHOLE).await;
                assert_eq!(found, [numbered(last - 1, 0), numbered(last, 0)], "{number}");
            }
        }
    }
    let rows = sql(&database.url(), &["SELECT COUNT(*) FROM icecore_commits"]).unwrap();
    assert_eq!(rows, last.to_string());
}
