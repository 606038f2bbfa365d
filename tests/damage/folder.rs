//! The folder that is damaged, made by the real binary, and all that can be read from it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde_json::json;
use turnstile::actors::Kept;
use turnstile::config::{self, Config};
use turnstile::model::codec::CodecError;
use turnstile::model::ids::{EntityKey, IdentityHash, Lsn};
use turnstile::node::replay::{Recovered, replay};
use turnstile::node::{self, Prepared, recovery};
use turnstile::store::CheckpointWriter;

use super::common::{Setup, wait_for};

const RULES: &str = r#"
[entity.meter]
key = "event.subject"
[entity.meter.fields]
readings = { on = "Read", take = "count" }
last = { on = "Read", take = "latest" }
[entity.meter.decision.Many]
when = "meter.readings > 2"
data = "meter.last"
"#;
/// Small segments and frequent checkpoints, so that there are several of everything.
const TUNING: &str = "[journal]\nsegment_bytes = \"1MiB\"\n[checkpoint]\njournal_bytes = \"64KiB\"\n";
const METERS: usize = 300;
/// Readings of one meter, most of which are identities in rows of their own.
const HOT: usize = 260;
const READINGS: usize = 900;
/// Readings after the last checkpoint: less than makes the next one due.
const TAIL: usize = 60;

/// A data folder in memory.
pub struct Image {
    pub files: BTreeMap<String, Vec<u8>>,
    pub keys: Vec<EntityKey>,
    pub truth: Found,
}

impl Image {
    fn of(folder: &Path) -> Image {
        let mut files = BTreeMap::new();
        for path in [folder.to_path_buf(), folder.join("journal")] {
            for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
                if entry.path().is_file() {
                    let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read(entry.path()).unwrap());
                }
            }
        }
        let meters = (0..METERS).map(|n| EntityKey::new("meter", meter(n)));
        let keys: Vec<_> = meters.chain([EntityKey::new("$sink", "decisions")]).collect();
        let truth = Found::default();
        let mut image = Image { files, keys, truth };
        let copy = tempfile::tempdir().unwrap();
        image.unpack(copy.path());
        image.truth = Reader::new(&image.keys).read(copy.path()).unwrap();
        image
    }

    pub fn unpack(&self, folder: &Path) {
        fs::create_dir_all(folder.join("journal")).unwrap();
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

/// The folder as a kill leaves it, and as a proper end does.
pub fn images() -> Vec<Image> {
    let mut server = Setup::new(RULES).tables(TUNING).start();
    let mut client = server.client();
    let mut read = |n: usize| {
        let of = if is_hot(n) { 0 } else { n * 7 % METERS };
        let reading =
            json!({"id": id(n), "type": "Read", "subject": meter(of), "time": "2026-11-20T10:00:00Z", "data": n});
        client.send(reading.to_string());
        client.settle(n as u64 + 1);
    };
    (0..READINGS).for_each(&mut read);
    wait_for("checkpoints", || {
        let watermark = server.metric("turnstile_watermark_lsn")?;
        (watermark > READINGS as f64 / 2.0).then_some(())
    });
    (READINGS..READINGS + TAIL).for_each(read);
    server.kill();
    let killed = Image::of(&server.path("data"));
    server.start();
    assert_eq!(server.terminate().code(), Some(0));
    let closed = Image::of(&server.path("data"));
    for image in [&killed, &closed] {
        assert!(image.files.len() >= 5, "several segments, the store, the lock: {:?}", image.files.keys());
        assert!(image.truth.spilled > 100 && image.truth.content.states.len() >= METERS / 2);
    }
    assert!(killed.truth.replayed > 0, "some is in the journal only");
    vec![killed, closed]
}

fn meter(n: usize) -> String {
    format!("meter-{n}")
}

/// Whether a reading is of the meter that has many.
fn is_hot(n: usize) -> bool {
    n.is_multiple_of(3) && n / 3 < HOT
}

fn id(n: usize) -> String {
    format!("reading-{n}")
}

/// All that a folder holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub content: Content,
    pub watermark: Lsn,
    pub highest: Lsn,
    pub replayed: u64,
    /// How many identities are beside their state.
    pub spilled: usize,
}

/// That of it which a checkpoint does not change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub states: BTreeMap<EntityKey, String>,
    /// Identities that are found, in the state or beside it.
    pub counted: Vec<bool>,
    pub records: Vec<(Lsn, Vec<u8>)>,
    /// Blocks that sinks would read.
    pub with_decisions: Vec<Lsn>,
}

impl Found {
    /// What is not as it was, in a line.
    pub fn difference(&self, truth: &Found) -> String {
        let (content, true_content) = (&self.content, &truth.content);
        let wrong = true_content.states.iter().find(|(key, state)| content.states.get(key) != Some(state));
        match wrong {
            Some((key, state)) => format!("{key} is {:?}, not {state}", content.states.get(key)),
            None => format!(
                "{} of {} records, {} of {} identities, {:?} for {:?}",
                content.records.len(),
                true_content.records.len(),
                content.counted.iter().filter(|counted| **counted).count(),
                content.counted.len(),
                (self.watermark, self.highest, self.replayed),
                (truth.watermark, truth.highest, truth.replayed),
            ),
        }
    }
}

/// Reads folders as a starting node does, and then everything else in them.
pub struct Reader<'k> {
    config: Config,
    prepared: Prepared,
    keys: &'k [EntityKey],
}

impl<'k> Reader<'k> {
    pub fn new(keys: &'k [EntityKey]) -> Self {
        let mut loaded = config::load_str(&Setup::new(RULES).tables(TUNING).text(), &|_| None);
        let config = loaded.config.take().expect("a right configuration");
        let prepared = node::prepare(&config, &loaded.files, &mut loaded.diagnostics).expect("right rules");
        Reader { config, prepared, keys }
    }

    fn open(&self, folder: &Path) -> Result<(recovery::Opened, Recovered), String> {
        let opened =
            recovery::open(folder, &self.config.tuning, &self.prepared.ruleset).map_err(|error| told(&error))?;
        let recovered = replay(&opened, &HashMap::new()).map_err(|error| told(&error))?;
        Ok((opened, recovered))
    }

    /// Everything; or what an operator would be told.
    pub fn read(&self, folder: &Path) -> Result<Found, String> {
        let (opened, recovered) = self.open(folder)?;
        let store = &opened.store;
        let (mut content, mut spilled) = (Content::default(), 0);
        for key in self.keys {
            let kept = match recovered.entities.get(key) {
                Some(handed) => Some(Kept::decode(&handed.bytes).map_err(|error| error.to_string())?),
                None => Kept::load(store, key).map_err(|error| told(&error))?,
            };
            let Some(Kept { entity, .. }) = kept else { continue };
            let shown = format!("{:?} {:?}", entity.state().fields, entity.state().ledger);
            content.states.insert(key.clone(), format!("{:?} {shown}", entity.version()));
            if *key.key() == *meter(0) {
                for n in (0..READINGS).filter(|n| is_hot(*n)) {
                    let identity = IdentityHash::of("default", &id(n));
                    let beside = store.identity(key, identity).map_err(|error| told(&error))?.is_some();
                    spilled += usize::from(beside);
                    content.counted.push(beside || entity.state().identities.get(identity).is_some());
                }
            }
        }
        let listed = store.keys("meter", None, "", usize::MAX).map_err(|error| told(&error))?;
        let unlisted = |key: &&EntityKey| key.kind() == "meter" && !recovered.entities.contains_key(key);
        if let Some(key) =
            content.states.keys().filter(unlisted).find(|key| !listed.iter().any(|listed| **listed == *key.key()))
        {
            content.states.insert(key.clone(), "is not listed".to_owned());
        }
        let journal = opened.journal.reader();
        for block in journal.read_from(journal.first_lsn()).map_err(|error| told(&error))? {
            let block = block.map_err(|error| told(&error))?;
            content.records.extend(block.records().map(|(lsn, record)| (lsn, record.to_vec())));
        }
        for block in journal.read_decisions_from(journal.first_lsn()).map_err(|error| told(&error))? {
            content.with_decisions.push(block.map_err(|error| told(&error))?.first_lsn);
        }
        Ok(Found {
            content,
            watermark: store.watermark().map_err(|error| told(&error))?,
            highest: store.highest_lsn().map_err(|error| told(&error))?,
            replayed: recovered.records,
            spilled,
        })
    }

    /// A checkpoint of what was recovered.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        let (opened, recovered) = self.open(folder)?;
        let decoded =
            recovered.entities.iter().map(|(key, handed)| Ok(Kept::decode(&handed.bytes)?.write(key.clone())));
        let rows = decoded.collect::<Result<Vec<_>, CodecError>>().map_err(|error| error.to_string())?;
        let mut writer = CheckpointWriter::new(opened.store.clone());
        let last = opened.journal.last_lsn();
        let written = writer.write(rows, last);
        written.and_then(|_| writer.finish(last)).map_err(|error| told(&error))
    }
}

/// An error as the log shows it.
fn told(error: &dyn std::error::Error) -> String {
    node::causes(error)
}
