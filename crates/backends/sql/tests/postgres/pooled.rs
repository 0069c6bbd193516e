//! The contract behind pgbouncer in transaction mode, where two statements of a client may have different sessions.

use icecore_conformance::Place;
use icecore_log::Backend;
use icecore_log::backend::Depth;
use icecore_services::pgbouncer::Pooler;
use icecore_services::postgres::Database;

use crate::{database, open_at, store};

/// A database, and what stands before it: that ends first.
struct Pooled {
    pooler: Pooler,
    database: Database,
}

impl Pooled {
    fn new() -> Self {
        let database = database();
        Self { pooler: Pooler::start(&database.url()).unwrap(), database }
    }

    fn url(&self) -> String {
        self.pooler.url(self.database.name())
    }
}

async fn open() -> Place<Pooled> {
    let write = |pooled: &Pooled| open_at(pooled.url());
    Place::open(Pooled::new(), write).await.with_others(write)
}

icecore_conformance::conformance_tests!(open);

/// It refuses the settings that a server takes when a connection begins: so it is known for what it is.
#[tokio::test]
async fn a_pooler_is_found_out_and_may_be_named() {
    let pooled = Pooled::new();
    for url in [pooled.url(), format!("{}?pgbouncer=true", pooled.url())] {
        let store = store(&url).await.unwrap();

        let facts = store.examine(Depth::Quick).await.unwrap().facts;
        assert!(facts.contains(&("pgbouncer".to_owned(), "true".to_owned())), "{facts:?}");
    }
}
