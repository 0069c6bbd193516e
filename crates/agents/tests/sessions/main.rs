//! Sessions: made once, touched, expired, ended, listed, purged; and their tokens.
#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod artifacts;
mod basics;
mod cut_off;
mod golden;
mod listing;
mod races;
#[path = "../support/mod.rs"]
mod support;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use icecore_agents::sessions::{NewSession, Of, Query, Sessions};
use icecore_agents::{SessionScope, Tenant, UserScope};
use icecore_embedded::Memory;
use icecore_layers::Fault;
use icecore_log::{Backend, Clock};
use icecore_store::{Settings, Store};
use support::ManualClock;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A system in memory, and what opens it as a process of its own.
struct World {
    fault: Arc<Fault>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self { fault: Arc::new(Fault::new(Arc::new(Memory::default()))), clock: ManualClock::new() }
    }

    fn store(&self) -> Store {
        let mut settings = Settings::default();
        settings.append_timeout = Duration::from_secs(2);
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Store::builder(Arc::clone(&self.fault) as Arc<dyn Backend>).settings(settings).clock(clock).build()
    }

    fn sessions(&self) -> Sessions {
        self.sessions_of("acme")
    }

    fn sessions_of(&self, tenant: &str) -> Sessions {
        Sessions::new(self.store(), Tenant::new(tenant).unwrap())
    }
}

fn user(sessions: &Sessions, user: &str) -> UserScope {
    sessions.tenant().user(user).unwrap()
}

fn scope(sessions: &Sessions, of: &str, id: &str) -> SessionScope {
    user(sessions, of).session(id).unwrap()
}

fn forever() -> NewSession {
    NewSession::default()
}

fn idle(idle: Duration) -> NewSession {
    NewSession { idle: Some(idle), lifetime: None }
}

/// The ids of all that are listed, page by page.
async fn listed(sessions: &Sessions, of: &Of, ended: bool, limit: usize) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = sessions.list(of, &Query { after, limit, ended }).await.unwrap();
        assert!(page.sessions.len() <= limit);
        ids.extend(page.sessions.into_iter().map(|(_, session)| session.scope.id().to_owned()));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}
