//! `[entity.*]`: the declaration of entity types, which gives stored data its meaning. What is changed here changes what
//! the stored states would have become; [`EntityType::fingerprint_text`] is how that is noticed.

use std::fmt;
use std::time::Duration;

use super::diagnostics::{Expr, Located, Location};

/// What a field takes from an event when it does not say.
pub const VALUE_DEFAULT: &str = "event.data";
/// What orders the values of `first`, `latest` and `list` when the field does not say.
pub const ORDER_BY_DEFAULT: &str = "event.time";
/// When a decision or a call that does not say is made.
pub const WHEN_DEFAULT: &str = "true";
/// Most names in `complete.fields`; presence is kept as one bit each.
pub const COMPLETE_FIELDS_MAX: usize = 64;
/// Most values that a `list` may be told to keep.
pub const KEEP_MAX: u64 = 1_000_000;
/// How much later an `at` that has passed already is noticed, when the deadline does not say.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// How long a call may take when the effect does not say.
pub const EFFECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How many calls of an effect are under way when it does not say.
pub const EFFECT_CONCURRENCY_DEFAULT: u32 = 8;
/// Most lists and tables inside each other in the `json` of a request.
pub const REQUEST_JSON_DEPTH_MAX: usize = 32;
/// How calls are tried again when the effect does not say.
pub const RETRY_DEFAULT: Retry =
    Retry { attempts: 10, backoff_min: Duration::from_secs(1), backoff_max: Duration::from_mins(5) };

/// One entity type.
#[derive(Clone, Debug)]
pub struct EntityType {
    pub name: Located<String>,
    pub key: KeyRule,
    /// Overrides the identity of events.
    pub id: Option<Expr>,
    /// Overrides the time of events.
    pub time: Option<Expr>,
    /// `if`: which events it takes at all.
    pub condition: Option<Expr>,
    /// How long identities are remembered; none: as long as the entity.
    pub dedupe: Option<Duration>,
    /// When it is given up; none: never.
    pub expire: Option<Expire>,
    pub duplicates: Duplicates,
    /// Refuses events to which the sender gave no time.
    pub require_time: bool,
    pub fields: Vec<Field>,
    pub derived: Vec<(Located<String>, Expr)>,
    /// Names of fields and derived values whose presence makes up the completeness.
    pub complete: Vec<Located<String>>,
    pub references: Vec<Reference>,
    pub deadlines: Vec<Deadline>,
    pub effects: Vec<Effect>,
    pub decisions: Vec<Decision>,
}

/// When an entity is given up.
#[derive(Clone, Debug)]
pub struct Expire {
    pub after: Duration,
    /// After this decision, while it stands; none: after the last event.
    pub decision: Option<Located<String>>,
}

/// Which entity an event is about.
#[derive(Clone, Debug)]
pub enum KeyRule {
    Expr(Expr),
    /// By event type; the most specific glob comes first, so that the first that matches is the one that counts.
    ByType(Vec<(Located<String>, Expr)>),
}

/// What an identity with another payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// A conflict, refused.
    Strict,
    /// A plain duplicate.
    Lenient,
}

/// A merged value.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: Located<String>,
    /// Globs of event types; at least one.
    pub on: Vec<Located<String>>,
    pub take: Take,
    pub value: Option<Expr>,
    pub order_by: Option<Expr>,
    /// `if`: which of these events it takes.
    pub condition: Option<Expr>,
    /// Makes the field a map with one merged value for each value of this.
    pub by: Option<Expr>,
    /// How many of the newest values a list keeps.
    pub keep: Option<u32>,
}

/// The merge operator of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    First,
    Latest,
    Min,
    Max,
    Sum,
    Count,
    Set,
    List,
}

/// Something the rules conclude.
#[derive(Clone, Debug)]
pub struct Decision {
    pub name: Located<String>,
    pub when: Option<Expr>,
    pub data: Data,
    pub policy: Policy,
    /// One decision for each element of this list (or name in this map).
    pub by: Option<Expr>,
    /// It is made when nothing has come for the key for so long.
    pub settle: Option<Duration>,
    /// Names of sinks; none: all.
    pub to: Option<Vec<String>>,
    /// Whether it comes back to the entity as an event.
    pub feedback: Feedback,
}

/// Whether a decision comes back to its entity as an event (`to = ["self"]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    None,
    ToSelf,
}

/// A view of another entity.
#[derive(Clone, Debug)]
pub struct Reference {
    pub name: Located<String>,
    /// The entity type it shows.
    pub entity: Located<String>,
    /// Which entity of that type.
    pub key: Expr,
}

/// A time at which something missing is noticed.
#[derive(Clone, Debug)]
pub struct Deadline {
    pub name: Located<String>,
    pub at: Expr,
    pub unless: Option<Expr>,
    /// An `at` that has passed when it is computed is noticed so much later.
    pub grace: Duration,
}

/// A call to the outside.
#[derive(Clone, Debug)]
pub struct Effect {
    pub name: Located<String>,
    pub when: Option<Expr>,
    pub request: Request,
    /// How long one attempt may take.
    pub timeout: Duration,
    pub guarantee: Guarantee,
    pub retry: Retry,
    /// So many calls of it are under way at a time.
    pub concurrency: u32,
    pub policy: Policy,
}

/// An HTTP request whose parts depend on the entity.
#[derive(Clone, Debug)]
pub struct Request {
    /// In capitals.
    pub method: String,
    pub url: Template,
    /// In the order they are given; names in lower case.
    pub headers: Vec<(Located<String>, Template)>,
    pub json: Option<Json>,
}

/// Text with expressions in braces: `https://bureau/{application.id}`. Braces that are meant are doubled.
#[derive(Clone, Debug)]
pub struct Template {
    pub at: Location,
    pub parts: Vec<TemplatePart>,
}

#[derive(Clone)]
pub enum TemplatePart {
    Text(String),
    Expr(Expr),
}

impl fmt::Debug for TemplatePart {
    /// Without the text: it may be a password or token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplatePart::Text(_) => f.write_str("Text(***)"),
            TemplatePart::Expr(expr) => f.debug_tuple("Expr").field(expr).finish(),
        }
    }
}

impl Template {
    /// The text, if it does not depend on the entity.
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [TemplatePart::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// A JSON document whose strings are expressions.
#[derive(Clone, Debug)]
pub enum Json {
    Expr(Expr),
    /// A number or bool, as JSON text.
    Literal(String),
    List(Vec<Json>),
    Table(Vec<(Located<String>, Json)>),
}

/// How often a call is made, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    AtMostOnce,
    AtLeastOnce,
}

/// How a call that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// In all; at least 1, and 1 for [`Guarantee::AtMostOnce`].
    pub attempts: u32,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

/// What a decision says.
#[derive(Clone, Debug)]
pub enum Data {
    None,
    Table(Vec<(Located<String>, Expr)>),
    Value(Expr),
}

/// What a decision does when better data comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Revise,
    Once,
}

pub(super) const TAKES: [(&str, Take); 8] = [
    ("first", Take::First),
    ("latest", Take::Latest),
    ("min", Take::Min),
    ("max", Take::Max),
    ("sum", Take::Sum),
    ("count", Take::Count),
    ("set", Take::Set),
    ("list", Take::List),
];
pub(super) const DUPLICATES: [(&str, Duplicates); 2] =
    [("strict", Duplicates::Strict), ("lenient", Duplicates::Lenient)];
pub(super) const GUARANTEES: [(&str, Guarantee); 2] =
    [("at_most_once", Guarantee::AtMostOnce), ("at_least_once", Guarantee::AtLeastOnce)];
pub(super) const POLICIES: [(&str, Policy); 2] = [("revise", Policy::Revise), ("once", Policy::Once)];

/// The word that stands for a value in the configuration.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, candidate)| candidate == value).map_or("", |(word, _)| word)
}

impl Take {
    /// The operator's word.
    pub fn name(self) -> &'static str {
        word(&TAKES, &self)
    }

    /// Whether the order of events matters, so that `order_by` means something.
    pub fn is_ordered(self) -> bool {
        matches!(self, Take::First | Take::Latest | Take::List)
    }
}

impl Field {
    /// The expression of the value: what is written, else the default; none for `count`.
    pub fn value_text(&self) -> Option<&str> {
        let default = (self.take != Take::Count).then_some(VALUE_DEFAULT);
        self.value.as_ref().map(|expr| expr.as_str()).or(default)
    }

    /// The expression of the order: what is written, else the default; none for operators that know no order.
    pub fn order_by_text(&self) -> Option<&str> {
        let default = self.take.is_ordered().then_some(ORDER_BY_DEFAULT);
        self.order_by.as_ref().map(|expr| expr.as_str()).or(default)
    }
}

impl Effect {
    /// The expression of the condition: what is written, else `true`.
    pub fn when_text(&self) -> &str {
        self.when.as_ref().map_or(WHEN_DEFAULT, |expr| expr.as_str())
    }
}

impl Decision {
    /// The expression of the condition: what is written, else `true`.
    pub fn when_text(&self) -> &str {
        self.when.as_ref().map_or(WHEN_DEFAULT, |expr| expr.as_str())
    }
}
