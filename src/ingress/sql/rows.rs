//! Rows as they come from a database, as values, and the checks that hold for all databases.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt};
use sqlx::{Column, ColumnIndex, Database, Row as _};

use super::position::Position;
use super::reading::Answer;
use super::seen::RowHash;
use super::trouble::Trouble;
use crate::config::Growth;
use crate::model::json;
use crate::model::number::Decimal;
use crate::model::refusal::{Code, Refusal};
use crate::model::value::{Map, Value};

/// A page ends early when its rows have more bytes.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// A page goes on from its last row, so that it needs one more than that to get on.
const PAGE_ROWS_MIN: usize = 2;

/// A row of the result.
#[derive(Debug)]
pub struct Row {
    pub position: Position,
    /// Its columns, by name.
    pub columns: Value,
    /// Why it cannot be an event, if a value of it is none that can be held.
    pub unfit: Option<Refusal>,
    /// The columns as JSON.
    pub text: String,
    pub hash: RowHash,
}

/// What a query gave.
#[derive(Debug)]
pub struct Page {
    pub rows: Vec<Row>,
    pub answer: Answer,
}

/// What is wrong with a column.
#[derive(Debug)]
pub enum Unfit {
    /// This row's value: others may be well.
    Value(String),
    /// Its type, which Turnstile does not know.
    Type(String),
}

/// What every row must have.
#[derive(Debug)]
pub struct Shape {
    pub cursor: String,
    pub growth: Growth,
    /// The columns that the mapping reads.
    pub needed: BTreeSet<String>,
    pub json_depth_max: usize,
}

impl Shape {
    /// A row, with what `convert` makes of each of its values.
    pub fn read<D: Database>(
        &self,
        row: &D::Row,
        convert: impl for<'r> Fn(D::ValueRef<'r>, &Shape) -> Result<Value, Unfit>,
    ) -> Result<Row, Trouble>
    where
        usize: ColumnIndex<D::Row>,
    {
        let columns = row.columns().iter().map(|column| {
            let value = row.try_get_raw(column.ordinal()).map_err(|error| Unfit::Value(error.to_string()));
            (column.name(), value.and_then(|value| convert(value, self)))
        });
        self.row(columns)
    }

    /// A row with these columns.
    pub fn row<'c>(&self, columns: impl Iterator<Item = (&'c str, Result<Value, Unfit>)>) -> Result<Row, Trouble> {
        let mut map = Map::default();
        let mut unfit = None;
        for (name, value) in columns {
            let value = value.or_else(|wrong| match wrong {
                Unfit::Value(why) => {
                    unfit = Some(Refusal::new(Code::InvalidValue, format!("column `{name}`: {why}")));
                    Ok(Value::Null)
                }
                Unfit::Type(kind) => Err(Trouble::Rows(format!(
                    "column `{name}` has the type {kind}, which is not supported: have the query turn it into another, such as text"
                ))),
            })?;
            map.insert(name, value);
        }
        if let Some(missing) = self.needed.iter().find(|name| map.get(name).is_none()) {
            return Err(Trouble::Rows(format!("the result has no column `{missing}`, which `event` reads")));
        }
        let cursor = map.get(&self.cursor);
        let cursor =
            cursor.ok_or_else(|| Trouble::Rows(format!("the result has no column `{}`, the cursor", self.cursor)))?;
        let position = Position::of(cursor, self.growth)
            .map_err(|is| Trouble::Rows(format!("the cursor's column `{}` is {is}", self.cursor)))?;
        let columns = Value::Map(map);
        let text = json::to_string(&columns);
        let mut hash = RowHash::default();
        hash.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
        Ok(Row { position, columns, unfit, text, hash })
    }

    /// Collects the rows of a result that was asked to have `limit`.
    pub async fn page<R>(
        &self,
        mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
        limit: u64,
        read: impl Fn(&R) -> Result<Row, Trouble>,
    ) -> Result<Page, Trouble> {
        let mut page: Vec<Row> = Vec::new();
        let mut bytes = 0;
        let mut is_cut = false;
        while let Some(row) = rows.next().await {
            let row = read(&row?)?;
            if page.last().is_some_and(|before| before.position.is_after(&row.position)) {
                let name = &self.cursor;
                return Err(Trouble::Rows(format!("they do not come in the order of `{name}`: add ORDER BY {name}")));
            }
            bytes += row.text.len();
            page.push(row);
            is_cut = bytes > PAGE_BYTES_MAX && page.len() >= PAGE_ROWS_MIN;
            if is_cut {
                break;
            }
        }
        let answer =
            Answer { last: page.last().map(|row| row.position), is_full: is_cut || page.len() as u64 >= limit };
        Ok(Page { rows: page, answer })
    }

    /// A JSON document out of a column.
    pub fn json(&self, text: &[u8]) -> Result<Value, Unfit> {
        json::parse(text, self.json_depth_max).map_err(|refusal| Unfit::Value(refusal.message))
    }
}

/// An exact number out of its text.
pub fn decimal(text: &str) -> Result<Value, Unfit> {
    match Decimal::parse(text) {
        Some(Ok(decimal)) => Ok(Value::decimal(decimal)),
        Some(Err(too_large)) => Err(Unfit::Value(too_large.to_string())),
        None => Err(Unfit::Value(format!("{text:.40} is no number"))),
    }
}

/// A number with the accuracy of 32 bits, as people write it: 0.1, not what 64 bits make of it.
pub fn float(number: f32) -> Value {
    Value::Double(number.to_string().parse().unwrap_or(f64::from(number)))
}

/// Bytes as text that JSON can hold.
pub fn bytes(bytes: &[u8]) -> Value {
    Value::string(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let needed = BTreeSet::from(["name".to_owned()]);
        Shape { cursor: "id".to_owned(), growth: Growth::Number { start: 0, overlap: 0 }, needed, json_depth_max: 4 }
    }

    fn columns(id: i64) -> Vec<(&'static str, Result<Value, Unfit>)> {
        vec![("id", Ok(Value::Int(id))), ("name", Ok(Value::string("x")))]
    }

    /// If this failed, a changed schema would turn every row into a dead letter instead of stopping the source.
    #[test]
    fn a_row_of_another_shape_is_trouble_and_a_bad_value_is_the_rows_own() {
        for (at, value, part) in [
            (1, None, "no column `name`, which `event` reads"),
            (0, None, "no column `id`, the cursor"),
            (0, Some(Ok(Value::Bool(true))), "the cursor's column `id` is a bool"),
            (0, Some(Err(Unfit::Type("POINT".into()))), "column `id` has the type POINT"),
        ] {
            let mut row = columns(1);
            match value {
                None => drop(row.remove(at)),
                Some(value) => row[at].1 = value,
            }
            let trouble = shape().row(row.into_iter()).unwrap_err().to_string();
            assert!(trouble.contains(part), "{trouble}");
        }
        let mut row = columns(1);
        row[1].1 = decimal("1e5000");
        let row = shape().row(row.into_iter()).unwrap();
        assert_eq!(row.unfit.unwrap().message, "column `name`: a number with more than 1024 digits");
    }

    fn page(ids: Vec<i64>, limit: u64) -> Result<Page, Trouble> {
        let rows = futures_util::stream::iter(ids.into_iter().map(Ok::<i64, sqlx::Error>));
        let shape = shape();
        let read = shape.page(rows, limit, |id| shape.row(columns(*id).into_iter()));
        futures_util::FutureExt::now_or_never(read).unwrap()
    }

    /// If this failed, rows would be passed over: the last of a page must be the furthest.
    #[test]
    fn rows_come_in_the_order_of_the_cursor() {
        assert!(page(vec![1, 3, 2], 5).unwrap_err().to_string().contains("ORDER BY id"));
        for (limit, is_full) in [(4, false), (3, true)] {
            let page = page(vec![1, 2, 2], limit).unwrap();
            assert_eq!((page.answer.last, page.answer.is_full), (Some(Position::Number(2)), is_full));
            assert_eq!(page.rows[1].hash, page.rows[2].hash);
            assert_ne!(page.rows[0].hash, page.rows[1].hash);
        }
    }

    /// If this failed, numbers would come out other than people wrote them into the table.
    #[test]
    fn numbers_keep_what_they_say() {
        assert_eq!(json::to_string(&float(0.1)), "0.1");
        assert_eq!(
            json::to_string(&decimal("12345678901234567890.10").unwrap_or(Value::Null)),
            "12345678901234567890.1"
        );
        assert!(matches!(decimal("NaN"), Err(Unfit::Value(_))));
    }
}
