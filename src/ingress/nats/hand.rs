//! What is in hand: messages that were received and are not known to be acknowledged. Decides what NATS is told of each.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Subject;
use tokio::sync::{Notify, oneshot};

use super::message::{Place, Received};
use super::source::{Answer, Bury, MESSAGES_MAX};
use crate::ingress::admission::{Admission, SourceMetrics};
use crate::ingress::credits::Need;
use crate::ingress::decode::Given;
use crate::model::ids::Lsn;
use crate::model::refusal::Refusal;
use crate::model::settle::{Acknowledge, EventOutcome, Outcomes};
use crate::model::system::{DeadLetter, Form, Origin};

/// How long an acknowledgement may wait for its own. After that the message is let go: it comes again, as a duplicate.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of a message that a dead letter keeps; its record must fit into the journal.
const LETTER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The messages in hand, and all that they need to get out of it.
pub struct Hand {
    name: Arc<str>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: SourceMetrics,
    bury: Bury,
    answer: Answer,
    inside: Mutex<Inside>,
    /// Something is to be told.
    pub(super) news: Notify,
    /// There may be enough room again for who waits for it.
    room: Notify,
}

#[derive(Default)]
struct Inside {
    /// How many messages are in hand, wherever they are.
    count: usize,
    /// Lines before this one are settled.
    first: u64,
    open: VecDeque<Option<Open>>,
    tell: Vec<Tell>,
    /// What was told and not confirmed, by number: when, and of how many messages.
    unconfirmed: BTreeMap<u64, (Instant, usize)>,
    told: u64,
    /// Who waits for room needs so much.
    wanted: usize,
}

/// A message whose event is on its way.
pub(super) struct Open {
    pub message: Received,
    pub need: Need,
    pub read_at: Instant,
}

/// What is to be told.
pub(super) enum Tell {
    /// Everything that came of a message is durable.
    Acknowledge(Subject),
    /// What a request came to.
    Answer(Subject, Vec<u8>),
    /// A message is never to be delivered again, once its dead letter is durable; then its credits are free.
    Terminate { durable: oneshot::Receiver<Lsn>, reply: Option<Subject>, need: Need },
}

impl Hand {
    pub(super) fn new(
        name: Arc<str>,
        admission: Arc<Admission>,
        metrics: SourceMetrics,
        bury: Bury,
        answer: Answer,
    ) -> Self {
        let (inside, news, room) = (Mutex::default(), Notify::new(), Notify::new());
        Hand { name, admission, metrics, bury, answer, inside, news, room }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more messages may be taken.
    pub(super) fn free(&self) -> usize {
        MESSAGES_MAX.saturating_sub(self.inside().count)
    }

    /// Waits until `wanted` more messages may be taken.
    pub(super) async fn has_room(&self, wanted: usize) {
        loop {
            {
                let mut inside = self.inside();
                inside.wanted = wanted;
                if MESSAGES_MAX.saturating_sub(inside.count) >= wanted {
                    return;
                }
            }
            self.room.notified().await;
        }
    }

    /// Waits until nothing is in hand.
    pub(super) async fn emptied(&self) {
        self.has_room(MESSAGES_MAX).await;
    }

    /// Takes messages in hand, in order; tells the line of the first.
    pub(super) fn take(&self, messages: impl IntoIterator<Item = Open>) -> u64 {
        let mut inside = self.inside();
        let first = inside.first + inside.open.len() as u64;
        let before = inside.open.len();
        inside.open.extend(messages.into_iter().map(Some));
        inside.count += inside.open.len() - before;
        first
    }

    /// What is to be told now.
    pub(super) fn to_tell(&self) -> Vec<Tell> {
        std::mem::take(&mut self.inside().tell)
    }

    /// A number for what is told of so many messages and has to be confirmed.
    pub(super) fn telling(&self, messages: usize) -> u64 {
        let mut inside = self.inside();
        inside.told += 1;
        let number = inside.told;
        inside.unconfirmed.insert(number, (Instant::now(), messages));
        number
    }

    /// What was told under this number is confirmed.
    pub(super) fn confirmed(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut inside = self.inside();
        let gone = numbers.into_iter().filter_map(|number| inside.unconfirmed.remove(&number)).map(|(_, count)| count);
        let gone = gone.sum();
        self.let_go(inside, gone);
    }

    /// Lets go of what is not confirmed for too long.
    pub(super) fn forget_overdue(&self) {
        let mut inside = self.inside();
        let mut gone = 0;
        while let Some(first) = inside.unconfirmed.first_entry()
            && first.get().0.elapsed() > CONFIRM_PATIENCE
        {
            gone += first.remove().1;
        }
        if gone > 0 {
            tracing::debug!(source = %self.name, "{gone} acknowledgements were not confirmed; the messages come again");
        }
        self.let_go(inside, gone);
    }

    /// Messages are in hand no more.
    pub(super) fn finished(&self, count: usize) {
        self.let_go(self.inside(), count);
    }

    fn let_go(&self, mut inside: MutexGuard<'_, Inside>, count: usize) {
        inside.count = inside.count.saturating_sub(count);
        let has_room = MESSAGES_MAX - inside.count >= inside.wanted;
        drop(inside);
        if count > 0 && has_room {
            self.room.notify_one();
        }
    }

    /// What is to be told of a message that became this, and what its credits are.
    fn outcome(&self, open: Open, outcome: EventOutcome) -> (Option<Tell>, Need) {
        let Open { message, need, .. } = open;
        if let EventOutcome::Refused(refusal) = &outcome
            && !matches!(message.place, Place::Request { .. })
        {
            let durable = (self.bury)(self.letter(&message, refusal));
            let reply = if let Place::Stream { reply, .. } = message.place { Some(reply) } else { None };
            return (Some(Tell::Terminate { durable, reply, need }), Need::default());
        }
        match (message.place, outcome) {
            (Place::Request { reply, entities }, outcome) => {
                let answer = (self.answer)(outcome, entities);
                (Some(Tell::Answer(reply, answer)), need)
            }
            (Place::Stream { reply, .. }, _) => (Some(Tell::Acknowledge(reply)), need),
            (Place::Nobody, _) => (None, need),
        }
    }

    fn letter(&self, message: &Received, refusal: &Refusal) -> DeadLetter {
        let position = message.position();
        let mut body = message.raw();
        let bytes = body.len();
        let mut form = Form::Message { subject: message.subject.as_str().into() };
        let mut detail = format!("{} (subject {})", refusal.message, message.subject);
        if bytes > LETTER_BYTES_MAX {
            body.truncate(LETTER_BYTES_MAX);
            form = Form::Partial;
            let _ = write!(detail, "; only the first {LETTER_BYTES_MAX} of {bytes} bytes are kept");
        }
        DeadLetter {
            origin: Origin::Source { name: (&*self.name).into(), position: position.clone().into() },
            reason: refusal.code.as_str().into(),
            detail: detail.into(),
            attempts: 1,
            entity: None,
            id: message.event_id.clone().or_else(|| message.id()).unwrap_or_else(|| position.into()),
            body,
            form,
            mandate: None,
        }
    }
}

impl Acknowledge for Hand {
    fn settled(&self, outcomes: Outcomes) {
        let durations = self.admission.metrics.ack_duration.local();
        let now = Instant::now();
        let mut settled = Vec::with_capacity(outcomes.len());
        {
            let mut inside = self.inside();
            for (line, outcome) in outcomes {
                let at = usize::try_from(line.wrapping_sub(inside.first)).unwrap_or(usize::MAX);
                if let Some(open) = inside.open.get_mut(at).and_then(Option::take) {
                    settled.push((open, outcome));
                }
            }
            while inside.open.front().is_some_and(Option::is_none) {
                inside.open.pop_front();
                inside.first += 1;
            }
        }
        let (mut tell, mut returned, mut accepted, mut silent) =
            (Vec::with_capacity(settled.len()), Need::default(), 0, 0);
        for (open, outcome) in settled {
            match &outcome {
                EventOutcome::Refused(refusal) => self.metrics.refused(&self.admission.metrics, refusal.code),
                EventOutcome::Accepted(_) | EventOutcome::Duplicate(_) => accepted += 1,
            }
            durations.observe(now.saturating_duration_since(open.read_at).as_secs_f64());
            let (told, free) = self.outcome(open, outcome);
            returned += free;
            silent += usize::from(told.is_none());
            tell.extend(told);
        }
        self.metrics.accepted.inc_by(accepted);
        durations.flush();
        self.admission.credits.give_back(returned);
        let mut inside = self.inside();
        inside.tell.extend(tell);
        self.let_go(inside, silent);
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use async_nats::Message;
    use futures_util::FutureExt;

    use super::*;
    use crate::ingress::Receipts;
    use crate::ingress::{Credits, Gate, Receiving};
    use crate::metrics::Metrics;
    use crate::model::refusal::Code;
    use crate::rules::Ruleset;

    /// Dead letters, each with whom to tell that it is durable.
    type Buried = Arc<Mutex<Vec<(DeadLetter, oneshot::Sender<Lsn>)>>>;

    fn hand(buried: &Buried) -> Hand {
        let metrics = Arc::new(Metrics::new());
        let admission = Admission {
            ruleset: Arc::new(Ruleset::new(Vec::new(), &[], 512)),
            credits: Credits::new(100, 1 << 20),
            receiving: Receiving::new(1 << 20, Duration::ZERO),
            gate: Gate::default(),
            metrics: metrics.clone(),
            tracer: crate::telemetry::Tracer::default(),
            receipts: Receipts::default(),
            deliver: Arc::new(drop),
            sequences: std::collections::HashMap::new(),
        };
        let buried = buried.clone();
        let bury: Bury = Arc::new(move |letter| {
            let (done, durable) = oneshot::channel();
            buried.lock().unwrap().push((letter, done));
            durable
        });
        let answer: Answer = Arc::new(|outcome, _| format!("{outcome:?}").into_bytes());
        Hand::new("bus".into(), Arc::new(admission), SourceMetrics::new(&metrics, "bus"), bury, answer)
    }

    fn open(hand: &Hand, reply: Option<&str>) -> Open {
        let message = Message {
            subject: "orders.a".into(),
            reply: reply.map(Subject::from),
            payload: "no".into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        let message = match reply {
            Some(reply) if reply.starts_with("$JS") => Received::of_stream(message).unwrap().0,
            _ => Received::live(message),
        };
        let need = hand.admission.credits.need(1, 2);
        assert!(hand.admission.credits.try_take(need));
        Open { message, need, read_at: Instant::now() }
    }

    fn told(hand: &Hand) -> Vec<String> {
        let tell = |tell| match tell {
            Tell::Acknowledge(reply) => format!("ack {reply}"),
            Tell::Answer(reply, answer) => format!("{reply}: {}", String::from_utf8(answer).unwrap()),
            Tell::Terminate { reply, .. } => format!("term {} when it is durable", reply.unwrap_or("nobody".into())),
        };
        hand.to_tell().into_iter().map(tell).collect()
    }

    /// If this failed, NATS would be told of a message before it is settled, or told something else than what became of it,
    /// or what is in hand would be miscounted until nothing is pulled any more.
    #[test]
    fn each_message_is_told_what_became_of_it() {
        let buried = Buried::default();
        let hand = hand(&buried);
        let reply = |sequence| format!("$JS.ACK.S.c.1.{sequence}.1.1.0");
        let replies = [Some(reply(1)), Some(reply(2)), Some(reply(3)), Some("inbox".to_owned()), None, None];
        let first = hand.take(replies.iter().map(|reply| open(&hand, reply.as_deref())));
        assert_eq!((first, hand.free(), hand.admission.credits.in_flight()), (0, MESSAGES_MAX - 6, 6));
        assert_eq!(told(&hand), Vec::<String>::new());
        let refused = || EventOutcome::Refused(Refusal::new(Code::InvalidJson, "why"));
        hand.settled(vec![(1, EventOutcome::Duplicate(Lsn(4))), (2, refused())]);
        hand.settled(vec![(5, refused()), (3, refused()), (0, EventOutcome::Accepted(Lsn(5)))]);
        // Told twice, or of a line that never was: nothing comes of it.
        hand.settled(vec![(1, refused()), (77, refused()), (4, EventOutcome::Accepted(Lsn(6)))]);
        let why = "Refused(Refusal { code: InvalidJson, message: \"why\" })";
        assert_eq!(
            told(&hand),
            [
                format!("ack {}", reply(2)),
                format!("term {} when it is durable", reply(3)),
                "term nobody when it is durable".to_owned(),
                format!("inbox: {why}"),
                format!("ack {}", reply(1)),
            ]
        );
        let letters: Vec<_> = buried.lock().unwrap().iter().map(|(letter, _)| letter.clone()).collect();
        assert_eq!(letters[0].origin.key(), "source.bus.S:3");
        assert!(letters[1].origin.key().starts_with("source.bus.core:"), "{:?}", letters[1]);
        assert_eq!(
            (&*letters[0].detail, &*letters[0].id, &letters[0].body[..]),
            ("why (subject orders.a)", "S:3", &b"no"[..])
        );
        // The two dead letters keep their credits until they are durable; the one that nobody hears of is gone.
        assert_eq!((hand.admission.credits.in_flight(), hand.free()), (2, MESSAGES_MAX - 5));
        let numbers = [hand.telling(2), hand.telling(1)];
        hand.confirmed([numbers[1], numbers[1], 99]);
        assert_eq!(hand.free(), MESSAGES_MAX - 4);
        hand.confirmed([numbers[0]]);
        assert!(hand.emptied().now_or_never().is_none());
        hand.finished(2);
        assert!(hand.emptied().now_or_never().is_some());
    }
}
