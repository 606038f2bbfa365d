//! PostgreSQL: its types as values. Values come in its binary form.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime};
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgTypeKind, PgValueRef};
use sqlx::types::BigDecimal;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Decode, Executor, Postgres, TypeInfo, ValueRef};

use super::database::{Connection, TIMEOUT_SPARE, within};
use super::position::Position;
use super::reading::Ask;
use super::rows::{Page, Shape, Unfit, bytes, decimal, float};
use super::trouble::Trouble;
use crate::config::{Place, Secret, SqlSource};
use crate::model::time::Timestamp;
use crate::model::value::Value;

/// 2000-01-01T00:00:00Z, where its times begin, in microseconds since 1970.
const EPOCH_MICROS: i128 = 946_684_800_000_000;

struct PostgresSource {
    connection: PgConnection,
    query: String,
    shape: Arc<Shape>,
    timeout: std::time::Duration,
}

/// Connects.
pub async fn connect(
    url: &Secret,
    source: &SqlSource,
    shape: Arc<Shape>,
) -> Result<impl Connection + use<>, sqlx::Error> {
    let options = PgConnectOptions::from_str(url.expose())?.application_name("turnstile").disable_statement_logging();
    let mut connection = PgConnection::connect_with(&options).await?;
    // A query that nobody waits for any more does not go on over there.
    let timeout = format!("SET statement_timeout = {}", (source.timeout + TIMEOUT_SPARE).as_millis());
    connection.execute(AssertSqlSafe(timeout)).await?;
    let query = source.query.spelled(|place| match place {
        Place::Cursor => "$1",
        Place::Limit => "$2",
    });
    Ok(PostgresSource { connection, query, shape, timeout: source.timeout })
}

impl Connection for PostgresSource {
    fn page(&mut self, ask: Ask) -> BoxFuture<'_, Result<Page, Trouble>> {
        // Prepared under a name: looking up types that are the database's own takes other statements in between.
        let query = sqlx::query::<Postgres>(AssertSqlSafe(self.query.clone()));
        let query = match ask.from {
            Position::Number(number) => query.bind(number),
            Position::Time { at, .. } => query.bind(at.to_chrono()),
        };
        let query = query.bind(ask.limit.cast_signed());
        let rows = query.fetch(&mut self.connection);
        let shape = &self.shape;
        Box::pin(within(self.timeout, shape.page(rows, ask.limit, |row| shape.read::<Postgres>(row, convert))))
    }
}

fn convert(value: PgValueRef<'_>, shape: &Shape) -> Result<Value, Unfit> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    let kind = value.type_info().into_owned();
    let raw = value.as_bytes().map_err(|error| Unfit::Value(error.to_string()))?;
    if matches!(kind.kind(), PgTypeKind::Enum(_)) {
        return text(raw);
    }
    Ok(match kind.name() {
        "BOOL" => Value::Bool(raw.first() == Some(&1)),
        "INT2" => Value::Int(i16::from_be_bytes(sized(raw)?).into()),
        "INT4" => Value::Int(i32::from_be_bytes(sized(raw)?).into()),
        "INT8" => Value::Int(i64::from_be_bytes(sized(raw)?)),
        "OID" => Value::Int(u32::from_be_bytes(sized(raw)?).into()),
        "FLOAT4" => float(f32::from_be_bytes(sized(raw)?)),
        "FLOAT8" => Value::Double(f64::from_be_bytes(sized(raw)?)),
        "NUMERIC" => {
            let exact = <BigDecimal as Decode<Postgres>>::decode(value);
            decimal(&exact.map_err(|error| Unfit::Value(error.to_string()))?.to_plain_string())?
        }
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "\"CHAR\"" | "citext" | "CITEXT" => text(raw)?,
        "UUID" => Value::string(uuid::Uuid::from_bytes(sized(raw)?).to_string()),
        "TIMESTAMPTZ" | "TIMESTAMP" => timestamp(i64::from_be_bytes(sized(raw)?))?,
        "DATE" => date(i32::from_be_bytes(sized(raw)?))?,
        "TIME" => time(i64::from_be_bytes(sized(raw)?)),
        "JSON" => shape.json(raw)?,
        // The first byte is the form's version.
        "JSONB" => shape.json(raw.get(1..).unwrap_or_default())?,
        "BYTEA" => bytes(raw),
        name => return Err(Unfit::Type(name.to_owned())),
    })
}

fn sized<const N: usize>(raw: &[u8]) -> Result<[u8; N], Unfit> {
    raw.try_into().map_err(|_| Unfit::Value(format!("{} bytes where {N} belong", raw.len())))
}

fn text(raw: &[u8]) -> Result<Value, Unfit> {
    std::str::from_utf8(raw).map(Value::string).map_err(|error| Unfit::Value(error.to_string()))
}

fn timestamp(micros: i64) -> Result<Value, Unfit> {
    let time = Timestamp::from_nanos((i128::from(micros) + EPOCH_MICROS) * 1000);
    time.map(Value::Timestamp).ok_or_else(|| Unfit::Value("a time outside the years 1 to 9999".to_owned()))
}

fn date(days: i32) -> Result<Value, Unfit> {
    let date = NaiveDate::from_ymd_opt(2000, 1, 1)
        .and_then(|epoch| epoch.checked_add_signed(chrono::TimeDelta::days(days.into())));
    date.map(|date| Value::string(date.to_string())).ok_or_else(|| Unfit::Value("a date out of range".to_owned()))
}

fn time(micros: i64) -> Value {
    let time = NaiveTime::MIN.overflowing_add_signed(chrono::TimeDelta::microseconds(micros)).0;
    Value::string(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, times would be off, or a time that PostgreSQL calls infinite would end the process.
    #[test]
    fn times_are_those_of_the_calendar() {
        let shown = |value: Result<Value, Unfit>| {
            value.map_or_else(|_| "unfit".to_owned(), |value| crate::model::json::to_string(&value))
        };
        assert_eq!(shown(timestamp(-1)), "\"1999-12-31T23:59:59.999999Z\"");
        assert_eq!([shown(timestamp(i64::MAX)), shown(timestamp(i64::MIN))], ["unfit", "unfit"]);
        assert_eq!([shown(date(59)), shown(date(i32::MAX))], ["\"2000-02-29\"", "unfit"]);
        assert_eq!(shown(Ok(time(36_000_500_000))), "\"10:00:00.500\"");
    }
}
