//! Entities in paths. Parts are decoded from the path as it was sent: a key may hold any character, `%2F` and `%00` too.

use actix_web::HttpRequest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::problem::Problem;
use crate::model::ids::EntityKey;

/// Everything but what the ids of decisions leave as it is, too.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'~').remove(b'-');

/// The path of an entity's document.
pub fn entity_link(entity: &EntityKey) -> String {
    let kind = utf8_percent_encode(entity.kind(), ESCAPED);
    format!("/v1/entities/{kind}/{}", utf8_percent_encode(entity.key(), ESCAPED))
}

/// The part of the path at `index`, counted from 0: `v1`, `entities`, the type, the key, …
pub(super) fn part(request: &HttpRequest, index: usize) -> Result<String, Problem> {
    let sent = request.uri().path().split('/').nth(index + 1).unwrap_or_default();
    match percent_decode_str(sent).decode_utf8() {
        Ok(part) => Ok(part.into_owned()),
        Err(_) => Err(Problem::invalid(format!("{sent} in the path is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    /// If this failed, links would lead to other entities than those they are for.
    #[test]
    fn links_lead_back_to_their_entity() {
        for key in ["order-123", "a/b", "%2F", "a%2Fb", "ü", "\0", "a b+c", "..", "?#", "\n", "\"", "~_-"] {
            let link = entity_link(&EntityKey::new("order", key));
            let request = TestRequest::with_uri(&link).to_http_request();
            assert_eq!(part(&request, 2).unwrap(), "order");
            assert_eq!(part(&request, 3).unwrap(), key, "{link}");
        }
        assert_eq!(entity_link(&EntityKey::new("order", "order-1/2")), "/v1/entities/order/order-1%2F2");
        let request = TestRequest::with_uri("/v1/entities/order/%FF").to_http_request();
        assert!(part(&request, 3).is_err());
    }
}
