//! What happened: `GET /v1/entities/{type}/{key}/history`, the records of one entity, and `GET /v1/correlations/{id}`, those
//! of all entities that have to do with one correlation id.
//!
//! Only the blocks of the journal are read in which a page's records are, and a few before them.

mod correlation;
mod records;
mod told;
mod type_pauses;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) use self::correlation::of_correlation;
use self::told::Telling;
use super::api::Api;
use super::entity::{asked_for, push_item, unknown, unreadable};
use super::problem::Problem;
use super::query::{page_items, query};
use crate::model::ids::{EntityKey, Lsn, Version};
use crate::model::system::PAUSE_KIND;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    after: Option<String>,
    before: Option<String>,
    order: Option<Order>,
    limit: Option<usize>,
}

/// From which end a history is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Asc,
    Desc,
}

pub(super) async fn of_entity(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (rules, entity) = asked_for(&api, &request)?;
    let query: Query = query(&request)?;
    let limit = page_items(query.limit)?;
    let after = query.after.as_deref().map(|text| position("after", text)).transpose()?.unwrap_or_default();
    let before = query.before.as_deref().map(|text| position("before", text)).transpose()?.unwrap_or(END);
    let order = query.order.unwrap_or_default();
    let gone = || Problem::internal("the node is about to end");
    let book = api.shards.book(&entity).await.ok_or_else(gone)?;
    if book.version == Version(0) {
        return Err(unknown(&entity));
    }
    let type_pauses = EntityKey::new(PAUSE_KIND, entity.kind());
    let type_book = api.shards.book(&type_pauses).await.ok_or_else(gone)?;
    let (kind, key) = (entity.kind().to_owned(), entity.key().to_owned());
    let (version, duplicates) = (book.version.0, book.duplicates());
    let page = web::block(move || {
        let pauses = (&type_pauses, &type_book);
        let telling = Telling { api: &api, rules: &rules, entity: &entity, book: &book, pauses };
        telling.page(after, before, order, limit)
    });
    let page = page.await.map_err(|_| gone())??;
    let head = json!({
        "type": kind,
        "key": key,
        "version": version,
        "duplicates": duplicates,
        "trimmed_before": page.trimmed_before.map(|lsn| lsn.0),
    });
    Ok(answer(&head, &page.items, page.next))
}

/// The end of every journal.
const END: Lsn = Lsn(u64::MAX / 2);

/// A position as a request names it.
fn position(name: &str, text: &str) -> Result<Lsn, Problem> {
    let lsn = text.parse().ok().map(Lsn).filter(|lsn| *lsn < END);
    lsn.ok_or_else(|| {
        Problem::invalid(format!("{name} is {text:.60?}; it is an LSN or the `next` of an earlier answer"))
    })
}

/// An answer with the members of `head`, then items as they were written, then where to go on.
fn answer(head: &Value, items: &[Vec<u8>], next: Option<Lsn>) -> HttpResponse {
    let mut body = head.to_string().into_bytes();
    body.pop();
    body.extend_from_slice(br#","items":["#);
    let mut list = Vec::new();
    for item in items {
        push_item(&mut list, item);
    }
    body.extend_from_slice(&list);
    let next = next.map(|lsn| lsn.to_string());
    body.extend_from_slice(format!(r#"],"next":{}}}"#, json!(next)).as_bytes());
    HttpResponse::Ok().content_type("application/json").body(body)
}
