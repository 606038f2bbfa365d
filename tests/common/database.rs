//! Real databases: an SQLite file, and PostgreSQL and MariaDB as servers of their own, on ports the system chooses, ended by
//! their process ids.

use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection, SqliteConnection};
use tempfile::TempDir;

use super::wait_for;

/// What the servers know us by.
pub const PASSWORD: &str = "s3cr3t-of-the-test";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

/// Something to be tried with a database.
pub type Scenario = (&'static str, fn(&mut Database));

/// Tries all of it with one database of this kind, if it is installed.
pub fn run_all(kind: Kind, scenarios: &[Scenario]) {
    let Some(mut database) = Database::start(kind) else { return };
    for (name, scenario) in scenarios {
        println!("{kind:?}: {name}");
        scenario(&mut database);
    }
}

/// A test for each kind of database.
#[macro_export]
macro_rules! with_each_database {
    ($scenarios:expr) => {
        #[test]
        fn sqlite() {
            common::database::run_all(common::database::Kind::Sqlite, &$scenarios);
        }

        #[test]
        fn postgres() {
            common::database::run_all(common::database::Kind::Postgres, &$scenarios);
        }

        #[test]
        fn mariadb() {
            common::database::run_all(common::database::Kind::MariaDb, &$scenarios);
        }
    };
}

/// A database; its data stays when it is stopped and started again.
pub struct Database {
    pub kind: Kind,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Database {
    /// Starts one; none where it is not installed.
    pub fn start(kind: Kind) -> Option<Database> {
        let installed = match kind {
            Kind::Sqlite => true,
            Kind::Postgres => program("initdb").is_some(),
            Kind::MariaDb => program("mariadbd").is_some() && program("mariadb-install-db").is_some(),
        };
        if !installed {
            eprintln!("SKIPPED: {kind:?} is not installed (Debian: postgresql, mariadb-server)");
            return None;
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut database = Database { kind, dir, port: free.expect("a port").port(), child: None };
        database.make();
        database.run();
        Some(database)
    }

    fn make(&self) {
        let data = self.dir.path().join("data");
        let password = self.dir.path().join("password");
        std::fs::write(&password, PASSWORD).expect("a file");
        let mut command = match self.kind {
            Kind::Sqlite => return,
            Kind::Postgres => {
                let mut command = self.as_user("initdb");
                command.arg("-D").arg(&data).args(["--auth=scram-sha-256", "-U", "tester", "--pwfile"]).arg(&password);
                command
            }
            Kind::MariaDb => {
                let mut command = self.as_user("mariadb-install-db");
                command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
                command.arg(format!("--datadir={}", data.display()));
                command
            }
        };
        let made = command.output().expect("it can be made");
        assert!(made.status.success(), "{command:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Starts the server, if there is one, and waits until it listens.
    pub fn run(&mut self) {
        let data = self.dir.path().join("data");
        let port = self.port.to_string();
        let mut command = match self.kind {
            Kind::Sqlite => {
                if !self.file().exists() {
                    let moved = self.dir.path().join("moved");
                    if moved.exists() {
                        std::fs::rename(moved, self.file()).expect("it can be moved back");
                    } else {
                        std::fs::write(self.file(), b"").expect("an empty database");
                    }
                }
                return;
            }
            Kind::Postgres => {
                let mut command = self.as_user("postgres");
                command.arg("-D").arg(&data).args(["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c"]);
                command.arg(format!("unix_socket_directories={}", self.dir.path().display()));
                command
            }
            Kind::MariaDb => {
                let init = self.dir.path().join("init.sql");
                let sql = format!(
                    "CREATE USER IF NOT EXISTS 'tester'@'%' IDENTIFIED BY '{PASSWORD}';\n\
                     GRANT ALL ON *.* TO 'tester'@'%';\nCREATE DATABASE IF NOT EXISTS tester;\n"
                );
                std::fs::write(&init, sql).expect("a file");
                let mut command = self.as_user("mariadbd");
                command.args(["--no-defaults", "--skip-name-resolve", "--bind-address=127.0.0.1", "--port", &port]);
                command.arg(format!("--datadir={}", data.display()));
                command.arg(format!("--socket={}", self.dir.path().join("socket").display()));
                command.arg(format!("--init-file={}", init.display()));
                command
            }
        };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = self.child.insert(child.expect("the server starts"));
        wait_for("the database listens", || {
            assert!(child.try_wait().expect("its status").is_none(), "the database ended at once");
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        wait_for("the database answers", || Session::try_open(self));
    }

    /// SIGKILL; of SQLite, the file is moved away.
    pub fn kill(&mut self) {
        if self.kind == Kind::Sqlite {
            return std::fs::rename(self.file(), self.dir.path().join("moved")).expect("it can be moved");
        }
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        // Children of PostgreSQL go by themselves a moment later; a new one does not start before.
        if self.kind == Kind::Postgres {
            wait_for("all of it is gone", || TcpStream::connect(("127.0.0.1", self.port)).is_err().then_some(()));
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("clock.db")
    }

    pub fn url(&self) -> String {
        match self.kind {
            Kind::Sqlite => format!("sqlite:{}", self.file().display()),
            Kind::Postgres => format!("postgres://tester:{PASSWORD}@127.0.0.1:{}/postgres", self.port),
            Kind::MariaDb => format!("mysql://tester:{PASSWORD}@127.0.0.1:{}/tester", self.port),
        }
    }

    pub fn session(&self) -> Session {
        Session::try_open(self).expect("the database lets us in")
    }

    /// Statements in a session of their own.
    pub fn run_sql(&self, sql: &str) {
        self.session().run(sql);
    }

    fn as_user(&self, name: &str) -> Command {
        let program = program(name).expect("it is installed");
        // They refuse to run as root; then they run as the user that Debian made for them.
        if std::fs::metadata("/proc/self").is_ok_and(|about| about.uid() != 0) {
            return Command::new(program);
        }
        let user = if self.kind == Kind::Postgres { "postgres" } else { "mysql" };
        let owned = Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(self.dir.path()).status();
        assert!(owned.expect("chown runs").success(), "the folder can be given to {user}");
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]).arg(program);
        command.current_dir("/");
        command
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- log of {:?} ---\n{log}", self.kind);
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Debian keeps PostgreSQL's programs off the path, in a folder a version.
fn program(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = folders.chain(std::env::split_paths(&path)).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder: PathBuf| folder.join(name)).find(|file: &PathBuf| Path::is_file(file))
}

/// A session, with a transaction if it begins one.
pub struct Session {
    runtime: tokio::runtime::Runtime,
    connection: Open,
}

enum Open {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl Session {
    fn try_open(database: &Database) -> Option<Session> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let url = database.url();
        let connection = runtime.block_on(async {
            Ok::<_, sqlx::Error>(match database.kind {
                Kind::Sqlite => Open::Sqlite(SqliteConnection::connect(&url).await?),
                Kind::Postgres => Open::Postgres(PgConnection::connect(&url).await?),
                Kind::MariaDb => Open::MySql(MySqlConnection::connect(&url).await?),
            })
        });
        Some(Session { runtime, connection: connection.ok()? })
    }

    /// Runs statements, parted by semicolons.
    pub fn run(&mut self, sql: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql));
        let done = self.runtime.block_on(async {
            match &mut self.connection {
                Open::Sqlite(connection) => connection.execute(statements).await.map(drop),
                Open::Postgres(connection) => connection.execute(statements).await.map(drop),
                Open::MySql(connection) => connection.execute(statements).await.map(drop),
            }
        });
        done.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }
}
