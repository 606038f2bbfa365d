//! docs/rules.md, the reference of the rule language: every block in it is what its first line says it is.
//!
//! | block | what is done with it |
//! |---|---|
//! | `toml rules` | `turnstile check` has nothing to say; the blocks after it are about these rules |
//! | `toml test` | put beside the rules, `turnstile test` passes |
//! | `toml warns`, `toml refused` | `turnstile check` says what the `text` block after it shows |
//! | `json events`, `json document TYPE/KEY` | sent to a server with the rules, the events come to the document, in which `…` is anything |
//!
//! Of a table headed `TYPE/KEY: expression` each row is evaluated over what the last test left.

mod common;

use std::path::Path;
use std::process::Command;

use common::orders::NDJSON;
use common::{Setup, percent};

const PAGE: &str = "docs/rules.md";
const TABLE: &str = ": expression | comes to |";

/// If this failed, people would copy rules that do something else than the page says, or nothing at all.
#[test]
fn every_block_is_as_it_says() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).expect("the page");
    let mut page = Page::default();
    for block in blocks(&text) {
        page.take(&block);
    }
    assert!(page.wrong.is_empty(), "{} blocks are wrong\n\n{}", page.wrong.len(), page.wrong.join("\n"));
    assert_eq!(page.expects, None, "a `text` block is missing at the end");
    assert!(page.tests >= 8 && page.rows >= 30, "only {} tests and {} rows were found", page.tests, page.rows);
}

/// A fenced block, or a table of expressions, whose `info` is the entity they are about.
struct Block {
    line: usize,
    info: String,
    text: String,
}

#[derive(Default)]
struct Page {
    rules: String,
    test: String,
    events: String,
    /// What the block before said that is to be shown next.
    expects: Option<String>,
    wrong: Vec<String>,
    tests: usize,
    rows: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut in_fence, mut in_table) = (false, false);
    for (line, text) in (1..).zip(page.lines()) {
        let start = |info: &str| Block { line, info: info.to_owned(), text: String::new() };
        if let Some(info) = text.strip_prefix("```") {
            in_fence = !in_fence;
            blocks.extend(in_fence.then(|| start(info)));
        } else if !in_fence && !in_table && text.ends_with(TABLE) {
            in_table = true;
            blocks.push(start(text));
        } else if in_table && !text.starts_with('|') {
            in_table = false;
        } else if let Some(block) = blocks.last_mut().filter(|_| in_fence || in_table) {
            block.text.extend([text, "\n"]);
        }
    }
    assert!(!in_fence, "a block is not closed");
    blocks
}

impl Page {
    fn take(&mut self, block: &Block) {
        let expects = self.expects.take();
        let words: Vec<&str> = block.info.split(' ').collect();
        let outcome = match (words.as_slice(), expects) {
            (["text"], Some(said)) if said.trim_end() == block.text.trim_end() => Ok(()),
            (["text"], Some(said)) => Err(format!("it says\n{said}")),
            (_, Some(said)) => Err(format!("a `text` block is missing before it, with\n{said}")),
            (["toml", "rules"], None) => {
                self.rules.clone_from(&block.text);
                said_of("check", &block.text, 0).and_then(|said| match said.strip_prefix("ok: ") {
                    Some(_) => Ok(()),
                    None => Err(said),
                })
            }
            (["toml", "test"], None) => {
                self.tests += 1;
                self.test.clone_from(&block.text);
                said_of("test", &[&*self.rules, &block.text].concat(), 0).map(|_| ())
            }
            (["toml", "warns"], None) => said_of("check", &block.text, 0).map(|said| {
                let warned = said.lines().filter(|line| !line.starts_with("ok: ")).collect::<Vec<_>>().join("\n");
                self.expects = Some(warned);
            }),
            (["toml", "refused"], None) => said_of("check", &block.text, 2).map(|said| self.expects = Some(said)),
            (["json", "events"], None) => {
                self.events.clone_from(&block.text);
                Ok(())
            }
            (["json", "document", entity], None) => self.document(entity, &block.text),
            (["|", entity, "expression", "|", "comes", "to", "|"], None) => {
                self.table(entity.trim_end_matches(':'), &block.text)
            }
            _ => Err("what is to be done with it? See tests/docs.rs".to_owned()),
        };
        if let Err(why) = outcome {
            self.wrong.push(format!("{PAGE}:{}: {}\n{why}", block.line, block.info));
        }
    }

    /// Each expression as a derived value beside those of the rules, compared with what is beside it.
    fn table(&mut self, entity: &str, rows: &str) -> Result<(), String> {
        let kind = entity.split('/').next().unwrap_or_default();
        let (mut derived, mut that) = (format!("[entity.{kind}.derived]\n"), String::new());
        for (n, row) in rows.lines().skip(1).enumerate() {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [expression, value] = cells.as_slice() else { return Err(format!("not two cells: {row}")) };
            let code = |cell: &str| cell.trim_matches('`').replace("\\|", "|");
            let row = format!("{kind}.row{n}");
            derived.extend([&format!("row{n} = '''"), &*code(expression), "'''\n"]);
            let expected =
                if *value == "unknown" { format!("!has({row})") } else { format!("{row} == {}", code(value)) };
            that.extend(["    '''", &expected, "''',\n"]);
            self.rows += 1;
        }
        let expect = format!("[[test.expect]]\nentity = \"{entity}\"\nthat = [\n{that}]\n");
        said_of("test", &[&*self.rules, &derived, &self.test, &expect].concat(), 0).map(|_| ())
    }

    fn document(&self, entity: &str, shown: &str) -> Result<(), String> {
        let (kind, key) = entity.split_once('/').ok_or("no entity")?;
        let server = Setup::new(&self.rules).start();
        server.post("/v1/events?wait=applied", NDJSON, &self.events).expect(200);
        let document = server.get(&format!("/v1/entities/{kind}/{}", percent(key))).expect(200).text();
        let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let (shown, document) = (bare(shown), bare(&document));
        let mut rest = document.as_str();
        for (n, part) in shown.split('…').enumerate() {
            match rest.find(part) {
                Some(0) => rest = &rest[part.len()..],
                Some(at) if n > 0 => rest = &rest[at + part.len()..],
                _ => return Err(document),
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(document) }
    }
}

/// What a command says of a configuration, if its exit code is this one.
fn said_of(command: &str, config: &str, code: i32) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("rules.toml"), config).expect("the configuration");
    let output = Command::new(env!("CARGO_BIN_EXE_turnstile"))
        .args([command, "-c", "rules.toml"])
        .current_dir(folder.path())
        .env_remove("TURNSTILE_CONFIG")
        .output()
        .expect("the binary runs");
    let said = String::from_utf8([output.stderr, output.stdout].concat()).expect("UTF-8");
    if output.status.code() == Some(code) { Ok(said) } else { Err(said) }
}

/// If this failed, blocks without a mark would be passed over: nobody would know that they are wrong.
#[test]
fn a_block_without_a_mark_is_wrong() {
    let mut page = Page::default();
    for block in
        blocks("```toml\n[entity]\n```\n```toml rules\n[entity.\n```\n| a/b: expression | comes to |\n|---|\n| x |\n")
    {
        page.take(&block);
    }
    let wrong: Vec<&str> = page.wrong.iter().filter_map(|wrong| wrong.lines().next()).collect();
    let heads =
        ["docs/rules.md:1: toml", "docs/rules.md:4: toml rules", "docs/rules.md:7: | a/b: expression | comes to |"];
    assert_eq!(wrong, heads);
}
