//! Policies: what is kept of logs without anybody asking each time. Whoever maintains the store applies them.

use std::collections::BTreeSet;
use std::time::Duration;

use icecore_log::{Error, ErrorKind, Head, LogId, LogPrefix, PageLimit, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Log;
use crate::retention::hold::Intent;
use crate::retention::{Keep, Retention, SYSTEM, Trim, Trimmed};
use crate::state::{Json, State, base};

/// What is kept of the logs whose names begin so. Of several that fit, the one with the longest prefix counts alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Of which logs.
    pub on: LogPrefix,
    /// So many commits, the newest.
    pub keep_commits: Option<u64>,
    /// What was committed no longer ago.
    pub keep_for: Option<Duration>,
    /// So many bytes, the newest.
    pub keep_bytes: Option<u64>,
    /// As in [`Trim::kinds`]: only bodies of these kinds go.
    pub kinds: BTreeSet<String>,
    /// A log to which nothing was appended for so long is deleted.
    pub delete_idle_for: Option<Duration>,
}

/// As it is stored, under its prefix. Times are in seconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_commits: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_for: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    kinds: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_idle_for: Option<u64>,
}

const POLICIES: &str = "policy/";
/// How much is kept of Icecore's own logs if nobody says otherwise.
const SYSTEM_COMMITS: u64 = 1_000;

impl Retention {
    /// Sets the policy of a prefix, whatever it was.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if it keeps everything; else as [`Log::append`].
    pub async fn set_policy(&self, policy: &Policy) -> Result<()> {
        if policy.keep().is_none() && policy.delete_idle_for.is_none() {
            return Err(Error::new(ErrorKind::Invalid, "setting a policy")
                .with("prefix", policy.on.as_str())
                .advise("It would keep everything: say how many commits or bytes, or for how long"));
        }
        let json = Json::of(&Stored::of(policy))?;
        self.log.put(&format!("{POLICIES}{}", policy.on.as_str()), json).await.map(drop)
    }

    /// Takes back the policy of a prefix; whether there was one.
    ///
    /// # Errors
    /// As [`Log::transact`].
    pub async fn remove_policy(&self, prefix: &LogPrefix) -> Result<bool> {
        self.delete(&format!("{POLICIES}{}", prefix.as_str())).await
    }

    /// Every policy, in order of the prefixes.
    ///
    /// # Errors
    /// As [`Log::state`].
    pub async fn policies(&self) -> Result<Vec<Policy>> {
        policies(&*self.log.state().await?)
    }
}

pub(super) fn policies(state: &State) -> Result<Vec<Policy>> {
    let read = |(key, document): (&str, &crate::state::Document)| {
        let prefix = LogPrefix::parse(key.strip_prefix(POLICIES).unwrap_or_default())?;
        let stored = document.read::<Stored>().map_err(|error| error.with("policy", prefix.as_str()))?;
        Ok(stored.read(prefix))
    };
    state.documents(POLICIES).map(read).collect()
}

/// The one that counts for a log. What is said of all tenants is not said of Icecore's own logs.
pub(super) fn of_log(policies: &[Policy], log: &LogId) -> Option<Policy> {
    let own = system().filter(|own| own.on.matches(log));
    let is_fitting = |policy: &&Policy| {
        policy.on.matches(log)
            && own.as_ref().is_none_or(|own| policy.on.as_str().starts_with(own.on.as_str()))
    };
    let longest = policies.iter().filter(is_fitting).max_by_key(|policy| policy.on.as_str().len()).cloned();
    longest.or(own)
}

/// That of Icecore's own logs.
pub(super) fn system() -> Option<Policy> {
    Some(Policy {
        on: LogPrefix::tenant(SYSTEM).ok()?,
        keep_commits: Some(SYSTEM_COMMITS),
        keep_for: None,
        keep_bytes: None,
        kinds: BTreeSet::new(),
        delete_idle_for: None,
    })
}

/// What maintenance did to a log, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was nothing to do.
    Nothing,
    /// It was trimmed.
    Trimmed(Trimmed),
    /// It was deleted.
    Deleted,
    /// So many of its documents had expired, and were removed.
    DocumentsExpired(u64),
    /// It had expired, and was deleted.
    LogExpired,
}

impl Policy {
    /// What it keeps by a time; `None` if it takes nothing.
    fn keep_at(&self, now: Timestamp) -> Option<Keep> {
        let since = self.keep_for.map(|age| now.before(age));
        self.keep().map(|keep| Keep { since, ..keep })
    }

    fn keep(&self) -> Option<Keep> {
        let is_any = self.keep_commits.is_some() || self.keep_for.is_some() || self.keep_bytes.is_some();
        is_any.then(|| Keep { commits: self.keep_commits, bytes: self.keep_bytes, ..Keep::default() })
    }
}

impl Log {
    /// Does what a policy says, or says what it would do.
    pub(super) async fn apply(&self, policy: &Policy, is_dry: bool) -> Result<Applied> {
        let Some(head) = self.raw_head().await?.filter(|head| self.living(head).is_ok()) else {
            return Ok(Applied::Nothing);
        };
        let now = self.store.now();
        if let Some(idle) = policy.delete_idle_for
            && self.last_used(&head).await? < now.before(idle)
        {
            let is_done = if is_dry {
                self.store.may_delete(&self.id, Some(head.version)).await?
            } else {
                // Not if somebody uses it just now.
                self.store.delete_log_at(&self.id, Some(head.version)).await?.is_some()
            };
            return Ok(if is_done { Applied::Deleted } else { Applied::Nothing });
        }
        let Some(keep) = policy.keep_at(now) else { return Ok(Applied::Nothing) };
        let through = self.expendable(&head, &keep).await?;
        if through == head.boundary && policy.kinds.is_empty() {
            return Ok(Applied::Nothing);
        }
        let trim = Trim { keep, kinds: policy.kinds.clone() };
        if is_dry {
            return Ok(Applied::Trimmed(self.plan_trim(&trim).await?).unless_nothing());
        }
        self.store.retention()?.check(&self.id, &Intent::of(through, &policy.kinds)).await?;
        // So that states go back about half as far as events.
        let is_base_old = self.decode(&head)?.base <= self.expendable(&head, &keep.half(now)).await?;
        if is_base_old && policy.kinds.is_empty() {
            self.write_base().await?;
        }
        Ok(Applied::Trimmed(self.trim(&trim).await?).unless_nothing())
    }

    /// When something was appended last: a base is none of the caller's, nor is that something was removed because it was due.
    pub(crate) async fn last_used(&self, head: &Head) -> Result<Timestamp> {
        let header = self.decode(head)?;
        if !(header.flags.base || header.flags.expires) || header.entries.len() > 1 {
            return Ok(header.at);
        }
        let page = self.store.0.backend.read(&self.id, head.version, PageLimit::WHOLE.commits(1)).await?;
        let last = page.commits.first().and_then(|commit| {
            let entries = header.open_body(commit.body.as_ref()?).ok()?;
            base::was_last_used(entries.first()?)
        });
        Ok(last.unwrap_or(header.at))
    }
}

impl Applied {
    fn unless_nothing(self) -> Self {
        match self {
            Self::Trimmed(trimmed) if trimmed.commits == 0 => Self::Nothing,
            other => other,
        }
    }
}

impl Stored {
    fn of(policy: &Policy) -> Self {
        Self {
            keep_commits: policy.keep_commits,
            keep_for: policy.keep_for.map(seconds),
            keep_bytes: policy.keep_bytes,
            kinds: policy.kinds.clone(),
            delete_idle_for: policy.delete_idle_for.map(seconds),
        }
    }

    fn read(self, on: LogPrefix) -> Policy {
        Policy {
            on,
            keep_commits: self.keep_commits,
            keep_for: self.keep_for.map(Duration::from_secs),
            keep_bytes: self.keep_bytes,
            kinds: self.kinds,
            delete_idle_for: self.delete_idle_for.map(Duration::from_secs),
        }
    }
}

/// Whole seconds, and never less than was asked for.
fn seconds(age: Duration) -> u64 {
    age.as_secs().saturating_add(u64::from(age.subsec_nanos() > 0))
}
