//! The databases as one: a connection that gives pages.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::reading::Ask;
use super::rows::{Page, Shape};
use super::trouble::Trouble;
use super::{mysql, postgres, sqlite};
use crate::config::{Database, SqlSource};

/// How long it may take until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// So much longer than we wait does the database work on a query, so that it is we who say that it is slow.
pub const TIMEOUT_SPARE: Duration = Duration::from_secs(1);

/// A connection to a database. After an error, or a page that was not waited for, it is of no more use.
pub trait Connection: Send {
    /// Asks the query.
    fn page(&mut self, ask: Ask) -> BoxFuture<'_, Result<Page, Trouble>>;
}

/// Connects to a source's database.
///
/// # Errors
/// It is not there, or does not let us in.
pub async fn connect(source: &SqlSource, shape: &Arc<Shape>) -> Result<Box<dyn Connection>, Trouble> {
    let connecting = async {
        Ok(match &source.database {
            Database::Postgres(url) => boxed(postgres::connect(url, source, shape.clone()).await?),
            Database::MySql(url) => boxed(mysql::connect(url, source, shape.clone()).await?),
            Database::Sqlite(path) => boxed(sqlite::connect(path, source, shape.clone()).await?),
        })
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    let late = || Trouble::Unreachable(format!("there is no answer within {CONNECT_TIMEOUT:?}"));
    connected.map_err(|_| late())?.map_err(|error: sqlx::Error| Trouble::connecting(&error))
}

fn boxed(connection: impl Connection + 'static) -> Box<dyn Connection> {
    Box::new(connection)
}

/// Waits for a page, but not longer than `timeout`.
pub async fn within(timeout: Duration, page: impl Future<Output = Result<Page, Trouble>>) -> Result<Page, Trouble> {
    tokio::time::timeout(timeout, page).await.map_err(|_| Trouble::Slow(timeout))?
}
