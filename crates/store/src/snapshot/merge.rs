//! Snapshots that follow each other, read as the one that they make together.

use futures_util::future::try_join_all;
use icecore_log::{Backend, Error, ErrorKind, Result, Version};

use super::cursor::Cursor;
use super::record::{Record, over};

/// The records of several snapshots, oldest first: of a key, the newest counts (see [`over`]).
#[derive(Debug)]
pub(crate) struct Merged {
    inputs: Vec<Input>,
    /// Nothing is below the oldest: it begins at version 0.
    is_whole: bool,
}

#[derive(Debug)]
struct Input {
    cursor: Cursor,
    next: Option<Record>,
    is_done: bool,
}

impl Input {
    async fn look(&mut self, backend: &dyn Backend) -> Result<()> {
        self.next = self.cursor.next(backend).await?;
        self.is_done = self.next.is_none();
        Ok(())
    }

    fn is_unknown(&self) -> bool {
        self.next.is_none() && !self.is_done
    }
}

impl Merged {
    /// Merges the records that these cursors read, oldest snapshot first.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if one does not begin where the one before ends, or is of another log.
    pub fn new(cursors: Vec<Cursor>) -> Result<Self> {
        let follows = |pair: &[Cursor]| {
            let (older, newer) = (pair[0].snapshot().info(), pair[1].snapshot().info());
            older.to == newer.from && older.incarnation == newer.incarnation
        };
        if !cursors.windows(2).all(follows) {
            return Err(Error::new(ErrorKind::Invalid, "merging snapshots")
                .advise("Each begins where the one before ends"));
        }
        let oldest = cursors.first().map(|cursor| cursor.snapshot().info().from);
        let inputs = cursors.into_iter().map(|cursor| Input { cursor, next: None, is_done: false });
        Ok(Self { inputs: inputs.collect(), is_whole: oldest == Some(Version::ZERO) })
    }

    /// What all of them say of the next key; `None` behind the last.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub async fn next(&mut self, backend: &dyn Backend) -> Result<Option<Record>> {
        loop {
            if self.inputs.iter().any(Input::is_unknown) {
                let unknown = self.inputs.iter_mut().filter(|input| input.is_unknown());
                try_join_all(unknown.map(|input| input.look(backend))).await?;
            }
            let keys = self.inputs.iter().filter_map(|input| input.next.as_ref().map(|next| &next.key));
            let Some(key) = keys.min().cloned() else {
                return Ok(None);
            };
            let mut record = None;
            for input in &mut self.inputs {
                if let Some(newer) = input.next.take_if(|next| next.key == key) {
                    record = Some(over(record, newer));
                }
            }
            match record {
                Some(record) if self.is_whole => {
                    if let Some(record) = record.whole() {
                        return Ok(Some(record));
                    }
                }
                record => return Ok(record),
            }
        }
    }
}
