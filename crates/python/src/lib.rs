//! The native half of the Python package `icecore`. What users call is in `python/icecore`; a call of theirs comes here, is carried out
//! on Tokio, and completes an asyncio future of the caller's loop.
//!
//! | module | holds |
//! | --- | --- |
//! | `runtime` | the one Tokio runtime, the thread that wakes event loops, and what a fork and an exit mean for both |
//! | `call` | a call under way: from a Rust future to an asyncio future, completed in batches |
//! | `stream` | pages of what is read, for `async for` |
//! | `json`, `values` | Python values into JSON, text, numbers and times, or an `InvalidError` |
//! | `lenient` | any Python value into JSON: what a runtime hands over |
//! | `error` | our errors as Python exceptions |
//! | `event`, `state`, `log`, `store` | the classes |
//! | `across` | several logs at once |
//! | `queues` | durable queues |
//! | `retention` | what of a log may go, what is held, and what is kept |
//! | `sessions` | sessions of a tenant's users |
//! | `agents`, `artifacts` | what `icecore.penguiflow` calls |

#![expect(missing_debug_implementations, reason = "Python holds these, and prints them by `__repr__`")]

mod across;
mod agents;
mod artifacts;
mod call;
mod error;
mod event;
mod flows;
mod json;
mod lenient;
mod log;
mod queues;
mod retention;
mod runtime;
mod sessions;
mod state;
mod store;
mod stream;
mod values;

/// Of the Rust half alone. glibc before 2.38 does not use again what was aligned and freed, which is each task of Tokio's (decision 0029).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `icecore._native`.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::across::{NativeStates, commit_all, commit_behind, states};
    #[pymodule_export]
    use crate::agents::{NativeAgents, NativeTaken, flush_at_exit};
    #[pymodule_export]
    use crate::artifacts::{NativeArtifacts, NativeReading, NativeUpload};
    #[pymodule_export]
    use crate::call::{Call, Finished};
    #[pymodule_export]
    use crate::event::{Event, Receipt, RecordedEvent};
    #[pymodule_export]
    use crate::flows::{NativeFlows, NativeRun, NativeTurn};
    #[pymodule_export]
    use crate::json::encode_json;
    #[pymodule_export]
    use crate::lenient::encode_any;
    #[pymodule_export]
    use crate::log::{Head, NativeLog};
    #[pymodule_export]
    use crate::queues::{DeadLetter, Leased, NativeQueue, QueueStatistics};
    #[pymodule_export]
    use crate::retention::{Maintained, NativeRetention, Trimmed, trim};
    #[pymodule_export]
    use crate::runtime::{after_fork, at_exit};
    #[pymodule_export]
    use crate::sessions::NativeSessions;
    #[pymodule_export]
    use crate::state::{Change, Changes, Diff, Difference, Document, NativeState};
    #[pymodule_export]
    use crate::store::{Copied, NativeStore, Verified, copy};
    #[pymodule_export]
    use crate::stream::NativeStream;
}
