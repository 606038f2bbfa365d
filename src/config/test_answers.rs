//! What becomes of the calls that a `[[test]]` leads to. Nothing is called: a call without an answer stays asked for.

use super::diagnostics::Located;
use super::document::Node;
use super::entities::EntityType;
use super::names::suggest;
use super::reader::Context;
use super::test_blocks::{json_of, open};
use crate::model::dealings::{EffectOutcome, EffectStage};
use crate::model::packed::Packed;

pub(super) const ANSWERS_HELP: &str = "add effects = [{ effect = \"TYPE.NAME\", status = 200, response = { … } }]";

/// What becomes of an effect's calls. Where several fit, the n-th is for an entity's n-th call, and the last one for all
/// after it too.
#[derive(Clone, Debug)]
pub struct Answer {
    pub kind: String,
    pub effect: String,
    /// For this entity alone.
    pub key: Option<String>,
    pub outcome: EffectOutcome,
}

const STAGES: [(&str, EffectStage); 3] =
    [("succeeded", EffectStage::Succeeded), ("failed", EffectStage::Failed), ("unknown", EffectStage::Unknown)];

impl Answer {
    pub(super) fn read(cx: &mut Context, node: Node, types: Option<&[EntityType]>) -> Option<Answer> {
        let mut section = open(cx, "test.effects", node)?;
        let at = section.at;
        let is_said = section.peek("status").or(section.peek("state")).is_some();
        let effect = section.required_string("effect", "add effect = \"TYPE.NAME\": which effect is answered");
        let key = section.string("key").map(|key| key.value);
        let stage = section.choice("state", &STAGES).map(|stage| stage.value);
        let status = section.integer("status", 100..=599).map(|status| status as u16);
        let response = section.entry("response").and_then(|entry| json_of(section.cx, entry.node));
        let error = section.string("error").map(|error| error.value.into());
        section.finish();
        let stage = match (stage, status) {
            (Some(stage), _) => stage,
            (None, Some(200..=299)) => EffectStage::Succeeded,
            (None, Some(_)) => EffectStage::Failed,
            (None, None) if is_said => return None,
            (None, None) => {
                cx.out
                    .error(at, "nothing is said of what becomes of the call")
                    .help("add status = 200, or state = \"failed\"");
                return None;
            }
        };
        let outcome = EffectOutcome { stage, status, response: response.map(|it| Packed::new(&it)), error };
        let (kind, effect) = known(cx, &effect?, types)?;
        Some(Answer { kind, effect, key, outcome })
    }
}

/// The type and the name of the effect; `None` if there is none such.
fn known(cx: &mut Context, written: &Located<String>, types: Option<&[EntityType]>) -> Option<(String, String)> {
    let Some((kind, name)) = written.split_once('.') else {
        let help = "write effect = \"TYPE.NAME\", such as \"application.pull\"";
        cx.out.error(written.at, format!("`{}` is no effect of an entity type", written.value)).help(help);
        return None;
    };
    let types = types.unwrap_or_default();
    let effects = types
        .iter()
        .flat_map(|of| of.effects.iter().map(move |effect| format!("{}.{}", of.name.value, effect.name.value)));
    let effects: Vec<String> = effects.collect();
    if !types.is_empty() && !effects.contains(&written.value) {
        let help = suggest(written, effects.iter().map(String::as_str));
        cx.out.error(written.at, format!("there is no effect `{}`", written.value)).help = help;
        return None;
    }
    Some((kind.to_owned(), name.to_owned()))
}
