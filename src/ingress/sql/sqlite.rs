//! SQLite: what a cell holds as a value. A file is opened to be read only, and let go after each poll.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection as _, Decode, Row as _, Sqlite, TypeInfo, ValueRef};

use super::database::{Connection, within};
use super::position::Position;
use super::reading::Ask;
use super::rows::{Page, Row, Shape, Unfit, bytes};
use super::trouble::Trouble;
use crate::config::{Place, SqlSource};
use crate::model::value::Value;

/// SQLite looks so often whether it is to go on, in steps of its machine.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

struct SqliteSource {
    /// First, so that it is dropped before the connection, which waits for what runs.
    _late: Late,
    connection: SqliteConnection,
    query: String,
    shape: Arc<Shape>,
    timeout: Duration,
}

/// Ends the query that runs when nobody waits for it any more.
struct Late(Arc<AtomicBool>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens the file.
pub async fn connect(
    path: &Path,
    source: &SqlSource,
    shape: Arc<Shape>,
) -> Result<impl Connection + use<>, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(source.timeout)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await?;
    // Nobody else could end a query that hangs: its thread is within SQLite.
    let late = Arc::new(AtomicBool::new(false));
    let is_late = late.clone();
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(STEPS_BETWEEN_LOOKS, move || !is_late.load(Ordering::Relaxed));
    drop(handle);
    let query = source.query.spelled(|place| match place {
        Place::Cursor => "?1",
        Place::Limit => "?2",
    });
    Ok(SqliteSource { connection, query, shape, timeout: source.timeout, _late: Late(late) })
}

impl Connection for SqliteSource {
    fn page(&mut self, ask: Ask) -> BoxFuture<'_, Result<Page, Trouble>> {
        let query = sqlx::query::<Sqlite>(AssertSqlSafe(self.query.clone())).persistent(false);
        let query = match ask.from {
            Position::Number(number) => query.bind(number),
            Position::Time { .. } => query.bind(ask.from.text()),
        };
        let rows = query.bind(ask.limit.cast_signed()).fetch(&mut self.connection);
        let shape = &self.shape;
        Box::pin(within(self.timeout, shape.page(rows, ask.limit, |row| read(row, shape))))
    }
}

fn read(row: &SqliteRow, shape: &Shape) -> Result<Row, Trouble> {
    let columns = row.columns().iter().map(|column| {
        let is_bool = column.type_info().name() == "BOOLEAN";
        (column.name(), convert(row, column.ordinal(), is_bool))
    });
    shape.row(columns)
}

fn convert(row: &SqliteRow, at: usize, is_bool: bool) -> Result<Value, Unfit> {
    let value = row.try_get_raw(at).map_err(|error| Unfit::Value(error.to_string()))?;
    if value.is_null() {
        return Ok(Value::Null);
    }
    let kind = value.type_info().into_owned();
    Ok(match kind.name() {
        "INTEGER" => match get::<i64>(row, at)? {
            number @ (0 | 1) if is_bool => Value::Bool(number == 1),
            number => Value::Int(number),
        },
        "REAL" => Value::Double(get(row, at)?),
        "TEXT" => Value::string(get::<&str>(row, at)?),
        "BLOB" => bytes(get(row, at)?),
        name => return Err(Unfit::Type(name.to_owned())),
    })
}

fn get<'r, T: Decode<'r, Sqlite>>(row: &'r SqliteRow, at: usize) -> Result<T, Unfit> {
    let value = row.try_get_raw(at).map_err(|error| Unfit::Value(error.to_string()))?;
    T::decode(value).map_err(|error| Unfit::Value(error.to_string()))
}
