//! `[source.*]` of kind `nats`.

use super::diagnostics::Located;
use super::nats::NatsConnection;
use super::reader::Section;

const SUBJECT_HELP: &str = "write it like \"orders.created\", \"orders.*\" or \"orders.>\"";
const NAME_HELP: &str = "such names have no spaces and none of `.`, `*`, `>`, `/` and `\\`";

/// Events as messages.
#[derive(Clone, Debug)]
pub struct NatsSource {
    pub connection: NatsConnection,
    /// Subjects with wildcards; of a stream, none: all of it.
    pub subjects: Vec<String>,
    pub from: NatsFrom,
}

/// How messages come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsFrom {
    /// Out of a stream by its durable consumer; acknowledged once they are durable here.
    Stream { stream: String, consumer: String },
    /// As they are published, at most once; with a queue group, to one of its members.
    Core { queue: Option<String> },
}

impl NatsSource {
    pub(super) fn read(section: &mut Section) -> Option<NatsSource> {
        let connection = NatsConnection::read(section);
        let stream = section.string("stream");
        let consumer = section.string("consumer");
        let queue = section.string("queue");
        for name in [&stream, &consumer].into_iter().flatten() {
            check_name(section, name);
        }
        if stream.is_none() {
            section.require("subjects", SUBJECT_HELP);
        }
        let subjects = section.some_strings("subjects", SUBJECT_HELP).unwrap_or_default();
        for subject in &subjects {
            check_subject(section, subject);
        }
        let from = match (stream, consumer, queue) {
            (Some(_), _, Some(queue)) => {
                let message = "`queue` is for subjects without a stream";
                let help = "those who share a consumer of a stream share its messages; remove `queue`";
                section.cx.out.error(queue.at, message).help(help);
                return None;
            }
            (Some(stream), Some(consumer), None) => NatsFrom::Stream { stream: stream.value, consumer: consumer.value },
            (Some(stream), None, None) => {
                let help = "add consumer = \"turnstile\"; no other reader of the stream may use the same";
                section.cx.out.error(stream.at, "`stream` needs a `consumer`").help(help);
                return None;
            }
            (None, Some(consumer), _) => {
                section.cx.out.error(consumer.at, "`consumer` needs a `stream`").help("add stream = \"…\"");
                return None;
            }
            (None, None, queue) => {
                let message = "without a stream, events come at most once: what is published while nobody listens, or \
                               faster than it can be taken, is lost";
                section.cx.out.warning(section.at, message).help("add `stream` and `consumer`");
                if let Some(queue) = &queue {
                    check_subject(section, queue);
                }
                NatsFrom::Core { queue: queue.map(|queue| queue.value) }
            }
        };
        let subjects = subjects.into_iter().map(|subject| subject.value).collect();
        Some(NatsSource { connection, subjects, from })
    }
}

fn check_name(section: &mut Section, name: &Located<String>) {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic() && !".*>/\\".contains(c)) {
        let message = format!("`{}` cannot be the name of a stream or consumer", name.value);
        section.cx.out.error(name.at, message).help(NAME_HELP);
    }
}

fn check_subject(section: &mut Section, subject: &Located<String>) {
    let is_token = |token: &str| {
        !token.is_empty() && token.chars().all(char_of_token) && (token.len() == 1 || !token.contains(['*', '>']))
    };
    let (first, last) = subject.rsplit_once('.').unwrap_or(("-", subject));
    if !first.split('.').all(|token| is_token(token) && token != ">") || !is_token(last) {
        section.cx.out.error(subject.at, format!("`{}` is not a subject", subject.value)).help(SUBJECT_HELP);
    }
}

fn char_of_token(c: char) -> bool {
    !c.is_whitespace() && !c.is_control()
}
