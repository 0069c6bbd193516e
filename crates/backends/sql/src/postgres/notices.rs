//! Hears the server's warnings, of which sqlx only tells through `tracing`.
//!
//! When somebody cancels a commit that waits for standbys, the server answers as if all was well, and warns. The warning's
//! text is in the server's language, so any warning during a commit counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::instrument::WithSubscriber;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Where sqlx reports what a server says beside its answers.
const TARGET: &str = "sqlx::postgres::notice";

/// Whether warnings are to be heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listener;

impl Listener {
    /// Awaits the work; and whether the server warned meanwhile.
    pub async fn hear<F: Future>(listener: Option<&Self>, work: F) -> (F::Output, bool) {
        if listener.is_none() {
            return (work.await, false);
        }
        let heard = Arc::new(AtomicBool::new(false));
        let ear = Ear { outer: tracing::dispatcher::get_default(Dispatch::clone), heard: Arc::clone(&heard) };
        let output = work.with_subscriber(ear).await;
        (output, heard.load(Ordering::Relaxed))
    }
}

/// Passes everything on to whoever listens already, and remembers a warning.
struct Ear {
    outer: Dispatch,
    heard: Arc<AtomicBool>,
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_warning(metadata) || self.outer.enabled(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.outer.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.outer.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.outer.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        if is_warning(event.metadata()) {
            self.heard.store(true, Ordering::Relaxed);
        }
        if self.outer.enabled(event.metadata()) {
            self.outer.event(event);
        }
    }

    fn enter(&self, span: &Id) {
        self.outer.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.outer.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.outer.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.outer.try_close(id)
    }
}

fn is_warning(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET && *metadata.level() <= Level::WARN
}
