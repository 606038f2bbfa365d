//! XML in, as values: elements are maps, what repeats is a list, attributes are `@name`. Names lose their prefixes. Reading
//! is bounded in depth; there are no entities but those that XML itself has, and no document types.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::refusal::{Code, Refusal};
use super::value::{Map, Value};

/// The text of an element that has attributes or elements, too.
const TEXT: &str = "#text";
const MARK: char = '\u{feff}';

/// Parses one XML document: a map with its root element.
///
/// # Errors
/// `invalid_value`, saying where; `too_deep` beyond `depth_max` nested elements.
pub fn parse(bytes: &[u8], depth_max: usize) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.valid_up_to(), &"it is not UTF-8"))?;
    let mut reader = Reader::from_str(text.strip_prefix(MARK).unwrap_or(text));
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let event = reader.read_event().map_err(|error| invalid(at, &error))?;
        let closed = match event {
            Event::Start(start) => {
                let element = begun(&start, &open, root.is_some(), depth_max, at)?;
                open.push(element);
                None
            }
            Event::Empty(start) => Some(begun(&start, &open, root.is_some(), depth_max, at)?),
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                add(&mut open, &text.xml10_content(), at)?;
                None
            }
            Event::CData(text) => {
                add(&mut open, &text.xml10_content(), at)?;
                None
            }
            Event::GeneralRef(reference) => {
                add(&mut open, &resolved(&reference, at)?, at)?;
                None
            }
            Event::DocType(_) => return Err(invalid(at, &"document types (DTDs) are not read")),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => None,
            Event::Eof => break,
        };
        if let Some(element) = closed {
            let (name, value) = element.closed();
            match open.last_mut() {
                Some(parent) => parent.members.push((name, value)),
                None => root = Some((name, value)),
            }
        }
    }
    match root {
        Some(root) if open.is_empty() => {
            let value = Value::Map([root].into_iter().collect());
            // Lists of what repeats are levels of their own.
            if depth(&value) > depth_max { Err(too_deep(depth_max)) } else { Ok(value) }
        }
        _ => Err(invalid(bytes.len(), &"it ends too early")),
    }
}

/// An element that begins inside of those that are open.
fn begun(
    start: &BytesStart<'_>,
    open: &[Element],
    has_root: bool,
    depth_max: usize,
    at: usize,
) -> Result<Element, Refusal> {
    if has_root {
        return Err(invalid(at, &"there is a second root element"));
    }
    if open.len() >= depth_max {
        return Err(too_deep(depth_max));
    }
    Element::new(start, at)
}

/// An element of which the end has not come.
struct Element {
    name: Box<str>,
    /// Attributes and elements, as they came.
    members: Vec<(Box<str>, Value)>,
    text: String,
    is_nil: bool,
}

impl Element {
    fn new(start: &BytesStart<'_>, at: usize) -> Result<Self, Refusal> {
        let mut element = Element {
            name: start.local_name().as_ref().into(),
            members: Vec::new(),
            text: String::new(),
            is_nil: false,
        };
        // The check for repeated names compares each with all before; here the last one counts.
        for attribute in start.attributes().with_checks(false) {
            element.attribute(&attribute.map_err(|error| invalid(at, &error))?, at)?;
        }
        Ok(element)
    }

    fn attribute(&mut self, attribute: &Attribute<'_>, at: usize) -> Result<(), Refusal> {
        let key = attribute.key.as_ref();
        if key == "xmlns" || key.starts_with("xmlns:") {
            return Ok(());
        }
        let value =
            attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).map_err(|error| invalid(at, &error))?;
        if key == "xsi:nil" {
            self.is_nil = matches!(&*value, "true" | "1");
        } else {
            let name = format!("@{}", attribute.key.local_name().as_ref());
            self.members.push((name.into(), Value::string(&*value)));
        }
        Ok(())
    }

    /// The element as a member of the one around it.
    fn closed(mut self) -> (Box<str>, Value) {
        if self.is_nil {
            return (self.name, Value::Null);
        }
        if self.members.is_empty() {
            return (self.name, Value::string(self.text));
        }
        // Between elements, white space only makes it readable.
        if !self.text.trim().is_empty() {
            self.members.push((TEXT.into(), Value::string(self.text)));
        }
        // Stable, so that what repeats keeps its order.
        self.members.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut grouped: Vec<(Box<str>, Vec<Value>)> = Vec::new();
        for (name, value) in self.members {
            match grouped.last_mut() {
                Some((last, values)) if *last == name => values.push(value),
                _ => grouped.push((name, vec![value])),
            }
        }
        let member = |(name, mut values): (Box<str>, Vec<Value>)| match values.pop() {
            // The last of an attribute counts.
            Some(last) if values.is_empty() || name.starts_with('@') => (name, last),
            Some(last) => {
                values.push(last);
                (name, Value::List(values))
            }
            None => (name, Value::Null),
        };
        (self.name, Value::Map(grouped.into_iter().map(member).collect::<Map>()))
    }
}

fn add(open: &mut [Element], text: &str, at: usize) -> Result<(), Refusal> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(invalid(at, &"there is text outside of the root element")),
    }
    Ok(())
}

/// What `&name;` or `&#n;` stands for.
fn resolved(reference: &BytesRef<'_>, at: usize) -> Result<String, Refusal> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| invalid(at, &error))? {
        return Ok(character.to_string());
    }
    let name: &str = reference;
    let known =
        resolve_predefined_entity(name).ok_or_else(|| invalid(at, &format!("the entity `{name:.40}` is unknown")))?;
    Ok(known.to_owned())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Map(members) => 1 + members.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn too_deep(depth_max: usize) -> Refusal {
    Refusal::new(Code::TooDeep, format!("nested deeper than {depth_max} levels"))
}

fn invalid(at: usize, why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::InvalidValue, format!("not XML at byte {at}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    /// If this failed, mappings over XML would not find what is there.
    #[test]
    fn elements_become_values() {
        for (xml, expected) in [
            ("<a/>", r#"{"a":""}"#),
            ("<?xml version='1.0' encoding='UTF-8'?>\n<a> x </a>\n", r#"{"a":" x "}"#),
            ("\u{feff}<a>1</a>", r#"{"a":"1"}"#),
            ("<s:a xmlns:s='u' xmlns='v'><s:b>1</s:b> <c>2</c></s:a>", r#"{"a":{"b":"1","c":"2"}}"#),
            ("<a><b>2</b><c/><b>1</b></a>", r#"{"a":{"b":["2","1"],"c":""}}"#),
            ("<a s:id='1' b='&lt;&#65;'>t</a>", r##"{"a":{"#text":"t","@b":"<A","@id":"1"}}"##),
            ("<a x='1' x='2'/>", r#"{"a":{"@x":"2"}}"#),
            ("<a>x<b/>y</a>", r##"{"a":{"#text":"xy","b":""}}"##),
            ("<a>&amp;&#x41;<![CDATA[<&]]><!-- c --><?p i?></a>", r#"{"a":"&A<&"}"#),
            ("<a><b xsi:nil='true'/><c xsi:nil='false'>1</c></a>", r#"{"a":{"b":null,"c":"1"}}"#),
            ("<a>\r\n</a>", r#"{"a":"\n"}"#),
        ] {
            let value = parse(xml.as_bytes(), 4).unwrap_or_else(|refusal| panic!("{xml}: {}", refusal.message));
            assert_eq!(json::to_string(&value), expected, "{xml}");
        }
    }

    /// If this failed, a document could make more of itself than its bytes, reach for files, or be taken half read.
    #[test]
    fn what_is_no_plain_xml_is_refused() {
        for (xml, code, part) in [
            ("", Code::InvalidValue, "ends too early"),
            ("x", Code::InvalidValue, "outside of the root"),
            ("<a>", Code::InvalidValue, "ends too early"),
            ("<a></b>", Code::InvalidValue, "not XML at byte 3"),
            ("<a/><b/>", Code::InvalidValue, "second root"),
            ("<a/>x", Code::InvalidValue, "outside of the root"),
            ("<a b=1/>", Code::InvalidValue, "not XML"),
            ("<a>&lol;</a>", Code::InvalidValue, "the entity `lol` is unknown"),
            ("<a b='&lol;'/>", Code::InvalidValue, "not XML"),
            ("<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", Code::InvalidValue, "document types"),
            ("<a><a><a><a><a/></a></a></a></a>", Code::TooDeep, "4 levels"),
            ("<a><a><a><a><a></a></a></a></a></a>", Code::TooDeep, "4 levels"),
            ("<a><b><c><d/><d/></c><c/></b></a>", Code::TooDeep, "4 levels"),
        ] {
            let refusal = parse(xml.as_bytes(), 4).unwrap_err();
            assert_eq!(refusal.code, code, "{xml}: {}", refusal.message);
            assert!(refusal.message.contains(part), "{xml}: {}", refusal.message);
        }
        assert!(parse(b"<a>\xff</a>", 4).unwrap_err().message.contains("byte 3: it is not UTF-8"));
    }
}
