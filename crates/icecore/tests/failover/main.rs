//! Servers that die, are replaced and come back, while writers append through the store: what was acknowledged is there afterwards
//! wherever the declared durability says so, and where it does not, what was lost is told to whoever asks for it.
//!
//! One fail-over or two each; `ICECORE_LONG=1` makes them ten. Prints how long nothing was acknowledged: most of it is the time that
//! whoever elects the next primary waits before it takes the old one for dead.
#![cfg(any(feature = "redis", feature = "postgres", feature = "mongodb"))]
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod writers;

/// Which fail-overs there are, of so many unless there is more time; and whether it is the last.
fn rounds(few: usize) -> impl Iterator<Item = bool> {
    let rounds = if std::env::var_os("ICECORE_LONG").is_some() { 10 } else { few };
    (1..=rounds).map(move |round| round == rounds)
}
