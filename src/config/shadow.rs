//! A configuration turned into its shadow's: the same sources and rules, a data folder of its own, and nothing that anybody
//! outside notices.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Config;
use super::sinks::SinkKind;
use super::source_nats::NatsFrom;
use super::sources::SourceKind;

/// What names of a shadow's own end with.
const SUFFIX: &str = "-shadow";
/// What the files of its sinks end with.
const FILE_SUFFIX: &str = ".shadow";

impl Config {
    /// The shadow's configuration, and the names of sinks that it does without.
    #[must_use]
    pub fn shadow(mut self) -> (Self, Vec<String>) {
        self.server.data_dir = with_suffix(&self.server.data_dir, SUFFIX);
        let is_local = |kind: &SinkKind| matches!(kind, SinkKind::Stdout | SinkKind::File { .. });
        let (local, others) = self.sinks.into_iter().partition(|sink| is_local(&sink.kind));
        self.sinks = local;
        for sink in &mut self.sinks {
            if let SinkKind::File { path } = &mut sink.kind {
                *path = with_suffix(path, FILE_SUFFIX);
            }
        }
        for source in &mut self.sources {
            let SourceKind::Nats(nats) = &mut source.kind else { continue };
            // Whoever shares a consumer or a queue takes messages from the others.
            match &mut nats.from {
                NatsFrom::Stream { consumer, .. } => consumer.push_str(SUFFIX),
                NatsFrom::Core { queue: Some(queue) } => queue.push_str(SUFFIX),
                NatsFrom::Core { queue: None } => {}
            }
        }
        let others: Vec<super::Sink> = others;
        (self, others.into_iter().map(|sink| sink.name.value).collect())
    }
}

/// The path with this behind its last part.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.file_name().map_or_else(|| "data".into(), OsString::from);
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    /// If this failed, a shadow would write into production's files, or take its messages away.
    #[test]
    fn a_shadow_shares_nothing_that_production_would_miss() {
        let text = "[server]\ndata_dir = \"/var/data/\"\n\
                    [source.stream]\nkind = \"nats\"\nservers = [\"nats://h\"]\nstream = \"S\"\nconsumer = \"turnstile\"\n\
                    [source.shared]\nkind = \"nats\"\nservers = [\"nats://h\"]\nsubjects = [\"a\"]\nqueue = \"q\"\n\
                    [sink.file]\nkind = \"file\"\npath = \"/out/decisions.ndjson\"\n[sink.screen]\nkind = \"stdout\"\n\
                    [sink.hook]\nkind = \"webhook\"\nurl = \"https://h/\"\nsecret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\"\n\
                    [entity.a]\nkey = \"event.subject\"\nfields = { f = { on = \"A\", take = \"latest\" } }\n";
        let loaded = load_str(text, &|_| None);
        let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.files)));
        let (shadow, left_out) = config.shadow();
        assert_eq!(shadow.server.data_dir, Path::new("/var/data-shadow"));
        assert_eq!(left_out, ["hook"]);
        let SinkKind::File { path } = &shadow.sinks[0].kind else { panic!("{:?}", shadow.sinks) };
        assert_eq!((path.as_path(), shadow.sinks.len()), (Path::new("/out/decisions.ndjson.shadow"), 2));
        let from = shadow.sources.iter().filter_map(|source| match &source.kind {
            SourceKind::Nats(nats) => Some((source.name.value.as_str(), nats.from.clone())),
            _ => None,
        });
        let mut from: Vec<_> = from.collect();
        from.sort_by_key(|(name, _)| *name);
        let stream = NatsFrom::Stream { stream: "S".to_owned(), consumer: "turnstile-shadow".to_owned() };
        let queue = NatsFrom::Core { queue: Some("q-shadow".to_owned()) };
        assert_eq!(from, [("shared", queue), ("stream", stream)]);
    }
}
