//! Speed of what every event goes through: decoding, admission, deciding, storing. An order event of about 270 bytes and
//! the shipped rules; each figure is for one event, except the commit's, which is for a block of a thousand records.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use turnstile::config;
use turnstile::ingress::Decoder;
use turnstile::journal::{BlockBuilder, Journal, JournalOptions};
use turnstile::model::event::Event;
use turnstile::model::record::Record;
use turnstile::model::state::State;
use turnstile::model::time::Timestamp;
use turnstile::node;
use turnstile::rules::{EntityRules, Ruleset, Taken, Verdict, decide, evolve, matches};

/// Records of the block that is committed.
const COMMIT_RECORDS: u64 = 1_000;

const PAYMENT: &[u8] = br#"{"specversion":"1.0","id":"pay-000001","source":"payments","type":"PaymentProcessed",
"time":"2026-11-20T10:00:03.250Z","subject":"order-000001","data":{"orderId":"order-000001","status":"successful",
"amount":49.9,"currency":"EUR","method":"card","reference":"8f14e45f"}}"#;
const STOCK: &[u8] = br#"{"specversion":"1.0","id":"res-000001","source":"warehouse","type":"InventoryReserved",
"time":"2026-11-20T10:00:01Z","subject":"order-000001","data":{"orderId":"order-000001","warehouseId":"west",
"reservedItems":["SKU-1","SKU-4"]}}"#;
const CONFIRMABLE: &str =
    "order.decidable && order.payment.status == 'successful' && size(order.stock.reservedItems) > 0";

/// The shipped rules, and orders before and after their payment.
struct Orders {
    ruleset: Arc<Ruleset>,
    decoder: Decoder,
    now: Timestamp,
}

impl Orders {
    fn new() -> Self {
        let mut loaded = config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml"));
        let config = loaded.config.expect("the shipped configuration is right");
        let prepared = node::prepare(&config, &loaded.files, &mut loaded.diagnostics).expect("and so are its rules");
        let limits = &config.tuning.limits;
        let decoder = Decoder::new(None, limits.event_bytes_max as usize, limits.json_depth_max as usize);
        Orders { ruleset: prepared.ruleset, decoder, now: Timestamp::now() }
    }

    fn rules(&self) -> &EntityRules {
        self.ruleset.get("order").expect("the shipped rules have orders")
    }

    fn event(&self, json: &[u8]) -> Event {
        self.decoder.decode(json, self.now).expect("it is an event")
    }

    fn taken(&self, event: &Event) -> Box<Taken> {
        self.ruleset.admit(event).expect("orders take it").pop().expect("one type takes it")
    }

    fn decided(&self, state: &State, json: &[u8]) -> Record {
        match decide(state, self.taken(&self.event(json)), None, self.now) {
            Verdict::Record(decided) => decided.record,
            verdict => panic!("it counts: {verdict:?}"),
        }
    }

    /// An order that heard of `events`.
    fn order(&self, events: &[&[u8]]) -> State {
        let mut state = State::default();
        for json in events {
            let record = self.decided(&state, json);
            evolve(&mut state, &record);
        }
        state
    }
}

fn event(c: &mut Criterion) {
    let orders = Orders::new();
    let mut group = c.benchmark_group("event");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |b| b.iter(|| orders.event(black_box(PAYMENT))));
    let payment = orders.event(PAYMENT);
    group.bench_function("admit", |b| b.iter(|| orders.taken(black_box(&payment))));
    let reserved = orders.order(&[STOCK]);
    group.bench_function("admit, decide and evolve", |b| {
        b.iter_batched_ref(
            || reserved.clone(),
            |state| {
                let Verdict::Record(decided) = decide(state, orders.taken(&payment), None, orders.now) else {
                    panic!("it counts")
                };
                evolve(state, &decided.record);
            },
            criterion::BatchSize::SmallInput,
        );
    });
    let record = orders.decided(&reserved, PAYMENT);
    group.bench_function("encode its record", |b| b.iter(|| black_box(&record).encode()));
    group.finish();
}

fn state(c: &mut Criterion) {
    let orders = Orders::new();
    let paid = orders.order(&[STOCK, PAYMENT]);
    let bytes = paid.encode();
    let mut group = c.benchmark_group("state");
    group.bench_function("encode", |b| b.iter(|| black_box(&paid).encode()));
    group.bench_function("decode", |b| b.iter(|| State::decode(black_box(&bytes)).expect("it was encoded above")));
    let condition = orders.rules().compile_filter(CONFIRMABLE).expect("it is CEL");
    group.bench_function("expression of three clauses", |b| {
        b.iter(|| assert!(matches(orders.rules(), "order-000001", black_box(&paid), &condition)));
    });
    group.finish();
}

fn journal(c: &mut Criterion) {
    let orders = Orders::new();
    let record = orders.decided(&orders.order(&[STOCK]), PAYMENT).encode();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = JournalOptions { segment_bytes: 1 << 30, commit_bytes_max: 1 << 20, cache_bytes: 16 << 20 };
    let mut journal = Journal::open(folder.path(), uuid::Uuid::new_v4(), options).expect("a new journal");
    let mut group = c.benchmark_group("journal");
    group.throughput(Throughput::Elements(COMMIT_RECORDS));
    group.bench_function("commit a block", |b| {
        b.iter(|| {
            let mut block = BlockBuilder::with_capacity(record.len() * COMMIT_RECORDS as usize);
            (0..COMMIT_RECORDS).for_each(|_| block.push(&record, true));
            journal.append(&mut [block]).expect("the disk takes it")
        });
    });
    group.finish();
}

criterion_group!(benches, event, state, journal);
criterion_main!(benches);
