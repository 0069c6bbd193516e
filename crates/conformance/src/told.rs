//! Answers that can be compared.

use icecore_log::{Created, End, ErrorKind, Version};

/// A [`Created`] that can be compared: of a failure, only its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// How many commits were won.
    pub won: usize,
    /// Why it stopped there.
    pub end: Ending,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every commit was won.
    Done,
    /// The slot holds another commit.
    Taken,
    /// The slot is at or below the boundary.
    Closed(Version),
    /// The predecessor is missing, or another.
    Gap,
    /// It failed.
    Failed(ErrorKind),
}

impl Told {
    /// All of so many commits were won.
    pub fn done(won: usize) -> Self {
        Self { won, end: Ending::Done }
    }

    /// The first commit was not won.
    pub fn stopped(end: Ending) -> Self {
        Self { won: 0, end }
    }

    /// The run failed.
    pub fn failed(kind: ErrorKind) -> Self {
        Self::stopped(Ending::Failed(kind))
    }

    /// Whether it was decided; if not, the same bytes may be sent again.
    pub fn is_decided(self) -> bool {
        !matches!(self.end, Ending::Failed(ErrorKind::Unknown | ErrorKind::Unavailable))
    }

    /// Whether every commit was won.
    pub fn is_done(self) -> bool {
        self.end == Ending::Done
    }
}

impl From<&Created> for Told {
    fn from(created: &Created) -> Self {
        let end = match &created.end {
            End::Done => Ending::Done,
            End::Taken => Ending::Taken,
            End::Closed(boundary) => Ending::Closed(*boundary),
            End::Gap => Ending::Gap,
            End::Failed(error) => Ending::Failed(error.kind()),
        };
        Self { won: created.won, end }
    }
}
