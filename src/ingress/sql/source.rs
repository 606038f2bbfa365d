//! The source's own task: asks for page after page, has each settled while the next one is read, and waits in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntGauge;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::control::{Rewind, Shown, SqlControl};
use super::database::{Connection, connect};
use super::position::Position;
use super::reading::{Ask, Next, Reading};
use super::rows::{Page, Shape};
use super::seen::{RowHash, Seen};
use super::settle::{Ending, Ledger, Settling};
use super::trouble::Trouble;
use crate::config::{Database, SqlSource};
use crate::ingress::admission::{Admission, SourceMetrics};
use crate::ingress::decode::Decoder;
use crate::ingress::listener::Phase;
use crate::ingress::tcp::draining;
use crate::model::system::SystemState;
use crate::model::time::Timestamp;

/// Pauses before it is tried again, the first and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// What a source is started with.
pub struct SqlSetup {
    pub name: String,
    pub source: SqlSource,
    pub admission: Arc<Admission>,
    pub decoder: Decoder,
    pub ledger: Ledger,
    pub phase: watch::Receiver<Phase>,
}

/// The source: its task, which ends when the node drains, and what others may do with it.
pub fn sql_source(setup: SqlSetup) -> (impl Future<Output = ()> + Send + use<>, SqlControl) {
    let growth = setup.source.growth;
    let start = Position::start(growth);
    let shown =
        watch::Sender::new(Shown { cursor: start, trouble: Some("not connected yet".to_owned()), caught_up: None });
    let (sender, rewinds) = mpsc::channel(1);
    let control = SqlControl { name: setup.name.clone(), growth, shown: shown.subscribe(), rewinds: sender };
    let metrics = &setup.admission.metrics;
    let (up, caught_up) = (
        metrics.sources.up.with_label_values(&[&setup.name]),
        metrics.sources.caught_up.with_label_values(&[&setup.name]),
    );
    let shape = Shape {
        cursor: setup.source.cursor.clone(),
        growth,
        needed: setup.decoder.columns(),
        json_depth_max: setup.decoder.depth_max(),
    };
    let settling = Settling {
        metrics: SourceMetrics::new(metrics, &setup.name),
        name: setup.name,
        admission: setup.admission,
        decoder: setup.decoder,
        ledger: setup.ledger,
    };
    let polling = Polling {
        reading: Reading::new(growth, setup.source.limit, start),
        link: Link { source: setup.source, shape: Arc::new(shape), connection: None },
        settling: Arc::new(settling),
        under_way: None,
        seen: Seen::default(),
        shown,
        up,
        caught_up,
        retry: RETRY_FIRST,
    };
    (polling.run(setup.phase, rewinds), control)
}

struct Polling {
    reading: Reading,
    link: Link,
    settling: Arc<Settling>,
    under_way: Option<UnderWay>,
    seen: Seen,
    shown: watch::Sender<Shown>,
    up: IntGauge,
    caught_up: IntGauge,
    retry: Duration,
}

/// A page that is being settled.
struct UnderWay {
    settling: JoinHandle<Result<Vec<RowHash>, Ending>>,
    /// The cursor after it.
    cursor: Position,
}

/// The way to the database.
struct Link {
    source: SqlSource,
    shape: Arc<Shape>,
    connection: Option<Box<dyn Connection>>,
}

impl Link {
    /// Asks the query. The connection is kept only if all went well: it is of no use after an error, nor if this is given up.
    async fn page(&mut self, ask: Ask) -> Result<Page, Trouble> {
        if let Some(mut kept) = self.connection.take() {
            match kept.page(ask).await {
                Ok(page) => {
                    self.connection = Some(kept);
                    return Ok(page);
                }
                Err(slow @ Trouble::Slow(_)) => return Err(slow),
                // It may be the connection that is bad, or what was prepared on it before the table was changed.
                Err(_) => {}
            }
        }
        let mut connection = connect(&self.source, &self.shape).await?;
        let page = connection.page(ask).await?;
        self.connection = Some(connection);
        Ok(page)
    }
}

impl Polling {
    async fn run(mut self, mut phase: watch::Receiver<Phase>, mut rewinds: mpsc::Receiver<Rewind>) {
        self.resume().await;
        loop {
            let ask = self.reading.ask(Instant::now());
            let page = tokio::select! {
                biased;
                () = draining(&mut phase) => break,
                Some(rewind) = rewinds.recv() => {
                    if self.rewind(rewind).await.is_err() { break }
                    continue;
                }
                page = self.link.page(ask) => page,
            };
            let pause = match self.take(page).await {
                Ok(None) => continue,
                Ok(Some(pause)) => pause,
                Err(Ending) => break,
            };
            tokio::select! {
                biased;
                () = draining(&mut phase) => break,
                Some(rewind) = rewinds.recv() => if self.rewind(rewind).await.is_err() { break },
                () = tokio::time::sleep(pause) => {}
            }
        }
        let _ = self.settled().await;
    }

    /// Goes on where the journal says.
    async fn resume(&mut self) {
        let stored = (self.settling.ledger.read)(self.settling.entity()).await;
        let Some(SystemState::Cursor(cursor)) = stored else { return };
        match Position::of(&cursor.position.unpack(), self.link.source.growth) {
            Ok(cursor) => self.go_on_from(cursor),
            Err(is) => tracing::warn!(
                source = %self.settling.name,
                "the cursor that was noted is {is}, so it is not of the column `{}`: reading begins at `start`, and what \
                 was read before counts as duplicates",
                self.link.source.cursor
            ),
        }
    }

    fn go_on_from(&mut self, cursor: Position) {
        self.reading = Reading::new(self.link.source.growth, self.link.source.limit, cursor);
        self.shown.send_modify(|shown| shown.cursor = cursor);
    }

    /// Takes what came of asking; returns how long to wait, if at all.
    async fn take(&mut self, page: Result<Page, Trouble>) -> Result<Option<Duration>, Ending> {
        let next = match page {
            Ok(page) => {
                // The rows of two pages may be the same; those of the first must be known by then.
                self.settled().await?;
                let before = self.reading.cursor();
                let next = self.reading.read(page.answer, Instant::now());
                self.begin_settling(page, before);
                if next != Next::Stuck {
                    self.is_well(before);
                }
                next
            }
            Err(trouble) => return Ok(Some(self.is_unwell(&trouble))),
        };
        match next {
            Next::More => Ok(None),
            Next::CaughtUp => {
                self.settled().await?;
                let now = Timestamp::now();
                self.caught_up.set(now.millis() / 1000);
                self.shown.send_modify(|shown| shown.caught_up = Some(now));
                if matches!(self.link.source.database, Database::Sqlite(_)) {
                    // So that the file can be replaced.
                    self.link.connection = None;
                }
                Ok(Some(self.link.source.every))
            }
            Next::Stuck => {
                let name = &self.link.source.cursor;
                let why = format!("too many have one value of `{name}` to be read as one page: choose a finer column");
                Ok(Some(self.is_unwell(&Trouble::Rows(why))))
            }
        }
    }

    fn begin_settling(&mut self, page: Page, before: Position) {
        let cursor = self.reading.cursor();
        let moved = cursor.is_after(&before).then_some(cursor);
        let mut rows = page.rows;
        rows.retain(|row| !self.seen.has(&row.hash));
        if rows.is_empty() && moved.is_none() {
            return;
        }
        let settling = self.settling.clone();
        let settling = tokio::spawn(async move { settling.settle(rows, moved).await });
        self.under_way = Some(UnderWay { settling, cursor });
    }

    /// Waits for the page that is under way.
    async fn settled(&mut self) -> Result<(), Ending> {
        let Some(UnderWay { settling, cursor }) = self.under_way.take() else { return Ok(()) };
        let hashes = match settling.await {
            Ok(hashes) => hashes?,
            // A bug that must not be passed over: nothing more is read, so that no row is lost.
            Err(error) => {
                tracing::error!(source = %self.settling.name, %error, "the source ends here until the next start");
                self.up.set(0);
                return Err(Ending);
            }
        };
        for hash in hashes {
            self.seen.add(hash);
        }
        self.shown.send_modify(|shown| shown.cursor = cursor);
        Ok(())
    }

    async fn rewind(&mut self, Rewind { to, done }: Rewind) -> Result<(), Ending> {
        self.settled().await?;
        self.settling.note_cursor(to).await?;
        tracing::info!(source = %self.settling.name, "set back to {to}: what comes after it is read again");
        self.seen = Seen::default();
        self.go_on_from(to);
        let _ = done.send(());
        Ok(())
    }

    fn is_well(&mut self, after: Position) {
        self.retry = RETRY_FIRST;
        self.up.set(1);
        if self.shown.borrow().trouble.is_some() {
            tracing::info!(source = %self.settling.name, "rows are read, after {after}");
            self.shown.send_modify(|shown| shown.trouble = None);
        }
    }

    /// Tells of trouble, once while it stays the same; returns how long to wait.
    fn is_unwell(&mut self, trouble: &Trouble) -> Duration {
        self.link.connection = None;
        self.up.set(0);
        let told = trouble.to_string();
        if self.shown.borrow().trouble.as_ref() != Some(&told) {
            let source = &self.settling.name;
            if trouble.needs_mending() {
                tracing::error!(%source, "{told}. It is tried again until it is mended; no row is passed over");
            } else {
                tracing::warn!(%source, "{told}. It is tried again; no row is passed over");
            }
            self.shown.send_modify(|shown| shown.trouble = Some(told));
        }
        let pause = self.retry;
        self.retry = (self.retry * 2).min(RETRY_LONGEST);
        pause
    }
}
