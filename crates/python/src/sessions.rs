//! Sessions of a tenant's users, their lists, limits and tokens.

use std::sync::Arc;
use std::time::Duration;

use icecore::agents::Tenant;
use icecore::agents::scope::{SessionScope, UserScope};
use icecore::agents::sessions::{
    Limits, NewSession, Of, Purged, Query, Session, SessionPage, Sessions, Token,
};
use icecore::{Result, Timestamp};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::agents::Name;
use crate::call::{Call, call};
use crate::error::{checked, invalid};
use crate::log::NativeLog;
use crate::store::{NativeStore, Opening};
use crate::values::{Number, Text, datetime};

/// The longest `timedelta`, in whole days.
const DAYS_MAX: u64 = 999_999_999;

/// The sessions of one tenant.
#[pyclass(frozen, module = "icecore._native")]
pub struct NativeSessions {
    opening: Arc<Opening>,
    tenant: Tenant,
}

/// A length of time: a `timedelta` from zero.
struct Length(Duration);

impl<'py> FromPyObject<'_, 'py> for Length {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        value.extract::<Duration>().map(Self).map_err(|error| {
            if error.is_instance_of::<PyValueError>(value.py()) {
                invalid(value.py(), "reading an argument", "A length of time is not negative")
            } else {
                error
            }
        })
    }
}

fn length(given: Option<Length>) -> Option<Duration> {
    given.map(|length| length.0)
}

/// As Python can say it: what is longer than any `timedelta` is the longest.
fn sayable(length: Option<Duration>) -> Option<Duration> {
    length.map(|length| length.min(Duration::from_secs(DAYS_MAX * 86_400)))
}

fn time(py: Python<'_>, time: Option<Timestamp>) -> PyResult<Option<Py<PyAny>>> {
    time.map(|time| Ok(datetime(py, time)?.unbind())).transpose()
}

/// User, id, status, when it was made and touched, how long it may be idle, when it expires, when it ended.
type Shown = (
    String,
    String,
    &'static str,
    Option<Py<PyAny>>,
    Option<Py<PyAny>>,
    Option<Duration>,
    Option<Py<PyAny>>,
    Option<Py<PyAny>>,
);

fn shown(py: Python<'_>, session: &Session) -> PyResult<Shown> {
    Ok((
        session.scope.user().id().to_owned(),
        session.scope.id().to_owned(),
        session.status.name(),
        time(py, Some(session.created_at))?,
        time(py, Some(session.touched_at))?,
        sayable(session.idle),
        time(py, session.expires_next())?,
        time(py, session.ended_at())?,
    ))
}

fn show(py: Python<'_>, session: Session) -> PyResult<Py<PyAny>> {
    Ok(shown(py, &session)?.into_pyobject(py)?.into_any().unbind())
}

fn show_page(py: Python<'_>, page: SessionPage) -> PyResult<Py<PyAny>> {
    let sessions = page.sessions.iter().map(|(_, session)| shown(py, session));
    let sessions = sessions.collect::<PyResult<Vec<_>>>()?;
    Ok((sessions, page.next).into_pyobject(py)?.into_any().unbind())
}

fn show_purged(py: Python<'_>, purged: Purged) -> PyResult<Py<PyAny>> {
    Ok((purged.sessions, purged.logs, purged.held, purged.artifacts).into_pyobject(py)?.into_any().unbind())
}

fn show_tokens(py: Python<'_>, tokens: Vec<Token>) -> PyResult<Py<PyAny>> {
    let shown = |token: Token| -> PyResult<_> {
        Ok((token.id, token.label, time(py, Some(token.issued_at))?, time(py, token.expires_at)?))
    };
    let tokens = tokens.into_iter().map(shown).collect::<PyResult<Vec<_>>>()?;
    Ok(tokens.into_pyobject(py)?.into_any().unbind())
}

impl NativeSessions {
    fn user(&self, py: Python<'_>, user: Text) -> PyResult<UserScope> {
        checked(py, self.tenant.user(user.0))
    }

    fn scope(&self, py: Python<'_>, user: Text, session: Text) -> PyResult<SessionScope> {
        checked(py, self.user(py, user)?.session(session.0))
    }

    /// A user's, or all of the tenant's.
    fn of(&self, py: Python<'_>, user: Option<Text>) -> PyResult<Of> {
        Ok(user.map(|user| self.user(py, user)).transpose()?.map_or(Of::Tenant, Of::User))
    }

    fn call<T: Send + 'static, W>(
        &self,
        work: impl FnOnce(Sessions) -> W + Send + 'static,
        make: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Call
    where
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let (opening, tenant) = (Arc::clone(&self.opening), self.tenant.clone());
        call(async move { work(Sessions::new(opening.store().await?, tenant)).await }, make)
    }
}

#[pymethods]
impl NativeSessions {
    #[new]
    fn new(py: Python<'_>, store: &NativeStore, tenant: Text) -> PyResult<Self> {
        Ok(Self { opening: Arc::clone(&store.0), tenant: checked(py, Tenant::new(tenant.0))? })
    }

    #[getter]
    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    /// Makes one, or if it may be there, gets it: the session, and whether it was made.
    fn create(
        &self,
        py: Python<'_>,
        user: Text,
        session: Text,
        idle: Option<Length>,
        lifetime: Option<Length>,
        may_be_there: bool,
    ) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        let new = NewSession { idle: length(idle), lifetime: length(lifetime) };
        let work = move |sessions: Sessions| async move {
            if may_be_there {
                sessions.get_or_create(&scope, new).await
            } else {
                Ok((sessions.create(&scope, new).await?, true))
            }
        };
        Ok(self.call(work, |py, (session, was_made)| {
            Ok((shown(py, &session)?, was_made).into_pyobject(py)?.into_any().unbind())
        }))
    }

    fn get(&self, py: Python<'_>, user: Text, session: Text) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        Ok(self.call(move |sessions: Sessions| async move { sessions.get(&scope).await }, show))
    }

    fn find(&self, py: Python<'_>, user: Text, session: Text) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        let work = move |sessions: Sessions| async move { sessions.find(&scope).await };
        Ok(self.call(work, |py, found| found.map_or_else(|| Ok(py.None()), |found| show(py, found))))
    }

    fn touch(&self, py: Python<'_>, user: Text, session: Text) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        Ok(self.call(move |sessions: Sessions| async move { sessions.touch(&scope).await }, show))
    }

    fn terminate(&self, py: Python<'_>, user: Text, session: Text, because: Text) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        Ok(self.call(
            move |sessions: Sessions| async move { sessions.terminate(&scope, &because.0).await },
            show,
        ))
    }

    fn list(
        &self,
        py: Python<'_>,
        user: Option<Text>,
        after: Option<Text>,
        limit: Number,
        ended: bool,
    ) -> PyResult<Call> {
        let of = self.of(py, user)?;
        let limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
        let query = Query { after: after.map(|after| after.0), limit, ended };
        Ok(self.call(move |sessions: Sessions| async move { sessions.list(&of, &query).await }, show_page))
    }

    fn purge(&self, py: Python<'_>, user: Text, session: Text, dry_run: bool) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        let work = move |sessions: Sessions| async move {
            if dry_run { sessions.plan_purge(&scope).await } else { sessions.purge(&scope).await }
        };
        Ok(self.call(work, show_purged))
    }

    /// A user's, or all of the tenant's.
    fn purge_all(&self, py: Python<'_>, user: Option<Text>, dry_run: bool) -> PyResult<Call> {
        let of = self.of(py, user)?;
        let work = move |sessions: Sessions| async move {
            if dry_run { sessions.plan_purge_all(&of).await } else { sessions.purge_all(&of).await }
        };
        Ok(self.call(work, show_purged))
    }

    fn sweep(&self, ended_for: Length) -> Call {
        self.call(
            move |sessions: Sessions| async move { sessions.sweep(ended_for.0).await },
            |py, swept| {
                let purged = show_purged(py, swept.purged)?;
                Ok((purged, swept.repaired, swept.removed).into_pyobject(py)?.into_any().unbind())
            },
        )
    }

    fn limits(&self) -> Call {
        self.call(
            move |sessions: Sessions| async move { sessions.limits().await },
            |py, limits| {
                let lengths = (sayable(limits.idle), sayable(limits.lifetime));
                let numbers = (limits.sessions_per_tenant, limits.sessions_per_user);
                let all = (numbers.0, numbers.1, lengths.0, lengths.1);
                Ok(all.into_pyobject(py)?.into_any().unbind())
            },
        )
    }

    fn set_limits(
        &self,
        sessions_per_tenant: Option<Number>,
        sessions_per_user: Option<Number>,
        idle: Option<Length>,
        lifetime: Option<Length>,
    ) -> Call {
        let limits = Limits {
            sessions_per_tenant: sessions_per_tenant.map(|number| number.0),
            sessions_per_user: sessions_per_user.map(|number| number.0),
            idle: length(idle),
            lifetime: length(lifetime),
        };
        let work = move |sessions: Sessions| async move { sessions.set_limits(&limits).await };
        self.call(work, |py, ()| Ok(py.None()))
    }

    fn issue_token(
        &self,
        py: Python<'_>,
        user: Text,
        session: Text,
        label: Text,
        ttl: Option<Length>,
    ) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        let ttl = length(ttl);
        let work = move |sessions: Sessions| async move { sessions.issue_token(&scope, &label.0, ttl).await };
        Ok(self.call(work, |py, issued| {
            let text = issued.reveal().to_owned();
            Ok((issued.id, text).into_pyobject(py)?.into_any().unbind())
        }))
    }

    fn open_token(&self, token: Name) -> Call {
        // What is no text is no token either: it opens nothing.
        let work = move |sessions: Sessions| async move {
            sessions.open_token(std::str::from_utf8(&token.0).unwrap_or_default()).await
        };
        self.call(work, show)
    }

    fn tokens(&self, py: Python<'_>, user: Text, session: Text) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        Ok(self.call(move |sessions: Sessions| async move { sessions.tokens(&scope).await }, show_tokens))
    }

    fn revoke_token(&self, py: Python<'_>, user: Text, session: Text, id: Text) -> PyResult<Call> {
        let scope = self.scope(py, user, session)?;
        let work = move |sessions: Sessions| async move { sessions.revoke_token(&scope, &id.0).await };
        Ok(self.call(work, |py, ()| Ok(py.None())))
    }

    /// A log of a session's own.
    fn log(&self, py: Python<'_>, user: Text, session: Text, part: Text) -> PyResult<NativeLog> {
        let id = checked(py, self.scope(py, user, session)?.log(&part.0))?;
        Ok(NativeLog { opening: Arc::clone(&self.opening), id })
    }
}
