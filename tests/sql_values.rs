//! The source `sql`: what the types of real databases become, columns of times as cursors, queries that hang.

mod common;

use common::database::{Database, Kind, Scenario};
use common::{Server, Setup, wait_for};
use serde_json::{Value, json};

const RULES: &str = r#"
[entity.thing]
key = "event.data.name"
[entity.thing.fields]
row = { on = "Row", take = "latest" }
seen = { on = "Row", take = "count" }
total = { on = "Row", take = "sum", value = "event.data.?price" }
"#;

fn start(database: &Database, settings: &str) -> Server {
    let source = format!("[source.db]\nkind = \"sql\"\nurl = {:?}\nevery = \"20ms\"\n{settings}", database.url());
    Setup::new(RULES).tables(&source).start()
}

fn wait_for_seen(server: &Server, name: &str, count: u64) -> Value {
    wait_for(&format!("{count} rows of {name}"), || {
        let entity = server.get(&format!("/v1/entities/thing/{name}"));
        let fields = (entity.status == 200).then(|| entity.json()["fields"].clone())?;
        (fields["seen"].as_u64() >= Some(count)).then_some(fields)
    })
}

/// The columns of a table, a row of it, and what its values are as an event's data. `name`, `price` are in each.
fn types(kind: Kind) -> (&'static str, &'static str, Value) {
    match kind {
        Kind::Sqlite => (
            "flag BOOLEAN, number INT, ratio REAL, price TEXT, name TEXT, at TEXT, bytes BLOB, void TEXT",
            "(TRUE, 9223372036854775807, 0.1, '1.10', 'a', '2026-11-20 10:00:00', x'00ff', NULL),
             (FALSE, -1, 2.5, '2.20', 'b', 'x', x'', NULL)",
            json!({"flag": true, "number": i64::MAX, "ratio": 0.1, "price": "1.10", "name": "a",
                "at": "2026-11-20 10:00:00", "bytes": "AP8=", "void": null}),
        ),
        Kind::Postgres => (
            "flag BOOLEAN, small SMALLINT, number BIGINT, single REAL, ratio DOUBLE PRECISION, price NUMERIC(30, 12), \
             name TEXT, short CHAR(3), code UUID, at TIMESTAMPTZ, local TIMESTAMP, day DATE, hour TIME, doc JSONB, \
             raw JSON, bytes BYTEA, mood mood, void INT",
            "(TRUE, -5, 9223372036854775807, 0.1, 0.1, 123456789012345678.100000000001, 'a', 'xy', \
              '6ba7b810-9dad-11d1-80b4-00c04fd430c8', '2026-11-20 10:00:00.25+02', '2026-11-20 10:00:00', '2024-02-29', \
              '08:30', '{\"n\": 0.10, \"l\": [1, null]}', '[1]', '\\x00ff', 'glad', NULL),
             (FALSE, 5, 1, 1e30, 1e-300, -0.5, 'b', '', NULL, NULL, 'infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
            json!({"flag": true, "small": -5, "number": i64::MAX, "single": 0.1, "ratio": 0.1, "name": "a",
                "short": "xy ", "code": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "at": "2026-11-20T08:00:00.250Z",
                "local": "2026-11-20T10:00:00Z", "day": "2024-02-29", "hour": "08:30:00", "doc": {"n": 0.1, "l": [1, null]},
                "raw": [1], "bytes": "AP8=", "mood": "glad", "void": null}),
        ),
        Kind::MariaDb => (
            "flag BOOLEAN, tiny TINYINT, huge BIGINT UNSIGNED, single FLOAT, ratio DOUBLE, price DECIMAL(30, 12), \
             name VARCHAR(9), at TIMESTAMP(3) NULL, local DATETIME NULL, day DATE, hour TIME, year YEAR, doc JSON, bytes BLOB, \
             mood ENUM('glad', 'sad'), void INT",
            "(TRUE, -5, 18446744073709551615, 0.1, 0.1, 123456789012345678.100000000001, 'a', '2026-11-20 10:00:00.25', \
              '2026-11-20 10:00:00', '2024-02-29', '08:30', 2026, '{\"n\": 0.10}', x'00ff', 'glad', NULL),
             (FALSE, 5, 1, 1e30, 1e-300, -0.5, 'b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
            json!({"flag": true, "tiny": -5, "single": 0.1, "ratio": 0.1, "name": "a",
                "at": "2026-11-20T10:00:00.250Z", "local": "2026-11-20T10:00:00Z", "day": "2024-02-29",
                "hour": "08:30:00", "year": 2026, "doc": "{\"n\": 0.10}", "bytes": "AP8=", "mood": "glad", "void": null}),
        ),
    }
}

/// If this failed, amounts and times would come out other than they stand in the table.
fn values_are_exact(database: &mut Database) {
    let (columns, rows, mut expected) = types(database.kind);
    if database.kind == Kind::Postgres {
        database.run_sql("CREATE TYPE mood AS ENUM ('glad', 'sad')");
    }
    database.run_sql(&format!("CREATE TABLE things (id INT, {columns})"));
    let rows = rows.replacen('(', "(1, ", 1).replacen("\n             (", "\n             (2, ", 1);
    database.run_sql(&format!("INSERT INTO things VALUES {rows}"));
    let server = start(
        database,
        "query = \"SELECT * FROM things WHERE id > :cursor ORDER BY id LIMIT :limit\"\ncursor = \"id\"\n\
         event = { id = \"row.id\", type = \"'Row'\", data = \"row\" }",
    );
    // A sum of text is refused: SQLite has no exact numbers.
    if database.kind == Kind::Sqlite {
        let letters = wait_for("both rows are refused", || {
            let items = server.get("/v1/dead-letters").expect(200).json()["items"].clone();
            (items.as_array()?.len() == 2).then_some(items)
        });
        let id = letters[0]["id"].as_str().expect("an id");
        let body = server.get(&format!("/v1/dead-letters/{id}")).expect(200).json()["body"].clone();
        expected["id"] = json!(1);
        let body: Value = serde_json::from_str(body.as_str().expect("text")).expect("JSON");
        assert_eq!(body, expected);
        return;
    }
    let text = {
        wait_for_seen(&server, "a", 1);
        server.get("/v1/entities/thing/a").expect(200).text()
    };
    // As they stand there: reading them as numbers of 64 bits would round them.
    for exact in ["\"price\":123456789012345678.100000000001", "\"total\":123456789012345678.100000000001"] {
        assert!(text.contains(exact), "{text}");
    }
    if database.kind == Kind::MariaDb {
        assert!(text.contains("\"huge\":18446744073709551615"), "{text}");
    }
    let row = serde_json::from_str::<Value>(&text).expect("JSON")["fields"]["row"].clone();
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&row[name], value, "column {name} of {row}");
    }
    let letters = server.get("/v1/dead-letters").expect(200).json()["items"].clone();
    if database.kind == Kind::Postgres {
        let detail = wait_for("the row with an infinite time is refused", || {
            let items = server.get("/v1/dead-letters").expect(200).json()["items"].clone();
            items[0]["detail"].as_str().map(str::to_owned)
        });
        assert_eq!(detail, "column `local`: a time outside the years 1 to 9999");
    } else {
        assert_eq!((&wait_for_seen(&server, "b", 1)["total"], letters), (&json!(-0.5), json!([])));
    }
}

/// If this failed, rows of one instant, late ones, or those after a restart would be lost where the cursor is a time.
fn times_are_cursors_too(database: &mut Database) {
    let kind = match database.kind {
        Kind::Sqlite => "TEXT",
        Kind::Postgres => "TIMESTAMPTZ",
        Kind::MariaDb => "DATETIME(3)",
    };
    database.run_sql(&format!("CREATE TABLE changes (n INT, changed {kind})"));
    let insert = |rows: std::ops::Range<u32>, second: u32| {
        let rows: Vec<_> = rows.map(|n| format!("({n}, '2026-11-20 10:00:{second:02}')")).collect();
        database.run_sql(&format!("INSERT INTO changes VALUES {}", rows.join(", ")));
    };
    // More of one instant than a page has.
    insert(0..25, 10);
    insert(25..28, 11);
    let mut server = start(
        database,
        "query = \"SELECT n, changed FROM changes WHERE changed > :cursor ORDER BY changed LIMIT :limit\"\n\
         cursor = \"changed\"\nstart = \"2020-01-01T00:00:00Z\"\noverlap = \"5s\"\nlimit = 10\n\
         event = { id = \"row.n\", type = \"'Row'\", data = \"{'name': 't', 'at': row.changed}\" }",
    );
    wait_for_seen(&server, "t", 28);
    insert(28..29, 20);
    wait_for_seen(&server, "t", 29);
    // Late by less than the overlap; and by more, which is not promised.
    insert(29..30, 16);
    wait_for_seen(&server, "t", 30);
    insert(30..31, 9);
    server.restart();
    insert(31..32, 21);
    assert_eq!(wait_for_seen(&server, "t", 32 - 1)["seen"], 31);
    let rewind = server.cli(&["sources", "rewind", "db", "--to", "2026-11-20T10:00:05Z"]);
    assert!(rewind.status.success(), "{rewind:?}");
    assert_eq!(wait_for_seen(&server, "t", 32)["seen"], 32);
}

/// If this failed, a query that hangs would hold the source up for ever, without a word.
fn a_query_that_hangs_is_given_up_and_told(database: &mut Database) {
    let hang = match database.kind {
        // A long count: SQLite cannot sleep.
        Kind::Sqlite => "(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c) = 0",
        Kind::Postgres => "pg_sleep(60) IS NULL",
        Kind::MariaDb => "SLEEP(60) = 7",
    };
    database.run_sql("CREATE TABLE slow (id INT); INSERT INTO slow VALUES (1)");
    let mut server = start(
        database,
        &format!(
            "query = \"SELECT id FROM slow WHERE id > :cursor AND {hang} ORDER BY id LIMIT :limit\"\ncursor = \"id\"\n\
             timeout = \"100ms\"\nevent = {{ id = \"row.id\", type = \"'Row'\", data = \"{{'name': 's'}}\" }}"
        ),
    );
    wait_for("it is told", || {
        let sources = server.get("/v1/sources").expect(200).text();
        sources.contains("took longer than its timeout of 100ms").then_some(())
    });
    assert_eq!(server.metric("turnstile_source_up{source=\"db\"}"), Some(0.0));
    assert!(server.terminate().success(), "it can be stopped meanwhile");
}

const SCENARIOS: [Scenario; 3] =
    [("values", values_are_exact), ("times", times_are_cursors_too), ("hang", a_query_that_hangs_is_given_up_and_told)];

with_each_database!(SCENARIOS);
