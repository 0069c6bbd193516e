//! PostgreSQL's errors into our kinds, without anything that it says about values.

use std::borrow::Cow;

use icecore_log::ErrorKind;

use crate::server::fault::{Fault, Meaning, Stage};

pub(super) fn fault(error: &sqlx::Error, stage: Stage) -> Fault {
    let said = error.as_database_error();
    let state = said.and_then(|said| said.code()).map(Cow::into_owned);
    let message = said.map_or_else(|| error.to_string(), |said| said.message().to_owned());
    Fault::new(meaning(error, state.as_deref()), message, state, stage)
}

/// Whether a session cannot go on: what the server refused leaves it as it was.
pub(super) fn is_over(fault: &Fault) -> bool {
    fault.code().is_none_or(|state| ["08", "57", "58", "XX"].contains(&&state[..2]))
}

/// Whether a pooler in between refused what a server itself takes.
pub(super) fn is_of_a_pooler(fault: &Fault) -> bool {
    fault.code() == Some("08P01") && fault.message().contains("startup parameter")
}

fn meaning(error: &sqlx::Error, state: Option<&str>) -> (Meaning, ErrorKind, &'static str) {
    use ErrorKind::{Corrupt, Refused, Unavailable};
    let Some(state) = state else {
        let advice = match error {
            sqlx::Error::Tls(_) => "Look at the server's certificate, and at sslmode and sslrootcert",
            _ => "Look at the server, and at the network between",
        };
        return (Meaning::Ended, Unavailable, advice);
    };
    match state {
        "55P03" => (Meaning::Stuck, Unavailable, "Another writer holds it. Nothing was written: retry"),
        "40P01" | "40001" => {
            (Meaning::Raced, Unavailable, "Other writers were in the way. Nothing was written: retry")
        }
        "28P01" | "28000" => (
            Meaning::Refused,
            Refused,
            "The user name or the password is wrong, or pg_hba.conf lets nobody in from here",
        ),
        "3D000" => (Meaning::Refused, ErrorKind::NotFound, "Make the database, or name another"),
        "42501" => (
            Meaning::Refused,
            Refused,
            "Grant this role what it needs: to make a schema in the database, or to use the one that is there",
        ),
        "25006" => {
            (Meaning::Refused, Unavailable, "The server only reads, as a standby does: name the primary")
        }
        "42P01" | "3F000" => {
            (Meaning::Refused, Refused, "The store's tables are gone: open it again, or restore them")
        }
        "XX001" | "XX002" => (Meaning::Refused, Corrupt, "The database is damaged: restore it from a copy"),
        _ => match &state[..state.len().min(2)] {
            // Full disks, full memory, too many connections.
            "53" => (
                Meaning::Refused,
                Unavailable,
                "The server lacks disk, memory or connections. Nothing was written",
            ),
            "08" | "57" | "58" | "XX" => {
                (Meaning::Ended, Unavailable, "The server ended it, is starting, or is shutting down: retry")
            }
            _ => (Meaning::Refused, Unavailable, "Nothing was written"),
        },
    }
}
