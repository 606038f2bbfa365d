//! What an answer means for the effect, by what was promised of it.

use std::time::Duration;

use super::response::Body;
use crate::config::Guarantee;
use crate::model::dealings::{EffectOutcome, EffectStage};
use crate::model::packed::Packed;
use crate::telemetry::Leg;

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There was an answer; it may ask to be left alone.
    Status { status: u16, body: Body, pause: Option<Duration> },
    /// No byte of the request has left.
    NotSent { why: String },
    /// Some of it may have arrived, and what came of that is not known.
    Lost { why: String },
}

impl Answer {
    /// Ends the span of the call.
    pub fn ends(&self, mut leg: Leg) {
        match self {
            Answer::NotSent { why } | Answer::Lost { why } => leg.failed(why),
            Answer::Status { status, body, .. } => {
                leg.note("http.response.status_code", i64::from(*status));
                match body {
                    Body::Broken { why } => leg.failed(why),
                    _ if *status < 400 => leg.arrived(),
                    _ => leg.failed("the answer says no"),
                }
            }
        }
    }
}

/// What it means.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    /// If this was the last call.
    pub outcome: EffectOutcome,
    /// Whether another call may do better, not before this pause.
    pub again: Option<Duration>,
}

/// Statuses that speak of the request and yet may change: 408 Request Timeout, 425 Too Early, 429 Too Many Requests.
const PASSING: [u16; 3] = [408, 425, 429];

/// What an answer means.
pub(super) fn judge(answer: Answer, guarantee: Guarantee) -> Judged {
    use EffectStage::{Failed, Succeeded, Unknown};
    // Whether something happened that cannot be told from the answer.
    let uncertain = match guarantee {
        Guarantee::AtMostOnce => Unknown,
        Guarantee::AtLeastOnce => Failed,
    };
    let (outcome, again) = match answer {
        Answer::NotSent { why } => (unanswered(Failed, why), Some(Duration::ZERO)),
        Answer::Lost { why } => (unanswered(uncertain, why), Some(Duration::ZERO)),
        Answer::Status { status, body, pause } => {
            let is_success = (200..300).contains(&status);
            let is_cut = matches!(body, Body::Broken { .. });
            let stage = match (is_success, is_cut) {
                (true, false) => Succeeded,
                (true, true) => uncertain,
                (false, _) => Failed,
            };
            let is_final = stage == Succeeded || (400..500).contains(&status) && !PASSING.contains(&status);
            (answered(stage, status, body), (!is_final).then(|| pause.unwrap_or_default()))
        }
    };
    Judged { outcome, again: again.filter(|_| guarantee == Guarantee::AtLeastOnce) }
}

/// The outcome of a request that has no answer.
pub(super) fn unanswered(stage: EffectStage, why: impl Into<Box<str>>) -> EffectOutcome {
    EffectOutcome { stage, status: None, response: None, error: Some(why.into()) }
}

fn answered(stage: EffectStage, status: u16, body: Body) -> EffectOutcome {
    let (response, error): (Option<Packed>, Option<String>) = match body {
        Body::Whole(response) => {
            (response, (300..400).contains(&status).then(|| "redirects are not followed".to_owned()))
        }
        Body::TooLong { bytes_max } => {
            (None, Some(format!("the answer is longer than limits.effect_response_bytes_max = {bytes_max} bytes")))
        }
        Body::Broken { why } => (None, Some(format!("not all of the answer came: {why}"))),
    };
    EffectOutcome { stage, status: Some(status), response, error: error.map(String::into_boxed_str) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::Value;

    fn status(status: u16, body: Body) -> Answer {
        Answer::Status { status, body, pause: Some(Duration::from_secs(7)) }
    }

    /// Stage, and the pause before another call, for each guarantee.
    fn check(answer: &Answer, once: EffectStage, least: EffectStage, again: Option<u64>) {
        let judged = judge(answer.clone(), Guarantee::AtMostOnce);
        assert_eq!((judged.outcome.stage, judged.again), (once, None), "at most once: {answer:?}");
        let judged = judge(answer.clone(), Guarantee::AtLeastOnce);
        assert_eq!((judged.outcome.stage, judged.again), (least, again.map(Duration::from_secs)), "{answer:?}");
    }

    /// If this failed, a call could be repeated that must not be, or be given up that would have gone well; or rules would
    /// be told that something has not happened that may have.
    #[test]
    fn what_may_have_happened_is_unknown_only_where_it_is_not_tried_again() {
        use EffectStage::{Failed, Succeeded, Unknown};
        let whole = || Body::Whole(Some(Packed::new(&Value::Int(1))));
        for code in [200, 201, 204, 299] {
            check(&status(code, whole()), Succeeded, Succeeded, None);
        }
        for code in [301, 307, 408, 425, 429, 500, 503, 599] {
            check(&status(code, whole()), Failed, Failed, Some(7));
        }
        for code in [400, 401, 404, 409, 410, 422, 499] {
            check(&status(code, whole()), Failed, Failed, None);
        }
        let broken = || Body::Broken { why: "reset".into() };
        check(&status(200, broken()), Unknown, Failed, Some(7));
        check(&status(500, broken()), Failed, Failed, Some(7));
        check(&status(404, broken()), Failed, Failed, None);
        check(&status(200, Body::TooLong { bytes_max: 9 }), Succeeded, Succeeded, None);
        check(&Answer::NotSent { why: "refused".into() }, Failed, Failed, Some(0));
        check(&Answer::Lost { why: "reset".into() }, Unknown, Failed, Some(0));
    }

    /// If this failed, rules and people could not see why there is no response.
    #[test]
    fn the_outcome_tells_what_is_known() {
        let told = |answer| {
            let EffectOutcome { status, response, error, .. } = judge(answer, Guarantee::AtMostOnce).outcome;
            (status, response.is_some(), error.map(String::from))
        };
        let whole = Body::Whole(Some(Packed::new(&Value::Int(1))));
        assert_eq!(told(status(200, whole.clone())), (Some(200), true, None));
        assert_eq!(told(status(500, whole.clone())), (Some(500), true, None));
        assert_eq!(told(status(307, whole)), (Some(307), true, Some("redirects are not followed".into())));
        let too_long = "the answer is longer than limits.effect_response_bytes_max = 9 bytes";
        assert_eq!(told(status(200, Body::TooLong { bytes_max: 9 })), (Some(200), false, Some(too_long.into())));
        let broken = Body::Broken { why: "reset".into() };
        assert_eq!(told(status(200, broken)), (Some(200), false, Some("not all of the answer came: reset".into())));
        assert_eq!(told(Answer::Lost { why: "reset".into() }), (None, false, Some("reset".into())));
    }
}
