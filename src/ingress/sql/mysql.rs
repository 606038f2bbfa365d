//! MySQL and MariaDB: their types as values. Sessions are in UTC.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use futures_util::future::BoxFuture;
use sqlx::mysql::types::MySqlTime;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlValueRef};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Decode, Executor, MySql, Type, TypeInfo, ValueRef};

use super::database::{Connection, TIMEOUT_SPARE, within};
use super::position::Position;
use super::reading::Ask;
use super::rows::{Page, Shape, Unfit, bytes, decimal, float};
use super::trouble::Trouble;
use crate::config::{Place, Secret, SqlSource};
use crate::model::time::Timestamp;
use crate::model::value::Value;

struct MySqlSource {
    connection: MySqlConnection,
    query: String,
    places: Vec<Place>,
    shape: Arc<Shape>,
    timeout: std::time::Duration,
}

/// Connects.
pub async fn connect(
    url: &Secret,
    source: &SqlSource,
    shape: Arc<Shape>,
) -> Result<impl Connection + use<>, sqlx::Error> {
    let options = MySqlConnectOptions::from_str(url.expose())?.disable_statement_logging();
    let mut connection = MySqlConnection::connect_with(&options).await?;
    // A query that nobody waits for any more does not go on over there. The two call it differently, and each refuses the
    // other's name.
    let timeout = source.timeout + TIMEOUT_SPARE;
    let seconds = format!("SET SESSION max_statement_time = {}", timeout.as_secs_f64());
    let millis = format!("SET SESSION max_execution_time = {}", timeout.as_millis());
    if connection.execute(AssertSqlSafe(seconds)).await.is_err() {
        let _ = connection.execute(AssertSqlSafe(millis)).await;
    }
    let (query, places) = (source.query.spelled(|_| "?"), source.query.places().collect());
    Ok(MySqlSource { connection, query, places, shape, timeout: source.timeout })
}

impl Connection for MySqlSource {
    fn page(&mut self, ask: Ask) -> BoxFuture<'_, Result<Page, Trouble>> {
        let mut query = sqlx::query::<MySql>(AssertSqlSafe(self.query.clone())).persistent(false);
        for place in &self.places {
            query = match (place, ask.from) {
                (Place::Limit, _) => query.bind(ask.limit),
                (Place::Cursor, Position::Number(number)) => query.bind(number),
                (Place::Cursor, Position::Time { at, .. }) => query.bind(at.to_chrono().naive_utc()),
            };
        }
        let rows = query.fetch(&mut self.connection);
        let shape = &self.shape;
        Box::pin(within(self.timeout, shape.page(rows, ask.limit, |row| shape.read::<MySql>(row, convert))))
    }
}

fn convert(value: MySqlValueRef<'_>, shape: &Shape) -> Result<Value, Unfit> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let kind = value.type_info().into_owned();
    // By its name alone, text that is compared byte by byte (`_bin`) cannot be told from bytes.
    if kind.name() != "JSON" && <str as Type<MySql>>::compatible(&kind) {
        return Ok(Value::string(get::<&str>(value)?));
    }
    Ok(match kind.name() {
        // What is called so is a number of one byte.
        "BOOLEAN" => match get::<i64>(value)? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => Value::Int(other),
        },
        "TINYINT" | "SMALLINT" | "INT" | "MEDIUMINT" | "BIGINT" => Value::Int(get(value)?),
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "INT UNSIGNED" | "MEDIUMINT UNSIGNED" | "BIGINT UNSIGNED"
        | "YEAR" | "BIT" => {
            let number: u64 = get(value)?;
            i64::try_from(number).map_or_else(|_| decimal(&number.to_string()), |number| Ok(Value::Int(number)))?
        }
        "FLOAT" => float(get(value)?),
        "DOUBLE" => Value::Double(get(value)?),
        "DECIMAL" => decimal(get(value)?)?,
        "SET" => Value::string(get::<&str>(value)?),
        "TIMESTAMP" => timestamp(get::<DateTime<Utc>>(value)?),
        "DATETIME" => timestamp(get::<NaiveDateTime>(value)?.and_utc()),
        "DATE" => Value::string(get::<NaiveDate>(value)?.to_string()),
        "TIME" => time(&get(value)?),
        "JSON" => shape.json(get::<&str>(value)?.as_bytes())?,
        "BINARY" | "VARBINARY" | "BLOB" | "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB" => bytes(get(value)?),
        name => return Err(Unfit::Type(name.to_owned())),
    })
}

fn get<'r, T: Decode<'r, MySql>>(value: MySqlValueRef<'r>) -> Result<T, Unfit> {
    T::decode(value).map_err(|error| Unfit::Value(error.to_string()))
}

/// The hours may be more than a day has, or less than none.
fn time(time: &MySqlTime) -> Value {
    let sign = if time.sign().is_negative() { "-" } else { "" };
    let (hours, minutes, seconds, micros) = (time.hours(), time.minutes(), time.seconds(), time.microseconds());
    let fraction = if micros > 0 { format!(".{micros:06}") } else { String::new() };
    Value::string(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}"))
}

fn timestamp(time: DateTime<Utc>) -> Value {
    Value::Timestamp(Timestamp::from_chrono(time))
}
