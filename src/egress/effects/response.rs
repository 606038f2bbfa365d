//! What is kept of an answer's body: rules read it, so it becomes part of the entity.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Response;

use crate::egress::client::root_cause;
use crate::model::json;
use crate::model::packed::Packed;
use crate::model::value::Value;

/// How much of a body is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    pub bytes_max: usize,
    pub json_depth_max: usize,
}

/// An answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// None if it is empty.
    Whole(Option<Packed>),
    /// There is more of it than is kept, which is nothing.
    TooLong { bytes_max: usize },
    /// Not all of it came.
    Broken { why: String },
}

impl Body {
    pub async fn read(mut response: Response, limits: BodyLimits) -> Body {
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() > limits.bytes_max => {
                    return Body::TooLong { bytes_max: limits.bytes_max };
                }
                Ok(Some(chunk)) => bytes.extend(chunk),
                Ok(None) => return Body::Whole(kept(bytes, limits.json_depth_max)),
                Err(error) => return Body::Broken { why: root_cause(&error) },
            }
        }
    }
}

/// JSON as it is, whatever it says it is; other text as a string; all else as a string in base64.
fn kept(bytes: Vec<u8>, json_depth_max: usize) -> Option<Packed> {
    if bytes.is_empty() {
        return None;
    }
    let value = json::parse(&bytes, json_depth_max).unwrap_or_else(|_| {
        let text = String::from_utf8(bytes);
        Value::string(text.unwrap_or_else(|error| BASE64_STANDARD.encode(error.as_bytes())))
    });
    Some(Packed::new(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, rules would read something else than what was answered.
    #[test]
    fn json_is_kept_as_it_is_and_all_else_as_a_string() {
        for (bytes, expected) in [
            (&b""[..], None),
            (br#" {"score": 712} "#, Some(r#"{"score":712}"#)),
            (b"12.50", Some("12.5")),
            (b"null", Some("null")),
            (b"OK\n", Some(r#""OK\n""#)),
            (br#"{"score": "#, Some(r#""{\"score\": ""#)),
            (br#"{"a":{"b":{"c":1}}}"#, Some(r#""{\"a\":{\"b\":{\"c\":1}}}""#)),
            (&[0xff, 0x00], Some(r#""/wA=""#)),
        ] {
            let shown = kept(bytes.to_vec(), 2).map(|packed| json::to_string(&packed.unpack()));
            assert_eq!(shown.as_deref(), expected, "{bytes:?}");
        }
    }
}
