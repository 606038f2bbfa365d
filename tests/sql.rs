//! The source `sql` against real databases: each row counts once, whenever it was committed, whoever was killed when.

mod common;

use common::database::{Database, Kind, PASSWORD, Scenario};
use common::{Server, Setup, from_env, wait_for};
use serde_json::{Value, json};

/// Bookings of accounts: how many, and what they come to.
const RULES: &str = r#"
[entity.account]
key = "event.data.account"
[entity.account.fields]
bookings = { on = "Booked", take = "count" }
total = { on = "Booked", take = "sum", value = "event.data.amount" }
last = { on = "Booked", take = "latest", value = "event.data" }
"#;

/// Databases have limits on the length of a statement.
const INSERTED_AT_ONCE: usize = 10_000;

const QUERY: &str = "SELECT * FROM bookings WHERE id > :cursor ORDER BY id LIMIT :limit";

fn setup(database: &Database, more: &str) -> Setup {
    Setup::new(RULES).tables(&format!(
        "[source.bank]\nkind = \"sql\"\nurl = {:?}\nquery = \"{QUERY}\"\ncursor = \"id\"\nevery = \"20ms\"\n\
         event = {{ id = \"row.id\", type = \"'Booked'\", data = \"{{'account': row.account, 'amount': row.amount}}\" }}\n\
         {more}",
        database.url()
    ))
}

/// A table of bookings, empty.
fn make_table(database: &Database) {
    let id = match database.kind {
        Kind::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Kind::Postgres => "BIGSERIAL PRIMARY KEY",
        Kind::MariaDb => "BIGINT AUTO_INCREMENT PRIMARY KEY",
    };
    database.run_sql(&format!(
        "DROP TABLE IF EXISTS bookings; CREATE TABLE bookings (id {id}, account VARCHAR(20), amount BIGINT)"
    ));
}

/// `count` rows of account `a`, each of amount 1.
fn insert(database: &Database, count: usize) {
    let mut session = database.session();
    for begin in (0..count).step_by(INSERTED_AT_ONCE) {
        let rows = vec!["('a', 1)"; INSERTED_AT_ONCE.min(count - begin)].join(", ");
        session.run(&format!("INSERT INTO bookings (account, amount) VALUES {rows}"));
    }
}

fn source(server: &Server) -> Value {
    let sources = server.get("/v1/sources").expect(200).json();
    let items = sources["items"].as_array().expect("a list").clone();
    items.into_iter().find(|source| source["name"] == "bank").expect("the source is listed")
}

fn wait_for_cursor(server: &Server, cursor: i64) {
    wait_for(&format!("the cursor is at {cursor}"), || (source(server)["cursor"] == cursor).then_some(()));
}

/// Waits until account `a` has so many bookings, and looks that it has no more, also after everything is read again.
fn expect_bookings(server: &Server, count: usize) {
    let found = wait_for(&format!("{count} bookings"), || {
        let entity = server.get("/v1/entities/account/a");
        let found = entity.status == 200 && entity.json()["fields"]["bookings"].as_u64() >= Some(count as u64);
        found.then(|| entity.json())
    });
    assert_eq!((&found["fields"]["bookings"], &found["fields"]["total"]), (&json!(count), &json!(count)));
}

fn in_log(server: &Server, what: &str) -> usize {
    server.stderr().lines().filter(|line| line.contains(what)).count()
}

/// If this failed, a transaction that commits after one with a higher number would never be seen.
fn rows_that_commit_late_are_found(database: &mut Database) {
    make_table(database);
    let server = setup(database, "overlap = 10").start();
    insert(database, 3);
    expect_bookings(&server, 3);
    if database.kind == Kind::Sqlite {
        // It has one writer at a time; a lower number can come late all the same.
        database.run_sql("INSERT INTO bookings VALUES (5, 'a', 1)");
        wait_for_cursor(&server, 5);
        database.run_sql("INSERT INTO bookings VALUES (4, 'a', 1)");
    } else {
        let mut slow = database.session();
        slow.run("BEGIN");
        slow.run("INSERT INTO bookings (account, amount) VALUES ('a', 1)");
        insert(database, 1);
        wait_for_cursor(&server, 5);
        expect_bookings(&server, 4);
        slow.run("COMMIT");
    }
    expect_bookings(&server, 5);
    assert_eq!(source(&server)["cursor"], 5);
    let applied =
        |outcome| server.metric(&format!("turnstile_events_applied_total{{entity=\"account\",outcome=\"{outcome}\"}}"));
    assert_eq!(
        (applied("merged"), applied("duplicate")),
        (Some(5.0), Some(0.0)),
        "what is read again is not brought again"
    );
}

/// If this failed, a crash between a page's events and its cursor would lose rows, or count them twice.
fn a_kill_amid_a_page_loses_and_doubles_nothing(database: &mut Database) {
    make_table(database);
    let count = from_env("SQL_ROWS", 4_000_usize);
    insert(database, count);
    let mut server = setup(database, "limit = 100\noverlap = 20").write();
    for part in 1..4 {
        server.start();
        let far = wait_for("it is amid its pages", || {
            source(&server)["cursor"].as_i64().filter(|cursor| *cursor >= part * 500)
        });
        server.kill();
        assert!(part > 1 || far < count as i64, "the first kill comes before everything is read");
    }
    insert(database, 5);
    server.start();
    expect_bookings(&server, count + 5);
    assert_eq!(server.entity("account", "a")["events"], count + 5);
    wait_for_cursor(&server, count as i64 + 5);
}

/// If this failed, a database that goes away for a while would stop the source, fill the log, or cost rows.
fn a_database_may_come_late_and_go_away(database: &mut Database) {
    make_table(database);
    insert(database, 2);
    database.kill();
    let server = setup(database, "").start();
    let up = || server.metric("turnstile_source_up{source=\"bank\"}");
    wait_for("the trouble is told", || (in_log(&server, "the database cannot be reached") == 1).then_some(()));
    assert_eq!((up(), source(&server)["up"].as_bool()), (Some(0.0), Some(false)));
    database.run();
    expect_bookings(&server, 2);
    assert_eq!(up(), Some(1.0));
    let caught_up = "turnstile_source_caught_up_timestamp_seconds{source=\"bank\"}";
    wait_for("all is read", || (server.metric(caught_up) > Some(1e9)).then_some(()));
    let told = in_log(&server, "cannot be reached");
    database.kill();
    wait_for("the trouble is seen", || (source(&server)["up"] == false).then_some(()));
    database.run();
    insert(database, 1);
    expect_bookings(&server, 3);
    let told_again = in_log(&server, "cannot be reached") - told;
    // Killed, it may first be a broken connection and then a refused one.
    assert!((1..=3).contains(&told_again), "told {told_again} times");
    assert!(!server.stderr().contains(PASSWORD));
}

/// If this failed, a changed table would turn every row into a dead letter, or rows would be passed over.
fn a_changed_schema_holds_the_source_up_until_it_is_mended(database: &mut Database) {
    make_table(database);
    insert(database, 2);
    let server = setup(database, "").start();
    expect_bookings(&server, 2);
    database.run_sql("ALTER TABLE bookings RENAME COLUMN amount TO cents");
    database.run_sql("INSERT INTO bookings (account, cents) VALUES ('a', 1)");
    let trouble = wait_for("the trouble is told", || source(&server)["trouble"].as_str().map(str::to_owned));
    assert!(trouble.contains("no column `amount`, which `event` reads"), "{trouble}");
    assert_eq!((in_log(&server, "no column `amount`"), &source(&server)["cursor"]), (1, &json!(2)));
    database.run_sql("ALTER TABLE bookings RENAME COLUMN id TO number");
    wait_for("the query does not run", || {
        let trouble = source(&server)["trouble"].as_str()?.to_owned();
        trouble.contains("does not take the query").then_some(())
    });
    database
        .run_sql("ALTER TABLE bookings RENAME COLUMN number TO id; ALTER TABLE bookings RENAME COLUMN cents TO amount");
    expect_bookings(&server, 3);
    assert_eq!(server.get("/v1/dead-letters").expect(200).json()["items"], json!([]));
}

/// If this failed, an operator could not have rows read again, or reading them again would count them twice.
fn a_rewind_repeats_rows_and_changes_nothing(database: &mut Database) {
    make_table(database);
    insert(database, 50);
    let mut server = setup(database, "limit = 20").start();
    expect_bookings(&server, 50);
    wait_for_cursor(&server, 50);
    let before = server.entity("account", "a");
    let rewind = server.cli(&["sources", "rewind", "bank", "--to", "10"]);
    assert_eq!(String::from_utf8_lossy(&rewind.stdout), "bank goes on after 10\n", "{rewind:?}");
    let duplicates = "turnstile_events_applied_total{entity=\"account\",outcome=\"duplicate\"}";
    wait_for("the rows are read again", || (server.metric(duplicates) >= Some(40.0)).then_some(()));
    wait_for_cursor(&server, 50);
    assert_eq!(server.entity("account", "a"), before);
    for (name, to, code) in [("bank", "51", 1), ("bank", "yesterday", 2), ("nobody", "1", 1)] {
        let refused = server.cli(&["sources", "rewind", name, "--to", to]);
        assert_eq!(refused.status.code(), Some(code), "{refused:?}");
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(to != "yesterday" || why.contains("to: \"yesterday\" is a string and no whole number"), "{why}");
    }
    // What is set back stays so, whatever happens next.
    server.post("/v1/sources/bank/rewind", "application/json", r#"{"to":0}"#).expect(200);
    server.restart();
    wait_for_cursor(&server, 50);
    expect_bookings(&server, 50);
    let listed = server.cli(&["sources", "ls"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().any(|line| line.starts_with("bank  ") && line.contains("  50")), "{listed}");
}

/// If this failed, a row that is refused would stop the source, be lost, or be recorded again at each poll.
fn a_refused_row_becomes_one_dead_letter(database: &mut Database) {
    make_table(database);
    let nobody = "INSERT INTO bookings (account, amount) VALUES (NULL, 7)";
    database.run_sql(nobody);
    insert(database, 1);
    let mut server = setup(database, "").start();
    expect_bookings(&server, 1);
    wait_for_cursor(&server, 2);
    let letters = |server: &Server| server.get("/v1/dead-letters?source=bank").expect(200).json()["items"].clone();
    let first = letters(&server);
    assert_eq!(first.as_array().map(Vec::len), Some(1), "{first}");
    for (member, value) in [("source", "bank"), ("reason", "missing_key"), ("event", "1")] {
        assert_eq!(first[0][member], value, "{first}");
    }
    let others = server.get("/v1/dead-letters?source=tcp").expect(200).json();
    assert_eq!(others["items"], json!([]));
    let id = first[0]["id"].as_str().expect("an id");
    let listed = server.cli(&["dead-letters", "ls", "--source", "bank"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(id), "{listed:?}");
    let shown = server.cli(&["dead-letters", "show", id, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("a document");
    assert_eq!(shown["body"], r#"{"account":null,"amount":7,"id":1}"#);
    // Neither reading it again, nor a rewind, nor a restart records it again; another one is.
    server.cli(&["sources", "rewind", "bank", "--to", "0"]);
    server.restart();
    database.run_sql(nobody);
    wait_for_cursor(&server, 3);
    let all = letters(&server);
    assert_eq!((all.as_array().map(Vec::len), &all[0]), (Some(2), &first[0]), "{all}");
    assert_eq!(server.metric("turnstile_dead_letters{reason=\"missing_key\"}"), Some(2.0));
    // A row that somebody edits after it was counted is another statement under the same id.
    database.run_sql("UPDATE bookings SET amount = 9 WHERE id = 2");
    wait_for("the edited row is a dead letter", || {
        letters(&server).as_array()?.iter().any(|letter| letter["reason"] == "conflict").then_some(())
    });
    expect_bookings(&server, 1);
}

/// If this failed, passwords would end up where many can read them.
fn the_password_is_shown_nowhere(database: &mut Database) {
    make_table(database);
    let server = setup(database, "").start();
    wait_for("it is connected", || (source(&server)["up"] == true).then_some(()));
    let printed = server.cli(&["check", "--print"]);
    assert!(printed.status.success(), "{printed:?}");
    let broken = setup(database, "curser = \"x\"").text().replace("postgres://", "postgress://");
    let wrong = setup(database, "curser = \"x\"").text().replace(PASSWORD, &format!("{PASSWORD}-no"));
    let mut shown = vec![String::from_utf8_lossy(&printed.stdout).into_owned()];
    for config in [broken, wrong] {
        server.rewrite(&config);
        let refused = server.cli(&["check"]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        shown.push(String::from_utf8_lossy(&refused.stderr).into_owned());
    }
    shown.push(server.get("/v1/status").text() + &server.get("/metrics").text() + &server.stderr());
    drop(server);
    let mut denied = setup(database, "").write();
    denied.rewrite(&setup(database, "").text().replace(PASSWORD, &format!("{PASSWORD}-no")));
    denied.start();
    if database.kind != Kind::Sqlite {
        wait_for("it is not let in", || (in_log(&denied, "cannot be reached") > 0).then_some(()));
    }
    shown.push(denied.stderr());
    for text in shown {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

const SCENARIOS: [Scenario; 7] = [
    ("late", rows_that_commit_late_are_found),
    ("kill", a_kill_amid_a_page_loses_and_doubles_nothing),
    ("schema", a_changed_schema_holds_the_source_up_until_it_is_mended),
    ("rewind", a_rewind_repeats_rows_and_changes_nothing),
    ("refused", a_refused_row_becomes_one_dead_letter),
    ("secret", the_password_is_shown_nowhere),
    ("away", a_database_may_come_late_and_go_away),
];

with_each_database!(SCENARIOS);
