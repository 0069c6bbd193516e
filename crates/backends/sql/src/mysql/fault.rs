//! The errors of MySQL and MariaDB into our kinds, without anything that they say about values.

use icecore_log::ErrorKind;
use sqlx::mysql::MySqlDatabaseError;

use crate::server::fault::{Fault, Meaning, Stage};

pub(super) fn fault(error: &sqlx::Error, stage: Stage) -> Fault {
    let said = error.as_database_error().and_then(|said| said.try_downcast_ref::<MySqlDatabaseError>());
    let number = said.map(MySqlDatabaseError::number);
    // A duplicate names the key, which holds names of logs.
    let message = match (said, number) {
        (_, Some(1062)) => "the row is there".to_owned(),
        (Some(said), _) => said.message().to_owned(),
        (None, _) => error.to_string(),
    };
    Fault::new(meaning(error, number, stage), message, number.map(|number| number.to_string()), stage)
}

/// Whether a session cannot go on. What the server refused leaves it as it was.
pub(super) fn is_over(fault: &Fault) -> bool {
    fault.code().and_then(|code| code.parse().ok()).is_none_or(|number: u16| ENDED.contains(&number))
}

/// Whether a row of its key is there.
pub(super) fn is_there(fault: &Fault) -> bool {
    fault.code() == Some("1062")
}

/// The server is starting, stopping or full of connections, the connection was killed, a node of a cluster is not ready, or one with a
/// time limit was stopped.
const ENDED: &[u16] =
    &[1040, 1047, 1053, 1077, 1078, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 3024, 3169];

fn meaning(error: &sqlx::Error, number: Option<u16>, stage: Stage) -> (Meaning, ErrorKind, &'static str) {
    use ErrorKind::{Corrupt, NotFound, Refused, Unavailable};
    let Some(number) = number else {
        let advice = match error {
            sqlx::Error::Tls(_) => "Look at the server's certificate, and at ssl-mode and ssl-ca",
            _ => {
                "Look at the server, and at the network between; MySQL asks for TLS where a password has to be sent, as by caching_sha2_password"
            }
        };
        return (Meaning::Ended, Unavailable, advice);
    };
    // A COMMIT is carried out by several parts of a server, and in a cluster by several servers. Whatever one of them says, others may
    // have done it.
    if stage == Stage::Committing {
        return (Meaning::Ended, Unavailable, "The server did not say that it committed");
    }
    match number {
        1205 | 3572 => (Meaning::Stuck, Unavailable, "Another writer holds it. Nothing was written: retry"),
        // Two waited for each other; somebody has the slot; the row changed while it was looked at; a cluster gave another node the right of way.
        1062 | 1020 | 1213 | 1637 | 3058 => {
            (Meaning::Raced, Unavailable, "Other writers were in the way. Nothing was written: retry")
        }
        1044 | 1142 | 1143 | 1227 | 1370 => (
            Meaning::Refused,
            Refused,
            "Grant this user what it needs in the database: CREATE, SELECT, INSERT, UPDATE, DELETE; or SELECT to read",
        ),
        1045 | 1698 | 3118 | 4151 => (
            Meaning::Refused,
            Refused,
            "The user name or the password is wrong, or the user may not come from here",
        ),
        1130 => (Meaning::Refused, Refused, "The server lets nobody in from here"),
        1049 => (Meaning::Refused, NotFound, "Make the database, or name another"),
        1046 => (Meaning::Refused, Refused, "The URL names no database: mysql://USER@HOST/DATABASE"),
        1146 | 1051 => {
            (Meaning::Refused, Refused, "The store's tables are gone: open it again, or restore them")
        }
        1290 | 1792 | 1836 => {
            (Meaning::Refused, Unavailable, "The server only reads, as a replica does: name the primary")
        }
        1180 | 1181 => (Meaning::Ended, Unavailable, "The server could not end a transaction"),
        1153 | 1301 => (
            Meaning::Refused,
            Unavailable,
            "max_allowed_packet was lowered since the store was opened: open it again",
        ),
        1034 | 1194 | 1712 | 1877 => {
            (Meaning::Refused, Corrupt, "The database is damaged: restore it from a copy")
        }
        number if ENDED.contains(&number) => {
            (Meaning::Ended, Unavailable, "The server ended it, is starting, or is shutting down: retry")
        }
        // Full disks, full memory, too many locks, and all else.
        _ => (Meaning::Refused, Unavailable, "Nothing was written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that a test with a server does not have answered to a COMMIT (`tests/mysql/commits.rs`), too.
    #[test]
    fn whatever_a_commit_is_answered_with_is_in_doubt() {
        let error = sqlx::Error::PoolTimedOut;
        for number in [None, Some(1213), Some(1205), Some(1180), Some(1047), Some(1290), Some(1062), Some(9)]
        {
            let (committing, kind, _) = meaning(&error, number, Stage::Committing);
            let fault = Fault::new((committing, kind, ""), String::new(), None, Stage::Committing);

            assert!(matches!(fault, Fault::Doubt(_)), "{number:?}");
        }
    }

    #[test]
    fn what_was_rolled_back_for_another_writer_is_told_apart() {
        let error = sqlx::Error::PoolTimedOut;
        for (number, is_raced) in [(1213, true), (1062, true), (1205, false)] {
            let said = meaning(&error, Some(number), Stage::Before);
            let fault = Fault::new(said, String::new(), None, Stage::Before);

            assert!(matches!(fault, Fault::Raced(_)) == is_raced, "{number}");
            assert!(matches!(fault, Fault::Stuck(_)) != is_raced, "{number}");
        }
    }
}
