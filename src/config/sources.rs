//! `[source.*]`: where events come from, and how JSON that is no CloudEvent becomes an event.

use super::address::{Address, warn_if_open};
use super::diagnostics::{Expr, Located, Location};
use super::document::Entry;
use super::names::{NameOf, check_name};
use super::reader::{Context, Section};
use super::secret::Secret;
use super::server::{Server, read_token};
use super::source_sql::SqlSource;

/// The name of the source that `[server] http` is.
pub const HTTP_SOURCE: &str = "http";

/// A source of events. While HTTP is on there is always one named `http`.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: Located<String>,
    pub kind: SourceKind,
    pub event: Option<EventMapping>,
}

#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Listens where `[server] http` says, with the server's token.
    Http,
    Tcp {
        listen: Located<Address>,
        /// What the first line of a connection must show, if anything.
        token: Option<Secret>,
    },
    /// Asks a database for rows.
    Sql(Box<SqlSource>),
}

/// How an event's attributes are computed from other JSON (`body`). What is absent here is taken as in CloudEvents.
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
    NotYet,
}

const KINDS: [(&str, Kind); 4] = [("tcp", Kind::Tcp), ("http", Kind::Http), ("nats", Kind::NotYet), ("sql", Kind::Sql)];

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
            sources.push(Source { name, kind: SourceKind::Http, event: None });
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
            Kind::NotYet => {
                section.cx.not_yet(kind.at, "a source of this kind");
                return None;
            }
            Kind::Http => {
                read_http(&mut section, &name, server);
                Some(SourceKind::Http)
            }
            Kind::Tcp => read_tcp(&mut section, &name, &title),
            Kind::Sql => SqlSource::read(&mut section).map(|sql| SourceKind::Sql(Box::new(sql))),
        };
        let event = EventMapping::read(&mut section);
        section.finish();
        Some(Source { name, kind: kind?, event })
    }
}

fn read_http(section: &mut Section, name: &Located<String>, server: &Server) {
    if name.value != HTTP_SOURCE {
        let message = format!("the source of kind \"http\" must be named `{HTTP_SOURCE}`, not `{}`", name.value);
        section.cx.out.error(name.at, message).help("write [source.http]; where it listens is set by [server] http");
    } else if server.http.is_none() {
        section
            .cx
            .out
            .error(name.at, "there is no HTTP source: [server] http is off")
            .help("remove one of the two")
            .also(server.http.at);
    }
    section.unsupported(&["path", "format", "each", "respond", "listen", "token", "tls", "tls_cert", "tls_key"]);
}

fn read_tcp(section: &mut Section, name: &Located<String>, title: &str) -> Option<SourceKind> {
    if name.value == HTTP_SOURCE {
        let message = format!("the name `{HTTP_SOURCE}` belongs to the source that [server] http is");
        section.cx.out.error(name.at, message).help("choose another name, such as [source.tcp]");
    }
    let listen = section.required_string("listen", "add listen = \"127.0.0.1:7400\"");
    let token = read_token(section);
    section.unsupported(&["tls", "tls_cert", "tls_key"]);
    let listen = listen?;
    let listen = Located::new(Address::read(section.cx, &listen, "listen"), listen.at);
    warn_if_open(section.cx, &listen, token.as_ref(), &format!("[{title}]"));
    Some(SourceKind::Tcp { listen, token })
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
    let mut seen: Vec<Located<Address>> = http.into_iter().collect();
    for source in sources {
        let SourceKind::Tcp { listen, .. } = &source.kind else { continue };
        if let Some(other) = seen.iter().find(|other| other.collides_with(listen)) {
            let message = format!("{} is listened on twice", listen.value);
            let help = if other.at == server.http.at {
                "choose another port; [server] http has this one"
            } else {
                "choose another port"
            };
            let problem = cx.out.error(listen.at, message).help(help);
            problem.also = Some(other.at).filter(|at| *at != Location::START);
        }
        seen.push(listen.clone());
    }
}
