//! Clearing: all artifacts of a session, of a user in a session, or of a tenant go, whatever the limits say.

use icecore_log::{LogId, Result};
use icecore_store::state::{Changes, State};

use super::record::{self, Record};
use super::{Artifacts, body, gone};
use crate::names::{self, Kind};

/// Of whom what goes is.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Anybody,
    User(&'a User),
}

/// What names a user within a session.
struct User {
    key: String,
    /// The names of owners that are too long to say who they are.
    hashed: [String; 2],
}

impl Artifacts {
    /// Deletes all of a session, or of the tenant; how many.
    ///
    /// # Errors
    /// As [`Log::transact`](icecore_store::Log::transact).
    pub async fn clear(&self, session: Option<&[u8]>) -> Result<u64> {
        let logs = match session {
            Some(session) => vec![self.tenant.log(Kind::Artifacts, session)?],
            None => self.logs().await?,
        };
        let mut cleared = 0;
        for log in logs {
            cleared += self.clear_log(log, Whose::Anybody).await?;
        }
        Ok(cleared)
    }

    /// Deletes all that a user has in a session, also from the past of its log; how many.
    ///
    /// # Errors
    /// [`Refused`](icecore_log::ErrorKind::Refused) if the session's artifacts are held; else as [`Log::trim`](icecore_store::Log::trim).
    pub async fn clear_user(&self, session: &[u8], user: &[u8]) -> Result<u64> {
        if self.plan_clear_user(session, user).await? == 0 {
            return Ok(0);
        }
        let (id, user) = (self.tenant.log(Kind::Artifacts, session)?, self.user(user));
        let cleared = self.clear_log(id.clone(), Whose::User(&user)).await?;
        self.store.log(id).trim_to_state().await.map(Some).or_else(gone)?;
        Ok(cleared)
    }

    /// How many [`Artifacts::clear_user`] would delete.
    ///
    /// # Errors
    /// As [`Artifacts::clear_user`].
    pub async fn plan_clear_user(&self, session: &[u8], user: &[u8]) -> Result<u64> {
        let (log, user) = (self.store.log(self.tenant.log(Kind::Artifacts, session)?), self.user(user));
        let Some(state) = log.state().await.map(Some).or_else(gone)? else { return Ok(0) };
        let records = state.documents(record::RECORDS);
        let count = records.filter(|(key, _)| Whose::User(&user).is_of(key)).count() as u64;
        if count > 0 {
            self.store.retention()?.check_free(log.id(), state.version).await?;
        }
        Ok(count)
    }

    fn user(&self, user: &[u8]) -> User {
        let tenants = [None, Some(self.tenant.as_str().as_bytes())];
        User { key: names::key(user), hashed: tenants.map(|tenant| names::joined(&[tenant, Some(user)])) }
    }

    async fn clear_log(&self, id: LogId, whose: Whose<'_>) -> Result<u64> {
        let log = self.store.log(id);
        let (mut records, mut bodies) = (0, Vec::new());
        log.transact(|state| {
            let mut changes = Changes::new();
            (records, bodies) = (0, Vec::new());
            for (key, document) in state.documents("").filter(|(key, _)| whose.is_of(key)) {
                if key.starts_with(record::RECORDS) {
                    // What cannot be read is cleared like all else; its content is then found by a sweep.
                    bodies.extend(document.read::<Record>());
                    records += 1;
                }
                changes = changes.delete(key);
            }
            Ok(changes)
        })
        .await
        .or_else(gone)?;
        body::delete(&log, &bodies).await;
        Ok(records)
    }

    /// Whether a document of a session's log is of an artifact: its record, or that it was used.
    pub(crate) fn is_of_one(key: &str) -> bool {
        Whose::Anybody.is_of(key)
    }

    /// How many artifacts a session's log has, also such as have expired, and their bytes.
    pub(crate) fn measured(state: &State) -> (u64, u64) {
        let sizes = state.documents(record::RECORDS);
        let sizes = sizes.map(|(_, document)| document.read::<Record>().map_or(0, |record| record.bytes));
        sizes.fold((0, 0), |(count, sum), bytes| (count + 1, u64::saturating_add(sum, bytes)))
    }
}

impl Whose<'_> {
    /// Whether it is the key of a record, or of a use, of one of theirs.
    fn is_of(self, key: &str) -> bool {
        let owned = key.strip_prefix(record::RECORDS).or_else(|| key.strip_prefix(record::USES));
        let Some((owner, _)) = owned.and_then(|owned| owned.rsplit_once('/')) else { return false };
        match self {
            Self::Anybody => true,
            Self::User(user) => user.is_in(owner),
        }
    }
}

impl User {
    /// Whether an owner is this user, of whichever of the runtime's tenants.
    fn is_in(&self, owner: &str) -> bool {
        let parts = serde_json::from_str::<[Option<String>; 2]>(owner);
        let is_named = parts.is_ok_and(|[_, user]| user.as_ref() == Some(&self.key));
        is_named || self.hashed.iter().any(|hashed| hashed == owner)
    }
}
