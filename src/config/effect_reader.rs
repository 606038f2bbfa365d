//! Reads `[entity.T.effect.*]`, all but their requests.

use std::time::Duration;

use super::document::Entry;
use super::entities::{
    EFFECT_CONCURRENCY_DEFAULT, EFFECT_TIMEOUT_DEFAULT, Effect, GUARANTEES, Guarantee, POLICIES, Policy, RETRY_DEFAULT,
    Request, Retry,
};
use super::names::{NameOf, Namespace, check_name};
use super::reader::{Context, Section};
use super::retry::read_retry;

const REQUEST_HELP: &str = "add request = { url = \"https://HOST/path\", json = { … } }: what is called";
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_hours(1);
const ATTEMPTS_MAX: u32 = 1_000_000;
const CONCURRENCY_MAX: u64 = 10_000;

impl Effect {
    /// Reads all effects of an entity type and adds their names to its namespace.
    pub(super) fn read_all(section: Section, namespace: &mut Namespace) -> Vec<Effect> {
        let (cx, title, entries) = section.into_parts();
        entries.into_iter().filter_map(|entry| Effect::read(cx, &title, entry, namespace)).collect()
    }

    fn read(cx: &mut Context, title: &str, entry: Entry, namespace: &mut Namespace) -> Option<Effect> {
        let name = entry.name.clone();
        check_name(&name, NameOf::Effect, &mut cx.out);
        namespace.add(&name, NameOf::Effect, &mut cx.out);
        let mut section = Section::open(cx, &format!("{title}.{}", name.value), Some(entry));
        let when = section.expr("when");
        section.require("request", REQUEST_HELP);
        let request = Request::read(section.section("request"));
        let timeout = section.duration("timeout", TIMEOUT_MIN..=TIMEOUT_MAX).unwrap_or(EFFECT_TIMEOUT_DEFAULT);
        let guarantee = section.choice("guarantee", &GUARANTEES).map_or(Guarantee::AtLeastOnce, |choice| choice.value);
        let retry = read_retry_of(&mut section, guarantee);
        let concurrency = section.integer("concurrency", 1..=CONCURRENCY_MAX);
        let policy = section.choice("policy", &POLICIES).map_or(Policy::Once, |policy| policy.value);
        section.finish();
        let concurrency = concurrency.map_or(EFFECT_CONCURRENCY_DEFAULT, |concurrency| concurrency as u32);
        Some(Effect { name, when, request: request?, timeout, guarantee, retry, concurrency, policy })
    }
}

/// How it is tried again, which a call that is made at most once is not.
fn read_retry_of(section: &mut Section, guarantee: Guarantee) -> Retry {
    let at = section.peek("retry");
    let (attempts, backoff) = read_retry(section, ATTEMPTS_MAX);
    let (backoff_min, backoff_max) = backoff.unwrap_or((RETRY_DEFAULT.backoff_min, RETRY_DEFAULT.backoff_max));
    if guarantee == Guarantee::AtLeastOnce {
        return Retry { attempts: attempts.unwrap_or(RETRY_DEFAULT.attempts), backoff_min, backoff_max };
    }
    if let Some(at) = at {
        let help = "leave `retry` out, or guarantee = \"at_least_once\" if the call may be made again";
        section.cx.out.error(at, "`retry` does not go with guarantee = \"at_most_once\"").help(help);
    }
    Retry { attempts: 1, backoff_min, backoff_max }
}
