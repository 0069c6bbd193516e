//! A statement and its parameters, which it owns: what is sent outlives who asked for it.

use std::borrow::Cow;

use sqlx::query::Query;
use sqlx::{Arguments, AssertSqlSafe, Database, Encode, Type};

pub(crate) struct Statement<D: Database> {
    sql: Cow<'static, str>,
    arguments: sqlx::Result<D::Arguments>,
    is_kept: bool,
}

/// Of constants, and of as many of them as there are parameters; nothing of a name or a value is in it.
pub(crate) fn query<D: Database>(sql: impl Into<Cow<'static, str>>) -> Statement<D> {
    Statement { sql: sql.into(), arguments: Ok(D::Arguments::default()), is_kept: true }
}

impl<D: Database> Statement<D> {
    pub fn bind<'t, T: Encode<'t, D> + Type<D>>(mut self, value: T) -> Self {
        self.arguments = self.arguments.and_then(|mut arguments| {
            arguments.add(value).map_err(sqlx::Error::Encode)?;
            Ok(arguments)
        });
        self
    }

    /// Whether the connection keeps it prepared, as it does unless it is told otherwise.
    pub fn kept(self, is_kept: bool) -> Self {
        Self { is_kept, ..self }
    }

    /// As the driver takes it.
    pub fn query(self) -> sqlx::Result<Query<'static, D, D::Arguments>>
    where
        D: sqlx::database::HasStatementCache,
        D::Arguments: sqlx::IntoArguments<D>,
    {
        Ok(sqlx::query_with(AssertSqlSafe(self.sql), self.arguments?).persistent(self.is_kept))
    }
}
