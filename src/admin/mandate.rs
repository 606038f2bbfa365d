//! Reading who asks for something by hand, and why: members `by` and `why` of a request's body.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::model::mandate::{MANDATE_BYTES_MAX, Mandate};

/// The members, to be flattened into what a request's body holds. Both may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    by: Option<String>,
    why: Option<String>,
}

/// What a request's body holds; nothing need be in it where everything may be left out.
///
/// # Errors
/// When it is no JSON object, or lacks something.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    // Lists would be read as the members in their order.
    if !bytes.trim_ascii().starts_with(b"{") {
        return Err(Problem::invalid("the body must be a JSON object, such as {\"by\": \"ann\", \"why\": \"a test\"}"));
    }
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(format!("the body is wrong: {error}")))
}

impl Asked {
    /// Who asks, and why.
    ///
    /// # Errors
    /// When one of them is too long to be kept.
    pub(super) fn mandate(self) -> Result<Mandate, Problem> {
        let part = |name: &str, text: Option<String>| match text.unwrap_or_default() {
            text if text.len() <= MANDATE_BYTES_MAX => Ok(text.into_boxed_str()),
            text => {
                let bytes = text.len();
                Err(Problem::invalid(format!("`{name}` has {bytes} bytes, at most {MANDATE_BYTES_MAX} are kept")))
            }
        };
        Ok(Mandate { by: part("by", self.by)?, why: part("why", self.why)? })
    }
}
