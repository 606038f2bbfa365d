//! What is verified: a running server, or the folder of one that is stopped. Both are asked the same and answer alike.

use std::path::Path;

use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::cli::check;
use crate::cli::client::{ANSWER_TIMEOUT, Client, ServerArgs, not_understood};
use crate::cli::failure::{Exit, Failure};
use crate::config::Config;
use crate::node::Prepared;
use crate::rehearsal::verify::{
    AgainstError, Batch, Effects, HELD_MAX, Options, Progress, Setup, Stopped, VerifyError, against, keys, verify,
};

/// So many keys are asked for at a time.
const KEYS_AT_ONCE: usize = 1_000;

/// What is verified.
pub enum Target<'a> {
    Running(Client<'a>),
    Stopped(Box<Folder>),
}

/// A data folder, with the configuration it belongs to.
pub struct Folder {
    config: Config,
    prepared: Prepared,
    world: Stopped,
    effects: Effects,
}

impl<'a> Target<'a> {
    /// The server.
    ///
    /// # Errors
    /// When nothing can be asked at all.
    pub fn running(server: &'a ServerArgs) -> Result<Self, Failure> {
        Client::new(server).map(Target::Running)
    }

    /// The folder of a stopped server.
    ///
    /// # Errors
    /// The configuration is wrong or another's (2), a server runs there or it cannot be read (3).
    pub fn stopped(folder: &Path, config: &Path) -> Result<Self, Failure> {
        let (config, prepared) = check::prepared(config)?;
        let (config, effects) = of_folder(folder, config);
        let world = Stopped::open(folder, &prepared.ruleset).map_err(failure)?;
        Ok(Target::Stopped(Box::new(Folder { config, prepared, world, effects })))
    }

    /// Verifies; gives the report.
    ///
    /// # Errors
    /// What is asked is wrong (2), it cannot be read (3).
    pub fn verify(&self, asked: &Json, tell: &mut dyn FnMut(Progress)) -> Result<Json, Failure> {
        let text = asked.to_string();
        match self {
            Target::Running(client) => running(client, &text, tell),
            Target::Stopped(folder) => {
                let options = Options::parse(text.as_bytes()).map_err(|why| Failure::message(Exit::Usage, why))?;
                let setup = Setup {
                    world: &folder.world,
                    ruleset: &folder.prepared.ruleset,
                    config: &folder.config,
                    options,
                    effects: folder.effects,
                    records_per_second: None,
                    held_max: HELD_MAX,
                };
                let mut go_on = |progress| {
                    tell(progress);
                    true
                };
                Ok(verify(&setup, &mut go_on).map_err(failure)?.to_json())
            }
        }
    }

    /// Compares rows of a list; gives what differs.
    ///
    /// # Errors
    /// The list is wrong (2), it cannot be compared (3).
    pub fn against(&self, rows: &[Box<RawValue>]) -> Result<Json, Failure> {
        let rows: Vec<&str> = rows.iter().map(|row| row.get()).collect();
        let batch = format!("{{\"rows\":[{}]}}", rows.join(","));
        match self {
            Target::Running(client) => {
                let answer = client.post(&["verify", "against"], &batch)?;
                let mut answer: Json =
                    serde_json::from_slice(&answer.body).map_err(|error| not_understood(&error.to_string()))?;
                Ok(answer["findings"].take())
            }
            Target::Stopped(folder) => {
                let batch: Batch = serde_json::from_str(&batch).map_err(|error| Failure::new(Exit::Usage, error))?;
                let found = against(&folder.world, &folder.prepared.ruleset, &batch).map_err(|error| match error {
                    AgainstError::Invalid(why) => Failure::message(Exit::Usage, why),
                    AgainstError::Failed(error) => failure(error),
                })?;
                Ok(found.to_json())
            }
        }
    }

    /// The next keys of a type; none where there are no more.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn keys(&self, kind: &str, after: Option<&str>) -> Result<Vec<String>, Failure> {
        match self {
            Target::Running(client) => {
                let mut query = vec![("limit", KEYS_AT_ONCE.to_string())];
                query.extend(after.map(|after| ("after", after.to_owned())));
                let answer = client.get(&["entities", kind], &query, ANSWER_TIMEOUT)?;
                let answer: Json =
                    serde_json::from_slice(&answer.body).map_err(|error| not_understood(&error.to_string()))?;
                let items = answer["items"].as_array().ok_or_else(|| not_understood("a page without items"))?;
                Ok(items.iter().filter_map(|item| item["key"].as_str().map(str::to_owned)).collect())
            }
            Target::Stopped(folder) => {
                let keys = keys(&folder.world, kind, after, KEYS_AT_ONCE).map_err(failure)?;
                Ok(keys.iter().map(ToString::to_string).collect())
            }
        }
    }
}

/// The configuration as it is for this folder: for that of its shadow, the shadow's.
fn of_folder(folder: &Path, config: Config) -> (Config, Effects) {
    let is =
        |known: &Path| known.canonicalize().ok().is_some_and(|known| folder.canonicalize().is_ok_and(|it| it == known));
    let (shadow, _) = config.clone().shadow();
    if is(&shadow.server.data_dir) { (shadow, Effects::LeftOut) } else { (config, Effects::Called) }
}

fn running(client: &Client<'_>, asked: &str, tell: &mut dyn FnMut(Progress)) -> Result<Json, Failure> {
    let mut report = None;
    let done = client.post_for_lines(&["verify"], &[], ("application/json", asked.to_owned()), |line| {
        let mut line: Json = serde_json::from_slice(line).map_err(|error| not_understood(&error.to_string()))?;
        if let Some(error) = line["error"].as_str() {
            return Err(Failure::message(Exit::Io, error.to_owned()));
        }
        let progress = &line["progress"];
        if let (Some(done), Some(total)) = (progress["done"].as_u64(), progress["total"].as_u64()) {
            tell(Progress { done, total, entities: progress["entities"].as_u64().unwrap_or_default() });
        }
        if line["report"].is_object() {
            report = Some(line["report"].take());
        }
        Ok(())
    });
    match (done, report) {
        (Ok(()), Some(report)) => Ok(report),
        (Ok(()), None) => Err(Failure::message(Exit::Io, "the server ended before it had a report".to_owned())),
        // Exit code 1 says that something was found; nothing was looked at.
        (Err(Failure::Told { exit: Exit::No, cause }), _) => Err(Failure::new(Exit::Io, cause)),
        (Err(failure), _) => Err(failure),
    }
}

fn failure(error: VerifyError) -> Failure {
    let exit = if matches!(error, VerifyError::RulesChanged(_)) { Exit::Usage } else { Exit::Io };
    Failure::new(exit, error)
}
