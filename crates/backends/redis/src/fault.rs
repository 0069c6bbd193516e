//! Errors of Redis and of connections to it into our kinds, without anything that they say about values.

use std::fmt;

use icecore_log::{Error, ErrorKind};
use redis::{RedisError, ServerError};

/// The word of a cluster for keys that are not on one node.
const ACROSS: &str = "CROSSSLOT";

/// What stops a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A finding of our own: nothing was written.
    Ours(Error),
    /// Nothing was written, and would not be if it were sent again.
    Refused(Said),
    /// Nothing was written; sent again, here or where the keys are by then, it may be.
    Again(Said),
    /// It may have been written, now or later.
    Doubt(Said),
}

/// What the server or the connection said, and what it means.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    kind: ErrorKind,
    advice: &'static str,
    cause: Cause,
}

/// An error as it may be shown.
#[derive(Debug, Clone)]
struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

fn said(kind: ErrorKind, advice: &'static str, cause: impl Into<String>) -> Said {
    Said { kind, advice, cause: Cause(cause.into()) }
}

impl Fault {
    /// No connection came about.
    pub fn connecting(error: &RedisError) -> Self {
        if let Some(code) = error.code()
            && is_login(code)
        {
            return Self::Refused(login(code));
        }
        if error.kind() == redis::ErrorKind::AuthenticationFailed {
            return Self::Refused(login("the password was refused"));
        }
        let advice = "Look at the server, at the network between, and with rediss:// at its certificate";
        // What comes of a connection says nothing about values.
        Self::Again(said(ErrorKind::Unavailable, advice, shown(&error.to_string())))
    }

    /// The time is up while connecting.
    pub fn unreachable() -> Self {
        Self::Again(said(
            ErrorKind::Unavailable,
            "Look at the server, and at the network between",
            "no connection came about in time",
        ))
    }

    /// No node of a cluster has the keys.
    pub fn uncovered() -> Self {
        Self::Again(said(
            ErrorKind::Unavailable,
            "Look at the cluster: not all of its slots are covered",
            "no node has the keys",
        ))
    }

    /// Whether the replicas have it was not answered.
    pub fn confirming(error: &ServerError) -> Self {
        match Self::of(error) {
            Self::Refused(said) | Self::Again(said) | Self::Doubt(said) => Self::Doubt(said),
            fault @ Self::Ours(_) => fault,
        }
    }

    /// The connection ended with a request on its way.
    pub fn cut(error: &RedisError) -> Self {
        let advice = "Look at the server, and at the network between";
        Self::Doubt(said(ErrorKind::Unavailable, advice, shown(&error.to_string())))
    }

    /// The time is up, with a request on its way.
    pub fn late() -> Self {
        Self::Doubt(said(
            ErrorKind::Unavailable,
            "It may be slow, stuck, or cut off",
            "the server did not answer in time",
        ))
    }

    /// The time is up before anything was sent.
    pub fn busy() -> Self {
        Self::Again(said(
            ErrorKind::Unavailable,
            "Every connection is in use: see connections_max",
            "no connection came free in time",
        ))
    }

    /// Written here, and not on as many replicas as were asked for.
    pub fn unconfirmed() -> Self {
        Self::Doubt(said(
            ErrorKind::Unavailable,
            "The server has it, and fewer replicas than the option wait asks for: look at the replicas",
            "too few replicas acknowledged",
        ))
    }

    /// The server is a replica, which may lack what was just acknowledged.
    pub fn replica() -> Self {
        Self::Again(said(
            ErrorKind::Unavailable,
            "The server is a replica: name the primary, or its Sentinels",
            "the server is a replica",
        ))
    }

    /// The answer is none that the request has.
    pub fn answer() -> Self {
        Self::Doubt(said(
            ErrorKind::Unavailable,
            "Something else than a Redis server may answer",
            "the server gave an answer that is none",
        ))
    }

    /// What the server answers to a request.
    pub fn of(error: &ServerError) -> Self {
        let details = error.details().unwrap_or_default();
        let code = inner_code(error.code(), details);
        let cause = shown(&format!("{} {details}", error.code()));
        let unavailable = |advice| said(ErrorKind::Unavailable, advice, cause.clone());
        match code {
            "LOADING" | "BUSY" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" => {
                Self::Again(unavailable("The server is not ready. Nothing was written: retry"))
            }
            "READONLY" | "MOVED" | "ASK" => {
                Self::Again(unavailable("The server is a replica, or the keys have moved: name the primary"))
            }
            "NOREPLICAS" => Self::Again(unavailable(
                "It has fewer replicas than min-replicas-to-write. Nothing was written",
            )),
            "OOM" => Self::Refused(unavailable(
                "It has no memory left. Nothing was written: raise maxmemory, or trim logs",
            )),
            ACROSS => Self::Refused(said(
                ErrorKind::Refused,
                "A cluster is behind that address: name its servers with redis+cluster://",
                cause,
            )),
            "MISCONF" => Self::Refused(unavailable("It cannot write to its disk. Nothing was written")),
            // The wait for replicas was ended, as in a fail-over; so was whatever else was under way.
            "UNBLOCKED" => {
                Self::Doubt(unavailable("The wait for the replicas was ended: a fail-over may be under way"))
            }
            "WRONGTYPE" => Self::Refused(said(
                ErrorKind::Refused,
                "The prefix holds keys of another program: name another with prefix=",
                cause,
            )),
            code if is_login(code) => Self::Refused(login(code)),
            _ => Self::Doubt(unavailable(
                "The server does not take what Icecore sends: Redis 6 or later is needed",
            )),
        }
    }

    /// Whether a script was given keys that are not on one node.
    pub fn is_across(&self) -> bool {
        matches!(self, Self::Refused(said) if said.cause.0.starts_with(ACROSS))
    }

    /// Whether it may have been written.
    pub fn is_doubt(&self) -> bool {
        matches!(self, Self::Doubt(_))
    }

    /// The error of a request that wrote nothing, or only read.
    pub fn reading(self, doing: &'static str) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Refused(said) | Self::Again(said) | Self::Doubt(said) => {
                Error::new(said.kind, doing).because(said.cause).advise(said.advice)
            }
        }
    }

    /// The error of a request that writes. `in_doubt`: an earlier try of it may have been carried out.
    pub fn writing(self, doing: &'static str, in_doubt: bool) -> Error {
        if !in_doubt && !self.is_doubt() {
            return self.reading(doing);
        }
        let unknown = Error::new(ErrorKind::Unknown, doing)
            .advise("It may have been written: send the same again, or look");
        match self {
            Self::Ours(error) => unknown.because(error),
            Self::Refused(said) | Self::Again(said) | Self::Doubt(said) => unknown.because(said.cause),
        }
    }
}

fn is_login(code: &str) -> bool {
    matches!(code, "NOAUTH" | "WRONGPASS" | "NOPERM")
}

fn login(code: &str) -> Said {
    let advice = match code {
        "NOPERM" => "The user may not do what a store needs: docs/formats/redis.md has the commands",
        _ => "The user name or the password is missing or wrong",
    };
    said(ErrorKind::Refused, advice, code)
}

/// Redis 6 wraps what stopped a script into an error of its own.
fn inner_code<'a>(code: &'a str, details: &'a str) -> &'a str {
    if code != "ERR" {
        return code;
    }
    let mut words = details.split(' ').filter_map(|word| word.strip_prefix('-'));
    let is_code = |word: &&str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    words.rfind(is_code).unwrap_or(code)
}

/// Without the arguments of a command that the server quotes.
fn shown(text: &str) -> String {
    text.split(", with args").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stops_a_script_is_found_in_the_words_of_every_version() {
        let wrapped =
            "Error running script (call to f_1): @user_script:7: @user_script: 7: -OOM command not allowed";
        assert_eq!(inner_code("ERR", wrapped), "OOM");
        assert_eq!(inner_code("OOM", "command not allowed"), "OOM");
        assert_eq!(inner_code("ERR", "wrong number of arguments - here"), "ERR");
        assert_eq!(inner_code("ERR", "a value of -12"), "ERR");
    }

    #[test]
    fn what_a_command_was_given_is_not_shown() {
        let said = "ERR unknown command 'EVALSHA', with args beginning with: 'SECRET'";
        assert_eq!(shown(said), "ERR unknown command 'EVALSHA'");
    }

    #[test]
    fn an_error_after_a_try_in_doubt_is_unknown() {
        assert_eq!(Fault::busy().writing("a", false).kind(), ErrorKind::Unavailable);
        assert_eq!(Fault::busy().writing("a", true).kind(), ErrorKind::Unknown);
        assert_eq!(Fault::late().writing("a", false).kind(), ErrorKind::Unknown);
        assert_eq!(Fault::late().reading("a").kind(), ErrorKind::Unavailable);
    }
}
