//! The text of a source's query: SQL with the places of `:cursor` and `:limit`. Nothing else of it is understood here.

/// A place in the query that is filled in at each poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Cursor,
    Limit,
}

const PLACES: [(&str, Place); 2] = [("cursor", Place::Cursor), ("limit", Place::Limit)];

/// A query with its places.
#[derive(Clone, Debug)]
pub struct SqlQuery {
    /// As it was written.
    pub text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Place(Place),
}

impl SqlQuery {
    /// Finds the places; what stands in quotes and comments is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut query = SqlQuery { text: text.to_owned(), parts: Vec::new() };
        let (mut plain, mut rest) = (String::new(), text);
        while let Some(first) = rest.chars().next() {
            let name = placeholder(rest, plain.ends_with(':'));
            if name.is_empty() {
                let length = opaque(rest).unwrap_or(first.len_utf8());
                plain.push_str(&rest[..length]);
                rest = &rest[length..];
                continue;
            }
            let Some((_, place)) = PLACES.iter().find(|(known, _)| *known == name) else {
                return Err(format!("the query has a place `:{name}` that nothing is known of"));
            };
            query.parts.push(Part::Text(std::mem::take(&mut plain)));
            query.parts.push(Part::Place(*place));
            rest = &rest[1 + name.len()..];
        }
        query.parts.push(Part::Text(plain));
        match PLACES.iter().find(|(_, place)| !query.places().any(|found| found == *place)) {
            Some((name, _)) => Err(format!("the query has no `:{name}`")),
            None => Ok(query),
        }
    }

    /// The places in the order in which they stand.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.parts.iter().filter_map(|part| match part {
            Part::Place(place) => Some(*place),
            Part::Text(_) => None,
        })
    }

    /// The query with each place as the database spells it.
    pub fn spelled(&self, spell: impl Fn(Place) -> &'static str) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Place(place) => spell(*place).to_owned(),
        };
        self.parts.iter().map(part).collect()
    }
}

/// The name of the place that `rest` begins with, else nothing. `::` is a cast.
fn placeholder(rest: &str, after_colon: bool) -> &str {
    let Some(name) = rest.strip_prefix(':').filter(|_| !after_colon) else { return "" };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    &name[..name.find(|c| !is_name(c)).unwrap_or(name.len())]
}

/// The length of the quoted text or comment that `rest` begins with.
fn opaque(rest: &str) -> Option<usize> {
    let ends = [("'", "'"), ("\"", "\""), ("`", "`"), ("--", "\n"), ("/*", "*/")];
    let (begin, end) = ends.into_iter().find(|(begin, _)| rest.starts_with(begin))?;
    Some(rest[begin.len()..].find(end).map_or(rest.len(), |at| begin.len() + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, a query would be sent with holes, or with a value where the text only looks like a place.
    #[test]
    fn places_are_found_outside_of_quotes_and_comments() {
        let spell = |place| if place == Place::Cursor { "$1" } else { "$2" };
        for (text, expected) in [
            ("SELECT a WHERE id > :cursor LIMIT :limit", "SELECT a WHERE id > $1 LIMIT $2"),
            ("a::int, ':cursor' > :cursor, :limit", "a::int, ':cursor' > $1, $2"),
            (":cursor :cursor /* :x */ :limit -- :y\n \":z\"", "$1 $1 /* :x */ $2 -- :y\n \":z\""),
            ("x[1:2] 'it''s :x' `:y` é:cursor:limit", "x[1:2] 'it''s :x' `:y` é$1$2"),
        ] {
            assert_eq!(SqlQuery::read(text).unwrap().spelled(spell), expected);
        }
        for (text, part) in [
            ("SELECT 1 LIMIT :limit", "no `:cursor`"),
            ("SELECT ':limit' > :cursor", "no `:limit`"),
            ("> :cursor :limit :last_id", "`:last_id`"),
            ("> :cursor :limits", "`:limits`"),
        ] {
            let why = SqlQuery::read(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
