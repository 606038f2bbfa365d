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

use super::super::{Api, Forgetting, NodeState, Routes, Sources, configure};
use crate::actors::{self, Horizon, ShardSetup, Shards, Slice, Supervisor, Surroundings, Tag, Work};
use crate::config::{self, Diagnostics};
use crate::ingress::{Admission, Credits, Decoder, Gate, Receiving, SourceMetrics};
use crate::journal::{Committed, Journal, JournalOptions, JournalWriter, spawn_writer};
use crate::metrics::Metrics;
use crate::model::ids::{EntityKey, Lsn};
use crate::rules::{self, Ruleset};
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
}

impl Default for Options {
    fn default() -> Self {
        Options { tokens: &[], routes: Routes::All, segment_bytes: SEGMENT_BYTES }
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

impl Node {
    /// A node with room for all that is tested.
    pub fn start() -> Rc<Node> {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Rc<Node> {
        let Options { tokens, routes, segment_bytes } = options;
        let dir = tempfile::tempdir().unwrap();
        let loaded = config::load_str(RULES, &|_| None);
        let mut diagnostics = Diagnostics::default();
        let config = loaded.config.expect("the rules are right");
        let types = rules::compile(&config.entities, &loaded.files, &mut diagnostics).unwrap_or_default();
        let limits = config.tuning.limits;
        let ruleset = Arc::new(Ruleset::new(types, &config.server.ignore, limits.key_bytes_max as usize));
        let metrics = Arc::new(Metrics::new());
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
        let kinds: HashMap<_, _> = ruleset
            .types()
            .iter()
            .map(|rules| (rules.name.clone(), metrics.entity_type(&rules.name, &["note", "paid"], &[], &[])))
            .collect();
        let around = Surroundings {
            store: store.clone(),
            metrics: metrics.clone(),
            tracer: crate::telemetry::Tracer::default(),
            types: kinds,
            ruleset: ruleset.clone(),
            entity_bytes_max: 1 << 20,
            decide: |state, taken, prior, now| {
                assert!(&*taken.input.event.id != "panic", "a rule went wrong");
                rules::decide(state, taken, prior, now)
            },
            fatal: Arc::new(|error| panic!("{error}")),
        };
        let journal = writer.clone();
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
            horizon: Horizon::default(),
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
        let (state, state_told) = watch::channel(NodeState::Ready);
        let api = Api {
            server_name: "test".into(),
            admission: Arc::new(admission),
            decoder: Decoder::new(None, limits.event_bytes_max as usize, limits.json_depth_max as usize),
            source: SourceMetrics::new(&metrics, config::HTTP_SOURCE),
            shards: all,
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
            render_decisions: Arc::new(|lsn, record| {
                let names = record.decisions.iter().map(|decision| &decision.name);
                names.map(|name| format!(r#"{{"lsn":{lsn},"type":"{name}"}}"#).into_bytes()).collect()
            }),
            sources: Sources {
                listed: Arc::new(|| serde_json::json!([{ "name": "http", "kind": "http" }])),
                polled: HashMap::new(),
            },
            verify: crate::admin::Verify {
                begin: Arc::new(|_| Err(crate::admin::NotVerified::Busy)),
                against: Arc::new(|body| Ok(serde_json::json!({ "bytes": body.len() }))),
            },
            forgetting: Forgetting { asked: Arc::default(), doing: watch::channel(String::new()).1 },
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
            let row = |write: &crate::store::EntityWrite| {
                let key: EntityKey = write.entity.clone();
                (key, write.row.version, write.identities.last().map(|(id, _)| *id))
            };
            let rows = slice.writes.iter().map(row).collect();
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
