//! `[server]`: who this node is, where its data is, and where it listens for HTTP.

use std::path::PathBuf;

use super::address::Address;
use super::diagnostics::{Located, Location};
use super::document::Entry;
use super::door::Door;
use super::load::read_text;
use super::names::check_glob;
use super::reader::{Context, Section};
use super::secret::Secret;

/// `[server] name`.
pub const SERVER_NAME_DEFAULT: &str = "turnstile";
/// `[server] data_dir`, beside the main file.
pub const DATA_DIR_DEFAULT: &str = "data";
/// `[server] http`.
pub const HTTP_DEFAULT: &str = "127.0.0.1:7480";
/// What `[server] http` is set to for no HTTP at all.
pub(super) const HTTP_OFF: &str = "off";

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Part of every decision's source.
    pub name: String,
    pub data_dir: PathBuf,
    /// The folder in which backups may be made, if any are.
    pub backups: Option<PathBuf>,
    /// Where HTTP listens; none if it is `"off"`.
    pub http: Located<Option<Address>>,
    /// Where status, metrics and dead letters are served instead, and whatever changes the node.
    pub admin: Option<Located<Address>>,
    /// How HTTP knows whom to let in, there and there.
    pub door: Door,
    /// Globs of event types that are acknowledged and dropped when no entity type takes them.
    pub ignore: Vec<String>,
}

impl Server {
    pub(super) fn read(cx: &mut Context, entry: Option<Entry>) -> Server {
        let mut section = Section::open(cx, "server", entry);
        let name = section.string("name").unwrap_or(Located::new(SERVER_NAME_DEFAULT.into(), section.at));
        let valid = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        if name.is_empty() || !name.chars().all(valid) {
            let help = "it is part of a URI: use letters, digits, `.`, `_`, `~` and `-`";
            section.cx.out.error(name.at, format!("`{}` cannot be the server's name", name.value)).help(help);
        }
        let data_dir = section.path("data_dir").unwrap_or(Located::new(DATA_DIR_DEFAULT.into(), Location::START));
        let data_dir = section.cx.files.resolve(data_dir.at.file, &data_dir);
        let backups = section.path("backups").map(|backups| {
            let folder = section.cx.files.resolve(backups.at.file, &backups);
            if folder.starts_with(&data_dir) {
                let message = "`backups` is inside the data folder".to_owned();
                section.cx.out.error(backups.at, message).help("name a folder beside it, best on another disk");
            }
            folder
        });
        let ignore = section.strings("ignore").unwrap_or_default();
        for glob in &ignore {
            check_glob(glob, &mut section.cx.out);
        }
        let http = section.string("http").unwrap_or(Located::new(HTTP_DEFAULT.into(), section.at));
        let address = (*http != HTTP_OFF).then(|| Address::read(section.cx, &http, "http"));
        let admin = section.string("admin");
        let admin = admin.map(|admin| Located::new(Address::read(section.cx, &admin, "admin"), admin.at));
        let door = Door::read(&mut section, "server", None);
        let address = Located::new(address, http.at);
        check_listeners(section.cx, &address, admin.as_ref(), &door);
        section.finish();
        Server {
            name: name.value,
            data_dir,
            backups,
            http: address,
            admin,
            door,
            ignore: ignore.into_iter().map(|glob| glob.value).collect(),
        }
    }
}

fn check_listeners(cx: &mut Context, http: &Located<Option<Address>>, admin: Option<&Located<Address>>, door: &Door) {
    if let Some(address) = &http.value {
        let address = Located::new(address.clone(), http.at);
        door.check(cx, &address, "[server]");
        if let Some(admin) = admin.filter(|admin| admin.collides_with(&address)) {
            let message = format!("{} is listened on twice", admin.value);
            cx.out.error(admin.at, message).help("choose another port; `http` has this one");
        }
    } else if let Some(admin) = admin {
        cx.out.error(admin.at, "`admin` needs `http`").help("give `http` this address instead: it serves all of it");
    }
    if let Some(admin) = admin {
        door.check(cx, admin, "[server] admin");
    }
}

/// Reads `token` or the file that `token_file` names; both is an error.
pub(super) fn read_token(section: &mut Section) -> Option<Secret> {
    read_secret(section, "token", "token_file")
}

/// Reads a secret that is written down under `key`, or in the file that `file_key` names; both is an error.
pub(super) fn read_secret(section: &mut Section, key: &'static str, file_key: &'static str) -> Option<Secret> {
    section.hide(key);
    let direct = section.string(key);
    let file = section.path(file_key);
    let (secret, at) = match (direct, file) {
        (None, None) => return None,
        (Some(_), Some(file)) => {
            let message = format!("both `{key}` and `{file_key}` are given");
            section.cx.out.error(file.at, message).help("keep one of them");
            return None;
        }
        (Some(secret), None) => (secret.value, secret.at),
        (None, Some(file)) => (read_file(section, &file, &format!("the {key}"))?, file.at),
    };
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("the {key} is empty or has characters that cannot be sent");
        let help = format!("a {key} is made of visible ASCII characters, without spaces");
        section.cx.out.error(at, message).help(help);
        return None;
    }
    Some(Secret::new(secret))
}

/// Reads a text file without the line end it closes with.
pub(super) fn read_file(section: &mut Section, file: &Located<String>, what: &str) -> Option<String> {
    if !section.cx.may_read(file.at) {
        return None;
    }
    let path = section.cx.files.resolve(file.at.file, file);
    match read_text(&path) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(why) => {
            let message = format!("cannot read {what} from {}: {why}", path.display());
            section.cx.out.error(file.at, message).help("the path is relative to the file that names it");
            None
        }
    }
}
