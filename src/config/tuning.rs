//! Every limit and every default that does not change what data means, each stated here once.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::Entry;
use super::reader::{Context, Section};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The longest duration that any setting takes: ten years.
pub const DURATION_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// How long sealed segments are kept although nothing needs them any more, for history and replay.
pub const RETENTION_DEFAULT: Duration = Duration::from_hours(24);
/// Size at which a journal segment is sealed; a commit's cost grows with the file.
pub const SEGMENT_BYTES_DEFAULT: u64 = GIB;
/// Most bytes of records in one group commit.
pub const COMMIT_BYTES_MAX_DEFAULT: u64 = MIB;
/// Most entity actors that are live at once, over all shards.
pub const MAX_LIVE_DEFAULT: u64 = 200_000;
/// Time without input after which an entity actor is passivated.
pub const IDLE_DEFAULT: Duration = Duration::from_mins(5);
/// Journal written since the last checkpoint at which the next one starts.
pub const CHECKPOINT_JOURNAL_BYTES_DEFAULT: u64 = GIB;
/// Most bytes of states that are newer than the store has them; over it, nothing is admitted.
pub const DIRTY_BYTES_MAX_DEFAULT: u64 = 512 * MIB;
/// Largest event, as it is sent.
pub const EVENT_BYTES_MAX_DEFAULT: u64 = 4 * MIB;
/// Longest key, in UTF-8.
pub const KEY_BYTES_MAX_DEFAULT: u64 = KIB;
/// Largest state of one entity.
pub const ENTITY_BYTES_MAX_DEFAULT: u64 = 16 * MIB;
/// Deepest nesting of lists and objects in an event.
pub const JSON_DEPTH_MAX_DEFAULT: u64 = 64;
/// Most connections of one listener.
pub const CONNECTIONS_MAX_DEFAULT: u64 = 1024;
/// Most connections of one address to one listener; of IPv6, all of a /64 network count as one address.
pub const CONNECTIONS_PER_ADDRESS_MAX_DEFAULT: u64 = 256;
/// Longest time in which a TLS handshake may come to its end.
pub const HANDSHAKE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Longest time in which a connection may say who it is: its first line with the token, a request's headers.
pub const HELLO_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Time without a sign of life after which a TCP connection's other end is asked whether it is still there.
pub const KEEPALIVE_DEFAULT: Duration = Duration::from_mins(1);
/// Most lines of one connection that are read and not settled; over it, the connection is not read.
pub const CONNECTION_LINES_MAX_DEFAULT: u64 = 50_000;
/// Most bytes of refusals that one connection has not taken; over it, the connection is not read.
pub const REFUSAL_BYTES_MAX_DEFAULT: u64 = 256 * KIB;
/// Most bytes of long lines and bodies that are being received; over it, lines wait and requests are told to come back.
pub const RECEIVING_BYTES_MAX_DEFAULT: u64 = 256 * MIB;
/// Longest time in which a long line or a body may come.
pub const RECEIVING_TIMEOUT_DEFAULT: Duration = Duration::from_mins(2);
/// Most events that are admitted and not settled; over it, sources are not read.
pub const IN_FLIGHT_RECORDS_MAX_DEFAULT: u64 = 100_000;
/// Most bytes of events that are admitted and not settled; over it, sources are not read.
pub const IN_FLIGHT_BYTES_MAX_DEFAULT: u64 = 256 * MIB;
/// Free disk space under which nothing is admitted.
pub const DISK_FREE_MIN_DEFAULT: u64 = 512 * MIB;
/// Largest body of an HTTP request.
pub const HTTP_BODY_BYTES_MAX_DEFAULT: u64 = 64 * MIB;
/// Most events in one HTTP request.
pub const HTTP_EVENTS_MAX_DEFAULT: u64 = 100_000;
/// Largest answer to an effect's call that is kept; of a larger one, only that it was.
pub const EFFECT_RESPONSE_BYTES_MAX_DEFAULT: u64 = 64 * KIB;
/// Most live streams, over all connections.
pub const STREAMS_MAX_DEFAULT: u64 = 2_000;
/// Most subscriptions of one WebSocket.
pub const SOCKET_SUBSCRIPTIONS_MAX_DEFAULT: u64 = 64;
/// Longest time in which a client of HTTP may take nothing of what it is sent; then a stream says so and ends, and after as
/// long again the connection is closed.
pub const UNREAD_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// So many records a verification of a running server reads in a second.
pub const VERIFY_RECORDS_PER_SECOND_DEFAULT: u64 = 50_000;
/// Longest time an orderly stop may take; what is not done by then is left to recovery.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(10);

/// What deadlines of a connection's beginning may be.
const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(5);

/// All of it.
#[derive(Clone, Debug)]
pub struct Tuning {
    pub journal: Journal,
    pub actors: Actors,
    pub checkpoint: Checkpoint,
    pub limits: Limits,
    pub log: Log,
}

/// `[journal]`.
#[derive(Clone, Debug)]
pub struct Journal {
    /// See [`RETENTION_DEFAULT`]. Zero: segments go as soon as they may.
    pub retention: Duration,
    /// What the journal takes at most of what nobody needs any more; none: only the retention bounds it.
    pub retention_bytes: Option<u64>,
    /// See [`SEGMENT_BYTES_DEFAULT`].
    pub segment_bytes: u64,
    /// See [`COMMIT_BYTES_MAX_DEFAULT`]. One record may be larger; it is then committed alone.
    pub commit_bytes_max: u64,
}

/// `[actors]`.
#[derive(Clone, Debug)]
pub struct Actors {
    /// Actor threads; default: one a core.
    pub shards: u16,
    /// See [`MAX_LIVE_DEFAULT`].
    pub max_live: u64,
    /// See [`IDLE_DEFAULT`].
    pub idle: Duration,
}

/// `[checkpoint]`.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// See [`CHECKPOINT_JOURNAL_BYTES_DEFAULT`].
    pub journal_bytes: u64,
    /// See [`DIRTY_BYTES_MAX_DEFAULT`].
    pub dirty_bytes_max: u64,
}

/// `[limits]`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// See [`EVENT_BYTES_MAX_DEFAULT`].
    pub event_bytes_max: u64,
    /// See [`KEY_BYTES_MAX_DEFAULT`].
    pub key_bytes_max: u64,
    /// See [`ENTITY_BYTES_MAX_DEFAULT`].
    pub entity_bytes_max: u64,
    /// See [`JSON_DEPTH_MAX_DEFAULT`].
    pub json_depth_max: u64,
    /// See [`CONNECTIONS_MAX_DEFAULT`].
    pub connections_max: u64,
    /// See [`CONNECTIONS_PER_ADDRESS_MAX_DEFAULT`].
    pub connections_per_address_max: u64,
    /// See [`HANDSHAKE_TIMEOUT_DEFAULT`].
    pub handshake_timeout: Duration,
    /// See [`HELLO_TIMEOUT_DEFAULT`].
    pub hello_timeout: Duration,
    /// See [`KEEPALIVE_DEFAULT`].
    pub keepalive: Duration,
    /// See [`CONNECTION_LINES_MAX_DEFAULT`].
    pub connection_lines_max: u64,
    /// See [`REFUSAL_BYTES_MAX_DEFAULT`].
    pub refusal_bytes_max: u64,
    /// See [`RECEIVING_BYTES_MAX_DEFAULT`].
    pub receiving_bytes_max: u64,
    /// See [`RECEIVING_TIMEOUT_DEFAULT`].
    pub receiving_timeout: Duration,
    /// See [`IN_FLIGHT_RECORDS_MAX_DEFAULT`].
    pub in_flight_records_max: u64,
    /// See [`IN_FLIGHT_BYTES_MAX_DEFAULT`].
    pub in_flight_bytes_max: u64,
    /// See [`DISK_FREE_MIN_DEFAULT`].
    pub disk_free_min: u64,
    /// See [`HTTP_BODY_BYTES_MAX_DEFAULT`].
    pub http_body_bytes_max: u64,
    /// See [`HTTP_EVENTS_MAX_DEFAULT`].
    pub http_events_max: u64,
    /// See [`EFFECT_RESPONSE_BYTES_MAX_DEFAULT`].
    pub effect_response_bytes_max: u64,
    /// See [`STREAMS_MAX_DEFAULT`].
    pub streams_max: u64,
    /// See [`SOCKET_SUBSCRIPTIONS_MAX_DEFAULT`].
    pub socket_subscriptions_max: u64,
    /// See [`UNREAD_TIMEOUT_DEFAULT`].
    pub unread_timeout: Duration,
    /// See [`VERIFY_RECORDS_PER_SECOND_DEFAULT`].
    pub verify_records_per_second: u64,
    /// See [`DRAIN_DEFAULT`].
    pub drain: Duration,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// The least important lines that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The level's word, as configured.
    pub fn name(self) -> &'static str {
        super::entities::word(&LOG_LEVELS, &self)
    }
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

pub(super) const LOG_LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
pub(super) const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The tables of tuning as they stand in the file.
pub(super) struct TuningEntries {
    pub journal: Option<Entry>,
    pub actors: Option<Entry>,
    pub checkpoint: Option<Entry>,
    pub limits: Option<Entry>,
    pub log: Option<Entry>,
}

impl Tuning {
    pub(super) fn read(cx: &mut Context, entries: TuningEntries) -> Tuning {
        Tuning {
            journal: Journal::read(Section::open(cx, "journal", entries.journal)),
            actors: Actors::read(Section::open(cx, "actors", entries.actors)),
            checkpoint: Checkpoint::read(Section::open(cx, "checkpoint", entries.checkpoint)),
            limits: Limits::read(Section::open(cx, "limits", entries.limits)),
            log: Log::read(Section::open(cx, "log", entries.log)),
        }
    }
}

impl Journal {
    fn read(mut section: Section) -> Journal {
        let at = section.peek("commit_bytes_max").unwrap_or(section.at);
        let journal = Journal {
            retention: section.duration("retention", Duration::ZERO..=DURATION_MAX).unwrap_or(RETENTION_DEFAULT),
            retention_bytes: section.size("retention_bytes", MIB..=1024 * TIB),
            segment_bytes: section.size("segment_bytes", MIB..=TIB).unwrap_or(SEGMENT_BYTES_DEFAULT),
            commit_bytes_max: section.size("commit_bytes_max", 64 * KIB..=32 * MIB).unwrap_or(COMMIT_BYTES_MAX_DEFAULT),
        };
        if journal.commit_bytes_max > journal.segment_bytes {
            let message = "`commit_bytes_max` is larger than `segment_bytes`";
            section.cx.out.error(at, message).help("a commit goes into one segment; raise the one or lower the other");
        }
        section.finish();
        journal
    }
}

impl Actors {
    fn read(mut section: Section) -> Actors {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(256)) as u64;
        let actors = Actors {
            shards: section.integer("shards", 1..=256).unwrap_or(cores) as u16,
            max_live: section.integer("max_live", 1..=100_000_000).unwrap_or(MAX_LIVE_DEFAULT),
            idle: section.duration("idle", Duration::from_millis(1)..=DURATION_MAX).unwrap_or(IDLE_DEFAULT),
        };
        section.finish();
        actors
    }
}

impl Checkpoint {
    fn read(mut section: Section) -> Checkpoint {
        let checkpoint = Checkpoint {
            journal_bytes: section.size("journal_bytes", 64 * KIB..=TIB).unwrap_or(CHECKPOINT_JOURNAL_BYTES_DEFAULT),
            dirty_bytes_max: section.size("dirty_bytes_max", MIB..=TIB).unwrap_or(DIRTY_BYTES_MAX_DEFAULT),
        };
        section.finish();
        checkpoint
    }
}

impl Limits {
    fn read(mut section: Section) -> Limits {
        let larger = ["entity_bytes_max", "in_flight_bytes_max", "http_body_bytes_max"];
        let place = |name| section.peek(name);
        let event_at = place("event_bytes_max").unwrap_or(section.at);
        let places = larger.map(|name| place(name).unwrap_or(event_at));
        let receiving_at = place("receiving_bytes_max").or_else(|| place("http_body_bytes_max")).unwrap_or(section.at);
        let limits = Limits {
            event_bytes_max: section.size("event_bytes_max", KIB..=16 * MIB).unwrap_or(EVENT_BYTES_MAX_DEFAULT),
            key_bytes_max: section.size("key_bytes_max", 16..=16 * KIB).unwrap_or(KEY_BYTES_MAX_DEFAULT),
            entity_bytes_max: section.size("entity_bytes_max", KIB..=32 * MIB).unwrap_or(ENTITY_BYTES_MAX_DEFAULT),
            json_depth_max: section.integer("json_depth_max", 2..=128).unwrap_or(JSON_DEPTH_MAX_DEFAULT),
            connections_max: section.integer("connections_max", 1..=65_536).unwrap_or(CONNECTIONS_MAX_DEFAULT),
            connections_per_address_max: section
                .integer("connections_per_address_max", 1..=65_536)
                .unwrap_or(CONNECTIONS_PER_ADDRESS_MAX_DEFAULT),
            handshake_timeout: section.duration("handshake_timeout", DEADLINES).unwrap_or(HANDSHAKE_TIMEOUT_DEFAULT),
            hello_timeout: section.duration("hello_timeout", DEADLINES).unwrap_or(HELLO_TIMEOUT_DEFAULT),
            keepalive: section
                .duration("keepalive", Duration::from_secs(1)..=Duration::from_hours(8))
                .unwrap_or(KEEPALIVE_DEFAULT),
            connection_lines_max: section
                .integer("connection_lines_max", 256..=10_000_000)
                .unwrap_or(CONNECTION_LINES_MAX_DEFAULT),
            refusal_bytes_max: section.size("refusal_bytes_max", KIB..=GIB).unwrap_or(REFUSAL_BYTES_MAX_DEFAULT),
            receiving_bytes_max: section.size("receiving_bytes_max", MIB..=TIB).unwrap_or(RECEIVING_BYTES_MAX_DEFAULT),
            receiving_timeout: section
                .duration("receiving_timeout", Duration::from_millis(100)..=Duration::from_hours(1))
                .unwrap_or(RECEIVING_TIMEOUT_DEFAULT),
            in_flight_records_max: section
                .integer("in_flight_records_max", 64..=10_000_000)
                .unwrap_or(IN_FLIGHT_RECORDS_MAX_DEFAULT),
            in_flight_bytes_max: section.size("in_flight_bytes_max", MIB..=TIB).unwrap_or(IN_FLIGHT_BYTES_MAX_DEFAULT),
            disk_free_min: section.size("disk_free_min", 0..=1024 * TIB).unwrap_or(DISK_FREE_MIN_DEFAULT),
            http_body_bytes_max: section.size("http_body_bytes_max", KIB..=GIB).unwrap_or(HTTP_BODY_BYTES_MAX_DEFAULT),
            http_events_max: section.integer("http_events_max", 1..=10_000_000).unwrap_or(HTTP_EVENTS_MAX_DEFAULT),
            effect_response_bytes_max: section
                .size("effect_response_bytes_max", KIB..=4 * MIB)
                .unwrap_or(EFFECT_RESPONSE_BYTES_MAX_DEFAULT),
            streams_max: section.integer("streams_max", 0..=1_000_000).unwrap_or(STREAMS_MAX_DEFAULT),
            socket_subscriptions_max: section
                .integer("socket_subscriptions_max", 1..=10_000)
                .unwrap_or(SOCKET_SUBSCRIPTIONS_MAX_DEFAULT),
            unread_timeout: section
                .duration("unread_timeout", Duration::from_millis(100)..=Duration::from_hours(1))
                .unwrap_or(UNREAD_TIMEOUT_DEFAULT),
            verify_records_per_second: section
                .integer("verify_records_per_second", 1..=100_000_000)
                .unwrap_or(VERIFY_RECORDS_PER_SECOND_DEFAULT),
            drain: section
                .duration("drain", Duration::from_millis(100)..=Duration::from_hours(1))
                .unwrap_or(DRAIN_DEFAULT),
        };
        let values = [limits.entity_bytes_max, limits.in_flight_bytes_max, limits.http_body_bytes_max];
        for ((name, at), value) in larger.into_iter().zip(places).zip(values) {
            if value < limits.event_bytes_max {
                let message = format!("`{name}` is smaller than `event_bytes_max`");
                section.cx.out.error(at, message).help("the largest event must fit; raise the one or lower the other");
            }
        }
        if limits.receiving_bytes_max < limits.http_body_bytes_max {
            let message = "`receiving_bytes_max` is smaller than `http_body_bytes_max`";
            section
                .cx
                .out
                .error(receiving_at, message)
                .help("the largest body must fit; raise the one or lower the other");
        }
        section.finish();
        limits
    }
}

impl Log {
    fn read(mut section: Section) -> Log {
        let log = Log {
            level: section.choice("level", &LOG_LEVELS).map_or(LogLevel::Info, |level| level.value),
            format: section.choice("format", &LOG_FORMATS).map_or(LogFormat::Text, |format| format.value),
        };
        section.finish();
        log
    }
}
