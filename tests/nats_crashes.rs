//! The source `nats` while NATS or Turnstile is killed: what was acknowledged is durable, and every event counts once.
//! Skipped, and said so, where there is no server to be had.

mod common;

use common::bus::{Bus, STREAM, check_orders, letters, orders, setup, shown, source};
use common::nats::Nats;
use common::totals::{RULES, priced};
use common::{Setup, wait_for};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

/// If this failed, a crash of either side, or a message that comes again, late or out of order, would lose or double an
/// event.
#[test]
fn each_event_counts_once_whoever_crashes() {
    if let Some(nats) = Nats::start("") {
        each_event_counts_once(nats);
    }
}

/// As above, with a server that people have had for years.
#[test]
fn each_event_counts_once_with_an_old_server() {
    if let Some(nats) = Nats::start_debians() {
        each_event_counts_once(nats);
    }
}

fn each_event_counts_once(mut nats: Nats) {
    let bus = Bus::new(&nats);
    bus.make_stream();
    bus.make_consumer();
    let mut server = setup(&nats, STREAM).start();
    let orders = orders(100);
    let mut events: Vec<Value> = (1..=20).flat_map(|n| orders.iter().map(move |order| priced(order, n))).collect();
    events = [events.clone(), events.clone(), events].concat();
    events.shuffle(&mut StdRng::seed_from_u64(7));
    for (round, events) in events.chunks(1000).enumerate() {
        bus.publish_events(events);
        match round % 3 {
            0 => server.restart(),
            1 => {
                nats.kill();
                nats.run();
            }
            _ => {
                nats.kill();
                assert_eq!(server.terminate().code(), Some(0));
                nats.run();
                server.start();
            }
        }
    }
    bus.drained();
    check_orders(&server, &orders, 20);
    wait_for("it sees that nothing is left", || (shown(&server)["lag"] == 0).then_some(()));
    assert!(letters(&server, 0).is_empty());
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

/// If this failed, an acknowledgement would promise what is not there yet, and NATS would have forgotten the message.
#[test]
fn what_is_acknowledged_is_durable() {
    let Some(nats) = Nats::start("") else { return };
    let bus = Bus::new(&nats);
    bus.make_stream();
    bus.make_consumer();
    let orders = orders(100);
    let events: Vec<Value> = (1..=100).flat_map(|n| orders.iter().map(move |order| priced(order, n))).collect();
    bus.publish_events(&events);
    let mut server = setup(&nats, STREAM).write();
    let (with_source, without) = (setup(&nats, STREAM).text(), Setup::new(RULES).text());
    for share in [1, 3, 5] {
        let enough = events.len() as u64 * share / 10;
        server.rewrite(&with_source);
        server.start();
        let acknowledged = || {
            let info = bus.consumer();
            events.len() as u64 - info.num_pending - info.num_ack_pending as u64
        };
        wait_for("some are acknowledged", || (acknowledged() > enough).then_some(()));
        server.kill();
        let acknowledged = acknowledged();
        server.rewrite(&without);
        server.start();
        let counted: u64 = server.entities("order", 1000).iter().filter_map(|order| order["events"].as_u64()).sum();
        assert!(counted >= acknowledged, "{acknowledged} are acknowledged, {counted} are there");
        server.kill();
    }
    server.rewrite(&with_source);
    server.start();
    bus.drained();
    check_orders(&server, &orders, 100);
}

/// If this failed, decisions could not travel: the second would have another opinion of the orders than the first.
#[test]
fn a_second_turnstile_ends_where_the_decisions_of_the_first_say() {
    const MIRROR: &str = "
[entity.mirror]
key = \"event.subject\"
[entity.mirror.fields]
total = { on = \"Total\", take = \"latest\", value = \"event.decisionstate == 'withdrawn' ? null : event.data.total\" }
revisions = { on = \"Total\", take = \"count\" }
";
    let Some(mut nats) = Nats::start("") else { return };
    let bus = Bus::new(&nats);
    bus.make_stream();
    bus.make_consumer();
    let sink = format!(
        "[sink.bus]\nkind = \"nats\"\nservers = \"{}\"\nsubject = \"orders.{{decision}}.{{key}}\"\ntypes = [\"Total\"]\n",
        nats.url()
    );
    let mut first = Setup::new(RULES).tables(&sink).start();
    let mut second = Setup::new(MIRROR).tables(&source(&nats, STREAM)).start();
    let orders = orders(50);
    for round in 0..3 {
        common::totals::feed_revisions(&first, &orders, round * 5 + 1..round * 5 + 6);
        match round {
            0 => first.restart(),
            1 => second.restart(),
            _ => {
                nats.kill();
                nats.run();
            }
        }
    }
    wait_for("every revision is there", || (bus.consumer().delivered.stream_sequence >= 750).then_some(()));
    bus.drained();
    for order in &orders {
        let decided = first.entity("order", order)["decisions"]["Total"].clone();
        assert_eq!(decided["revision"], json!(15));
        let fields = second.entity("mirror", order)["fields"].clone();
        assert_eq!(fields, json!({"total": decided["data"]["total"], "revisions": 15}), "{order}");
    }
}
