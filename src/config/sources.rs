//! `[source.*]`: where events come from, and how JSON that is no CloudEvent becomes an event.

use super::address::Address;
use super::diagnostics::{Expr, Located, Location};
use super::document::Entry;
use super::door::Door;
use super::names::{NameOf, check_name};
use super::reader::{Context, Section};
use super::server::Server;
use super::source_http::Inbox;
use super::source_nats::NatsSource;
use super::source_sql::SqlSource;
use crate::trust::Scope;

/// The name of the source that `[server] http` is.
pub const HTTP_SOURCE: &str = "http";

/// A source of events. While HTTP is on there is always one named `http`.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: Located<String>,
    pub kind: SourceKind,
    pub event: Option<EventMapping>,
    /// The number that it gives each event, one after the other.
    pub sequence: Option<Expr>,
}

#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Listens where `[server] http` says, with the server's door.
    Http,
    /// A path of its own there.
    Inbox(Box<Inbox>),
    Tcp {
        listen: Located<Address>,
        door: Door,
    },
    /// Asks a database for rows.
    Sql(Box<SqlSource>),
    Nats(Box<NatsSource>),
}

/// How an event's attributes are computed from other JSON (`body`), of messages also from what is known of them (`meta`).
/// What is absent here is taken as in CloudEvents.
#[derive(Clone, Debug, Default)]
pub struct EventMapping {
    pub id: Option<Expr>,
    pub type_: Option<Expr>,
    pub source: Option<Expr>,
    pub time: Option<Expr>,
    pub subject: Option<Expr>,
    pub data: Option<Expr>,
}

#[derive(Clone, Copy)]
enum Kind {
    Http,
    Tcp,
    Sql,
    Nats,
}

const KINDS: [(&str, Kind); 4] = [("tcp", Kind::Tcp), ("http", Kind::Http), ("nats", Kind::Nats), ("sql", Kind::Sql)];

impl Source {
    /// Reads all sources and adds the one that `[server] http` is.
    pub(super) fn read_all(cx: &mut Context, entry: Option<Entry>, server: &Server) -> Vec<Source> {
        let entries = Section::open(cx, "source", entry).rest();
        if entries.is_empty() && server.http.is_none() && !cx.partial {
            let help = "give [server] http an address, or add a [source.tcp]";
            cx.out.error(server.http.at, "there is no source: no event can ever arrive").help(help);
        }
        let mut sources = Vec::new();
        if server.http.is_some() && !entries.iter().any(|entry| entry.name.value == HTTP_SOURCE) {
            let name = Located::new(HTTP_SOURCE.into(), server.http.at);
            sources.push(Source { name, kind: SourceKind::Http, event: None, sequence: None });
        }
        for entry in entries {
            check_name(&entry.name, NameOf::Source, &mut cx.out);
            sources.extend(Source::read(cx, entry, server));
        }
        check_collisions(cx, &sources, server);
        sources
    }

    fn read(cx: &mut Context, entry: Entry, server: &Server) -> Option<Source> {
        let name = entry.name.clone();
        let title = format!("source.{}", name.value);
        let mut section = Section::open(cx, &title, Some(entry));
        let kind = section.required_choice("kind", &KINDS, "add kind = \"tcp\"")?;
        let kind = match *kind {
            Kind::Http if name.value == HTTP_SOURCE => {
                read_http(&mut section, &name, server);
                Some(SourceKind::Http)
            }
            Kind::Http => Inbox::read(&mut section, server).map(|inbox| SourceKind::Inbox(Box::new(inbox))),
            Kind::Tcp => read_tcp(&mut section, &name, &title),
            Kind::Sql => SqlSource::read(&mut section).map(|sql| SourceKind::Sql(Box::new(sql))),
            Kind::Nats => {
                check_is_not_http(&mut section, &name);
                NatsSource::read(&mut section).map(|nats| SourceKind::Nats(Box::new(nats)))
            }
        };
        let event = EventMapping::read(&mut section);
        let sequence = section.expr("sequence");
        section.finish();
        Some(Source { name, kind: kind?, event, sequence })
    }
}

fn read_http(section: &mut Section, name: &Located<String>, server: &Server) {
    if let Some(at) = section.peek("path") {
        let message = format!("the source `{HTTP_SOURCE}` is all of [server] http and has no path of its own");
        section.cx.out.error(at, message).help("give the source another name, such as [source.crm]");
        for key in ["path", "format", "each", "respond", "signature"] {
            section.entry(key);
        }
    }
    if server.http.is_none() {
        section
            .cx
            .out
            .error(name.at, "there is no HTTP source: [server] http is off")
            .help("remove one of the two")
            .also(server.http.at);
    }
}

fn check_is_not_http(section: &mut Section, name: &Located<String>) {
    if name.value == HTTP_SOURCE {
        let message = format!("the name `{HTTP_SOURCE}` belongs to the source that [server] http is");
        section.cx.out.error(name.at, message).help("choose another name, such as [source.tcp]");
    }
}

fn read_tcp(section: &mut Section, name: &Located<String>, title: &str) -> Option<SourceKind> {
    check_is_not_http(section, name);
    let listen = section.required_string("listen", "add listen = \"127.0.0.1:7400\"");
    let door = Door::read(section, title, Some(Scope::Send));
    let listen = listen?;
    let listen = Located::new(Address::read(section.cx, &listen, "listen"), listen.at);
    door.check(section.cx, &listen, &format!("[{title}]"));
    Some(SourceKind::Tcp { listen, door })
}

impl EventMapping {
    fn read(section: &mut Section) -> Option<EventMapping> {
        let mut section = section.section("event");
        if !section.is_present() {
            return None;
        }
        let mapping = EventMapping {
            id: section.expr("id"),
            type_: section.expr("type"),
            source: section.expr("source"),
            time: section.expr("time"),
            subject: section.expr("subject"),
            data: section.expr("data"),
        };
        section.finish();
        Some(mapping)
    }

    /// The attributes that are mapped, by name.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &Expr)> {
        let all = [
            ("id", &self.id),
            ("type", &self.type_),
            ("source", &self.source),
            ("time", &self.time),
            ("subject", &self.subject),
            ("data", &self.data),
        ];
        all.into_iter().filter_map(|(name, expr)| Some((name, expr.as_ref()?)))
    }
}

/// Reports listeners that cannot all start.
fn check_collisions(cx: &mut Context, sources: &[Source], server: &Server) {
    let http = server.http.value.clone().map(|address| Located::new(address, server.http.at));
    let inboxes: Vec<&Inbox> = sources
        .iter()
        .filter_map(|source| match &source.kind {
            SourceKind::Inbox(inbox) => Some(&**inbox),
            _ => None,
        })
        .collect();
    for (n, inbox) in inboxes.iter().enumerate() {
        if let Some(other) = inboxes[..n].iter().find(|other| other.path.value == inbox.path.value) {
            let message = format!("`{}` is the path of two sources", inbox.path.value);
            cx.out.error(inbox.path.at, message).help("choose another path").also(other.path.at);
        }
    }
    let mut seen: Vec<Located<Address>> = http.into_iter().chain(server.admin.clone()).collect();
    for source in sources {
        let SourceKind::Tcp { listen, .. } = &source.kind else { continue };
        if let Some(other) = seen.iter().find(|other| other.collides_with(listen)) {
            let message = format!("{} is listened on twice", listen.value);
            let help = if other.at == server.http.at {
                "choose another port; [server] http has this one"
            } else if server.admin.as_ref().is_some_and(|admin| admin.at == other.at) {
                "choose another port; [server] admin has this one"
            } else {
                "choose another port"
            };
            let problem = cx.out.error(listen.at, message).help(help);
            problem.also = Some(other.at).filter(|at| *at != Location::START);
        }
        seen.push(listen.clone());
    }
}
