//! A node in a temporary folder, and requests to it.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, web};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::{
    Api, Forgetting, InHand, NodeState, NotVerified, RenderDecisions, Routes, Sinks, Sources, Streams, StreamsSetup,
    Verify, configure,
};
use crate::actors::{self, Horizon, Pauses, ShardSetup, Shards, Slice, Supervisor, Surroundings, Tag, Work};
use crate::backup::{Backups, Facts};
use crate::config::{self, Diagnostics};
use crate::ingress::{Admission, Again, Credits, Decoder, Gate, Receipts, Receiving, SourceMetrics};
use crate::journal::{Committed, Journal, JournalOptions, JournalReader, JournalWriter, spawn_writer};
use crate::metrics::{Metrics, TypeMetrics};
use crate::model::ids::{Lsn, PayloadHash};
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::rules::{self, Ruleset, Taken, Verdict};
use crate::store::{CheckpointWriter, Store, StoreOptions};
use crate::trust::{Scope, Tokens};

const CACHE_BYTES: usize = 1 << 20;
pub(super) const SEGMENT_BYTES: u64 = 1 << 30;

/// Orders that are confirmed and celebrated at once, and remarked on.
pub(super) const RULES: &str = r#"
[server]
ignore = ["Ping"]
[limits]
event_bytes_max = "1KiB"
http_body_bytes_max = "2MiB"
[entity.order]
key = "event.data.order"
[entity.order.fields]
note = { on = "Noted", take = "latest", value = "event.data.text" }
paid = { on = "Paid", take = "sum", value = "event.data.amount" }
[entity.order.derived]
rich = "order.paid > 100"
[entity.order.complete]
fields = ["note", "paid"]
[entity.order.decision.Confirmed]
when = "order.rich"
data = { paid = "order.paid" }
[entity.order.decision.Celebrated]
when = "order.rich"
[entity.order.decision.Remarked]
when = "has(order.note)"
data = { note = "order.note" }
[entity.customer]
key = "event.data.customer"
[entity.customer.fields]
orders = { on = "Ordered", take = "count" }
"#;

/// In what nodes differ.
pub(super) struct Options {
    pub tokens: &'static [(&'static str, &'static [Scope])],
    pub routes: Routes,
    pub segment_bytes: u64,
    /// Lines of `[limits]`.
    pub limits: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Options { tokens: &[], routes: Routes::All, segment_bytes: SEGMENT_BYTES, limits: "" }
    }
}

/// None may be made.
fn backups(store: &Store, journal: &JournalReader, data_dir: &std::path::Path) -> Backups {
    Backups {
        facts: Facts { store: store.clone(), journal: journal.clone(), server: "test".into() },
        root: None,
        data_dir: data_dir.to_owned(),
        disk_free_min: 0,
        is_under_way: Arc::default(),
        step_back: || {},
    }
}

/// Nothing is ever verified.
fn no_verify() -> Verify {
    Verify {
        begin: Arc::new(|_| Err(NotVerified::Busy)),
        against: Arc::new(|body| Ok(serde_json::json!({ "bytes": body.len() }))),
    }
}

fn around(store: &Store, metrics: &Arc<Metrics>, ruleset: &Arc<Ruleset>, pauses: &Arc<Pauses>) -> Surroundings {
    Surroundings {
        store: store.clone(),
        metrics: metrics.clone(),
        tracer: crate::telemetry::Tracer::default(),
        types: kinds(ruleset, metrics),
        ruleset: ruleset.clone(),
        pauses: pauses.clone(),
        entity_bytes_max: 1 << 20,
        decide,
        fatal: Arc::new(|error| panic!("{error}")),
    }
}

/// A node under test.
pub(super) struct Node {
    pub api: web::Data<Api>,
    routes: Routes,
    pub state: watch::Sender<NodeState>,
    committed: watch::Sender<Lsn>,
    slices: crossbeam_channel::Receiver<Slice>,
    pub journal: JournalWriter<Tag>,
    _dir: TempDir,
}

fn nothing_forgotten() -> Forgetting {
    Forgetting {
        asked: Arc::default(),
        doing: watch::channel(String::new()).1,
        pending: watch::channel(None).1,
        noting: Arc::default(),
    }
}

/// These tests ask for none.
fn no_replay() -> crate::admin::Replay {
    Arc::new(|_, _| Err(crate::admin::ReplayRefused::Busy))
}

impl Node {
    /// A node with room for all that is tested.
    pub fn start() -> Rc<Node> {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Rc<Node> {
        let Options { tokens, routes, segment_bytes, limits } = options;
        let (dir, metrics) = (tempfile::tempdir().unwrap(), Arc::new(Metrics::new()));
        let loaded = config::load_str(&RULES.replace("[limits]\n", &format!("[limits]\n{limits}\n")), &|_| None);
        let mut diagnostics = Diagnostics::default();
        let config = loaded.config.expect("the rules are right");
        let types = rules::compile(&config.entities, &loaded.files, &mut diagnostics).unwrap_or_default();
        let limits = config.tuning.limits;
        let ruleset = Arc::new(Ruleset::new(types, &config.server.ignore, limits.key_bytes_max as usize));
        let store = Store::open(dir.path(), StoreOptions { cache_bytes: CACHE_BYTES }).unwrap();
        let options = JournalOptions { segment_bytes, commit_bytes_max: 1_048_000, cache_bytes: CACHE_BYTES };
        let log = Journal::open(dir.path(), store.uuid(), options).unwrap();
        let reader = log.reader();

        let (committed, committed_told) = watch::channel(Lsn::ZERO);
        let (slice_sender, slices) = crossbeam_channel::bounded(1);
        let shards: Arc<OnceLock<Shards>> = Arc::default();
        let settle = Settle { shards: shards.clone(), committed: committed.clone() };
        let (writer, _) =
            spawn_writer(log, 64, move |committed| settle.commit(committed), |error| panic!("{error}")).unwrap();
        let pauses = Arc::new(Pauses::new(&ruleset));
        let around = around(&store, &metrics, &ruleset, &pauses);
        let journal = writer.clone();
        let horizon = Horizon::default();
        horizon.start();
        let setup = ShardSetup {
            index: 0,
            around,
            writer,
            slices: slice_sender,
            committed: Lsn::ZERO,
            live_max: 1000,
            idle: Duration::from_mins(5),
            recovered: HashMap::new(),
            handed_bytes: Arc::new(AtomicU64::new(0)),
            peers: shards.clone(),
            calls: Arc::new(|_| {}),
            horizon,
        };
        let supervisor = Supervisor::start_on(&actix::Arbiter::current(), setup);
        let all = shards.get_or_init(|| Shards::new(vec![supervisor])).clone();

        let to_shards = all.clone();
        let admission = Admission {
            ruleset: ruleset.clone(),
            credits: Credits::new(100_000, 1 << 30),
            receiving: Receiving::new(limits.receiving_bytes_max, limits.receiving_timeout),
            gate: Gate::default(),
            tracer: crate::telemetry::Tracer::default(),
            receipts: Receipts::default(),
            metrics: metrics.clone(),
            deliver: Arc::new(move |deliveries| {
                to_shards.deliver(deliveries.into_iter().map(|d| Work::Event {
                    taken: d.taken,
                    ticket: d.ticket,
                    trace: d.trace,
                }));
            }),
            sequences: HashMap::new(),
        };
        let admission = Arc::new(admission);
        let again = again(&admission, &limits);
        let (state, state_told) = watch::channel(NodeState::Ready);
        let streams = streams(&reader, &state_told, &metrics, &limits);
        actix_rt::spawn(streams.clone().follow(committed_told.clone(), watch::channel(String::new()).1));
        let api = Api {
            backups: backups(&store, &reader, dir.path()),
            server_name: "test".into(),
            admission,
            decoder: Decoder::new(None, limits.event_bytes_max as usize, limits.json_depth_max as usize),
            source: SourceMetrics::new(&metrics, config::HTTP_SOURCE),
            shards: all,
            pauses,
            store,
            journal: reader,
            ruleset,
            metrics,
            tokens: Tokens::new(tokens.iter().map(|(token, scopes)| (*token, scopes.iter().copied().collect()))),
            paths: Vec::new(),
            limits,
            committed: committed_told,
            state: state_told,
            fatal: Arc::new(|error| panic!("{error}")),
            render_decisions: render_decisions(),
            streams,
            sources: sources(),
            sinks: sinks(),
            again,
            in_hand: InHand::default(),
            replay: no_replay(),
            forgetting: nothing_forgotten(),
            verify: no_verify(),
            not_connected: Arc::new(|| vec!["bus".to_owned()]),
            status: Arc::new(|| serde_json::json!({ "sources": ["http"] })),
        };
        Rc::new(Node { api: web::Data::new(api), routes, journal, state, committed, slices, _dir: dir })
    }

    /// Takes the word of a commit that is still under way away, so that a request has to wait for it.
    pub fn forget_commits(&self) -> Lsn {
        self.committed.send_replace(Lsn::ZERO)
    }

    /// Tells of a commit.
    pub fn tell_commit(&self, lsn: Lsn) {
        self.committed.send_replace(lsn);
    }

    /// Stores every entity.
    pub async fn checkpoint(&self) {
        let changed = self.api.shards.take_changed(0).await.unwrap();
        assert!(!changed.is_empty());
        self.api.shards.begin_copying(0, changed);
        let mut writer = CheckpointWriter::new(self.api.store.clone());
        loop {
            self.api.shards.copy_slice(0, usize::MAX);
            let slices = self.slices.clone();
            let slice = web::block(move || slices.recv().unwrap()).await.unwrap();
            let rows = slice.writes.iter().map(actors::StoredCopy::of).collect();
            writer.write(slice.writes, slice.committed).unwrap();
            self.api.shards.stored(rows);
            if slice.is_last {
                return;
            }
        }
    }

    /// Answers a request.
    pub async fn answer(&self, request: TestRequest) -> Answer {
        let app = init_service(App::new().configure(configure(self.api.clone(), self.routes))).await;
        let response = call_service(&app, request.to_request()).await;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let headers = ["content-type", "retry-after", "www-authenticate", "allow"].map(header);
        let [kind, retry_after, authenticate, allow] = headers;
        let body = read_body(response).await.to_vec();
        Answer { status, kind, retry_after, authenticate, allow, body }
    }

    pub async fn get(&self, uri: &str) -> Answer {
        self.answer(TestRequest::get().uri(uri)).await
    }

    /// Posts one event or several lines.
    pub async fn post(&self, query: &str, body: impl Into<String>) -> Answer {
        self.answer(TestRequest::post().uri(&format!("/v1/events{query}")).set_payload(body.into())).await
    }
}

fn streams(
    journal: &JournalReader,
    state: &watch::Receiver<NodeState>,
    metrics: &Arc<Metrics>,
    limits: &config::Limits,
) -> Streams {
    Streams::new(StreamsSetup {
        journal: journal.clone(),
        render: render_decisions(),
        state: state.clone(),
        metrics: metrics.clone(),
        limits: limits.clone(),
        fatal: Arc::new(|error| panic!("{error}")),
    })
}

fn render_decisions() -> RenderDecisions {
    Arc::new(|lsn, record| {
        let names = record.decisions.iter().map(|decision| &decision.name);
        names.map(|name| format!(r#"{{"lsn":{lsn},"type":"{name}"}}"#).into_bytes()).collect()
    })
}

/// What a request was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub kind: Option<String>,
    pub retry_after: Option<String>,
    pub authenticate: Option<String>,
    pub allow: Option<String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The document, if the status is this.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.kind.as_deref(), Some("application/json"));
        self.json()
    }

    /// The problem document's detail, if it is a whole one with this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.kind.as_deref(), Some("application/problem+json"));
        let document = self.json();
        assert_eq!(document["type"], "about:blank");
        assert_eq!(document["status"], status);
        assert_eq!(document["code"], code, "{document}");
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()));
        document["detail"].as_str().unwrap().to_owned()
    }
}

/// The metrics of each type.
fn kinds(ruleset: &Ruleset, metrics: &Metrics) -> HashMap<Arc<str>, Arc<TypeMetrics>> {
    let of = |name: &Arc<str>| (name.clone(), metrics.entity_type(name, &["note", "paid"], &[], &[]));
    ruleset.types().iter().map(|rules| of(&rules.name)).collect()
}

/// Decides as the rules do, but for events called `panic`.
fn decide(state: &State, taken: Box<Taken>, prior: Option<PayloadHash>, now: Timestamp) -> Verdict {
    assert!(&*taken.input.event.id != "panic", "a rule went wrong");
    rules::decide(state, taken, prior, now)
}

fn again(admission: &Arc<Admission>, limits: &config::Limits) -> Again {
    let decoder = Decoder::new(None, limits.event_bytes_max as usize, limits.json_depth_max as usize);
    Again::new(admission.clone(), HashMap::from([("bus".to_owned(), decoder)]))
}

fn sources() -> Sources {
    Sources { listed: Arc::new(|| serde_json::json!([{ "name": "http", "kind": "http" }])), polled: HashMap::new() }
}

fn sinks() -> Sinks {
    let listed = Arc::new(|| serde_json::json!([{ "name": "hook", "kind": "webhook" }]));
    Sinks { listed, controls: HashMap::new() }
}

/// An event of type `Noted`.
pub(super) fn noted(id: &str, order: &str, text: &str) -> String {
    serde_json::json!({ "id": id, "type": "Noted", "time": "2026-11-20T10:00:00Z",
        "data": { "order": order, "text": text } })
    .to_string()
}

/// An event of type `Paid`.
pub(super) fn paid(id: &str, order: &str, amount: i64) -> String {
    serde_json::json!({ "id": id, "type": "Paid", "time": "2026-11-20T10:00:00Z",
        "data": { "order": order, "amount": amount } })
    .to_string()
}

/// What the journal's commits release.
struct Settle {
    shards: Arc<OnceLock<Shards>>,
    committed: watch::Sender<Lsn>,
}

impl Settle {
    fn commit(&self, committed: Committed<Tag>) {
        let shards = self.shards.get().expect("nothing is committed before the shard is there");
        let record = |(lsn, tag): (Lsn, Tag)| (lsn, tag.record);
        // Before anybody is answered, so that a test sees the position of what it was told of.
        self.committed.send_replace(committed.last_lsn);
        shards.committed(0, actors::Committed(committed.tags.into_iter().map(record).collect()));
    }
}
