//! JSON in and out. Reading is strict (RFC 8259) and bounded in depth; numbers keep their exact value.

use jiter::{Jiter, JiterErrorType, JsonErrorType, Peek};

use super::number::Decimal;
use super::refusal::{Code, Refusal};
use super::value::{Map, Value};

/// Normal doubles hold every decimal number of up to this many digits (subnormal ones hold fewer).
const DIGITS_EXACT_IN_DOUBLE: usize = 15;

/// Parses one JSON document.
///
/// # Errors
/// `invalid_json`, saying where; `too_deep` beyond `depth_max` nested arrays and objects.
pub fn parse(bytes: &[u8], depth_max: usize) -> Result<Value, Refusal> {
    let mut reader = Reader { jiter: Jiter::new(bytes), bytes, depth_left: depth_max, depth_max };
    let peek = reader.peek()?;
    let value = reader.value(peek)?;
    reader.jiter.finish().map_err(|error| reader.invalid(&error))?;
    Ok(value)
}

/// Cuts a JSON array into the texts of its elements, without reading them further than that takes; none if there are more
/// than `count_max`. An element may turn out to be no JSON when it is parsed.
///
/// # Errors
/// `invalid_json` or `too_deep` if its elements cannot be told apart.
pub fn elements(bytes: &[u8], count_max: usize) -> Result<Option<Vec<&[u8]>>, Refusal> {
    let reader = Reader { jiter: Jiter::new(bytes), bytes, depth_left: 0, depth_max: usize::from(u8::MAX) };
    let mut jiter = Jiter::new(bytes);
    let mut cut = || {
        let mut elements = Vec::new();
        let mut next = jiter.next_array()?;
        while let Some(peek) = next {
            if elements.len() == count_max {
                return Ok(None);
            }
            let start = jiter.current_index();
            jiter.known_skip(peek)?;
            elements.push(jiter.slice_to_current(start));
            next = jiter.array_step()?;
        }
        jiter.finish()?;
        Ok(Some(elements))
    };
    cut().map_err(|error| reader.invalid(&error))
}

struct Reader<'j> {
    jiter: Jiter<'j>,
    bytes: &'j [u8],
    depth_left: usize,
    depth_max: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Result<Peek, Refusal> {
        self.jiter.peek().map_err(|error| self.invalid(&error))
    }

    fn value(&mut self, peek: Peek) -> Result<Value, Refusal> {
        match peek {
            Peek::Null => self.jiter.known_null().map(|()| Value::Null).map_err(|error| self.invalid(&error)),
            Peek::True | Peek::False => {
                self.jiter.known_bool(peek).map(Value::Bool).map_err(|error| self.invalid(&error))
            }
            Peek::String => match self.jiter.known_str() {
                Ok(text) => Ok(Value::string(text)),
                Err(error) => Err(self.invalid(&error)),
            },
            Peek::Array => self.nested(Self::array),
            Peek::Object => self.nested(Self::object),
            _ => self.number(peek),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<Value, Refusal>) -> Result<Value, Refusal> {
        if self.depth_left == 0 {
            return Err(Refusal::new(
                Code::TooDeep,
                format!("nested deeper than {} levels (limits.json_depth_max)", self.depth_max),
            ));
        }
        self.depth_left -= 1;
        let value = read(self);
        self.depth_left += 1;
        value
    }

    fn array(&mut self) -> Result<Value, Refusal> {
        let mut items = Vec::new();
        let mut next = self.jiter.known_array().map_err(|error| self.invalid(&error))?;
        while let Some(peek) = next {
            items.push(self.value(peek)?);
            next = self.jiter.array_step().map_err(|error| self.invalid(&error))?;
        }
        Ok(Value::List(items))
    }

    fn object(&mut self) -> Result<Value, Refusal> {
        let mut members = Vec::new();
        let mut next = match self.jiter.known_object() {
            Ok(key) => key.map(Box::<str>::from),
            Err(error) => return Err(self.invalid(&error)),
        };
        while let Some(key) = next {
            let peek = self.peek()?;
            members.push((key, self.value(peek)?));
            next = match self.jiter.next_key() {
                Ok(key) => key.map(Box::<str>::from),
                Err(error) => return Err(self.invalid(&error)),
            };
        }
        Ok(Value::Map(members.into_iter().collect::<Map>()))
    }

    fn number(&mut self, peek: Peek) -> Result<Value, Refusal> {
        let start = self.jiter.current_index();
        let text = match self.jiter.known_number_bytes(peek) {
            Ok(text) => std::str::from_utf8(text).unwrap_or_default(),
            Err(error) => return Err(self.invalid(&error)),
        };
        number(text).ok_or_else(|| {
            Refusal::new(
                Code::InvalidJson,
                format!("the number at byte {start} has too many digits to be kept exactly"),
            )
        })
    }

    fn invalid(&self, error: &jiter::JiterError) -> Refusal {
        let JiterErrorType::JsonError(kind) = &error.error_type else {
            return Refusal::new(Code::InvalidJson, format!("not JSON at byte {}", error.index));
        };
        match kind {
            JsonErrorType::RecursionLimitExceeded => {
                Refusal::new(Code::TooDeep, format!("nested deeper than {} levels", self.depth_max))
            }
            kind if error.index >= self.bytes.len() => {
                Refusal::new(Code::InvalidJson, format!("the JSON ends too early: {kind}"))
            }
            kind => Refusal::new(Code::InvalidJson, format!("not JSON at byte {}: {kind}", error.index)),
        }
    }
}

/// The value of a JSON number literal: an int where it fits, a double where it loses nothing, else a decimal.
/// `None` when it has more digits than [`super::number::NUMBER_DIGITS_MAX`].
pub fn number(text: &str) -> Option<Value> {
    let integral = !text.contains(['.', 'e', 'E']);
    if integral && let Ok(int) = text.parse::<i64>() {
        return Some(Value::Int(int));
    }
    let double: f64 = text.parse().ok()?;
    let digits = text.bytes().take_while(|b| !matches!(b, b'e' | b'E')).filter(u8::is_ascii_digit).count();
    if !integral && digits <= DIGITS_EXACT_IN_DOUBLE && (double.is_normal() || is_zero(text)) {
        return Some(Value::Double(if double == 0.0 { 0.0 } else { double }));
    }
    let exact = Decimal::parse(text)?.ok()?;
    match Decimal::from_double(double) {
        Some(as_double) if as_double == exact && !integral => {
            Some(Value::Double(if double == 0.0 { 0.0 } else { double }))
        }
        _ => Some(Value::decimal(exact)),
    }
}

fn is_zero(text: &str) -> bool {
    text.bytes().take_while(|b| !matches!(b, b'e' | b'E')).all(|b| !b.is_ascii_digit() || b == b'0')
}

/// Appends `value` as compact JSON: timestamps and durations as strings, decimals as plain numbers.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    const NUMBERS: NumberForms = NumberForms {
        double: |out, double| out.extend(ryu::Buffer::new().format_finite(double).as_bytes()),
        decimal: |out, decimal| out.extend(decimal.to_string().as_bytes()),
    };
    write_with(out, value, &NUMBERS);
}

/// [`write()`] as a string.
pub fn to_string(value: &Value) -> String {
    let mut out = Vec::new();
    write(&mut out, value);
    // Only whole strings and ASCII were written.
    String::from_utf8(out).unwrap_or_default()
}

/// Appends `value` as canonical JSON: as RFC 8785 (members sorted, no spaces, one form for each number, so that `1` and
/// `1.0` are the same), but with integers beyond 2^53 and decimals exact, and members sorted by code point.
pub fn write_canonical(out: &mut Vec<u8>, value: &Value) {
    const NUMBERS: NumberForms = NumberForms {
        double: |out, double| {
            if let Some(decimal) = Decimal::from_double(double) {
                canonical_number(out, &decimal);
            }
        },
        decimal: canonical_number,
    };
    write_with(out, value, &NUMBERS);
}

/// How numbers that are no ints are written.
struct NumberForms {
    double: fn(&mut Vec<u8>, f64),
    decimal: fn(&mut Vec<u8>, &Decimal),
}

fn write_with(out: &mut Vec<u8>, value: &Value, numbers: &NumberForms) {
    match value {
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Int(int) => out.extend(itoa::Buffer::new().format(*int).as_bytes()),
        Value::Double(double) if double.is_finite() => (numbers.double)(out, *double),
        // JSON has no infinities; only arithmetic on doubles makes them.
        Value::Null | Value::Double(_) => out.extend(b"null"),
        Value::Decimal(decimal) => (numbers.decimal)(out, decimal),
        Value::String(text) => write_string(out, text),
        Value::Timestamp(time) => write_string(out, &time.to_string()),
        Value::Duration(span) => write_string(out, &span.to_string()),
        Value::List(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_with(out, item, numbers);
            }
            out.push(b']');
        }
        Value::Map(members) => {
            out.push(b'{');
            for (n, (name, member)) in members.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_string(out, name);
                out.push(b':');
                write_with(out, member, numbers);
            }
            out.push(b'}');
        }
    }
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        serde_json::to_writer(out, text).expect("writing into memory cannot fail");
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// ECMAScript's form of a double, with all digits: plain up to 21 digits, then with an exponent.
fn canonical_number(out: &mut Vec<u8>, number: &Decimal) {
    let (sign, exponent, digits) = number.scientific();
    if sign < 0 {
        out.push(b'-');
    }
    let width = digits.len() as i64;
    match exponent {
        _ if sign == 0 => out.push(b'0'),
        1..=21 if width <= exponent => {
            out.extend(digits.bytes());
            out.extend(std::iter::repeat_n(b'0', (exponent - width) as usize));
        }
        1..=21 => {
            let (whole, fraction) = digits.split_at(exponent as usize);
            out.extend(whole.bytes());
            out.push(b'.');
            out.extend(fraction.bytes());
        }
        -5..=0 => {
            out.extend(b"0.");
            out.extend(std::iter::repeat_n(b'0', -exponent as usize));
            out.extend(digits.bytes());
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            out.extend(first.bytes());
            if !rest.is_empty() {
                out.push(b'.');
                out.extend(rest.bytes());
            }
            let exponent = exponent - 1;
            out.extend(format!("e{}{}", if exponent < 0 { '-' } else { '+' }, exponent.abs()).bytes());
        }
    }
}

impl From<&Value> for serde_json::Value {
    /// For printing and rendering at the edges; numbers that JSON libraries cannot hold become the nearest double.
    fn from(value: &Value) -> Self {
        serde_json::from_str(&to_string(value)).unwrap_or(serde_json::Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        to_string(&parse(text.as_bytes(), 64).unwrap())
    }

    /// If this failed, an event of a batch would be another one than was sent, or a batch could be of any length.
    #[test]
    fn elements_are_cut_as_they_stand() {
        let cut = |text: &'static str, max| {
            let elements = elements(text.as_bytes(), max);
            elements
                .map(|all| all.map(|all| all.into_iter().map(|one| str::from_utf8(one).unwrap()).collect::<Vec<_>>()))
        };
        assert_eq!(cut(" [ ] ", 0).unwrap(), Some(vec![]));
        let text = r#"[{"a":"],[ \" x"} , [1, [2]],3.50 ,null]"#;
        let elements = vec![r#"{"a":"],[ \" x"}"#, "[1, [2]]", "3.50", "null"];
        assert_eq!(cut(text, 4).unwrap(), Some(elements));
        assert_eq!(cut(text, 3).unwrap(), None);
        for wrong in ["", "[", "[1", "[1,]", "[1]x", "{}", "[1 2]"] {
            assert_eq!(cut(wrong, 4).unwrap_err().code, Code::InvalidJson, "{wrong}");
        }
    }

    #[test]
    fn numbers_keep_their_value() {
        for (text, written) in [
            ("9007199254740993", "9007199254740993"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("18446744073709551615", "18446744073709551615"),
            ("0.1", "0.1"),
            ("5.0", "5.0"),
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("1e400", &format!("1{}", "0".repeat(400))),
            ("0.12345678901234567890123", "0.12345678901234567890123"),
            ("3.141592653589793", "3.141592653589793"),
            ("1e-400", &format!("0.{}1", "0".repeat(399))),
            ("4.9e-324", &format!("0.{}49", "0".repeat(323))),
        ] {
            assert_eq!(round_trip(text), written);
        }
        assert_eq!(parse(b"1e99999", 64).unwrap_err().code, Code::InvalidJson);
    }

    #[test]
    fn canonical_form_has_one_spelling_per_number() {
        let canonical = |text: &str| {
            let mut out = Vec::new();
            write_canonical(&mut out, &parse(text.as_bytes(), 64).unwrap());
            String::from_utf8(out).unwrap()
        };
        for (text, expected) in [
            (r#"{"b":1.0,"a":[1,100e-2]}"#, r#"{"a":[1,1],"b":1}"#),
            ("1e21", "1e+21"),
            ("1e20", "100000000000000000000"),
            ("100000000000000000000", "100000000000000000000"),
            ("1000000000000000000000000000000", "1e+30"),
            ("1e30", "1e+30"),
            ("123456789012345678901234567890", "1.2345678901234567890123456789e+29"),
            ("1.5e-7", "1.5e-7"),
            ("0.000001", "0.000001"),
            ("-12.5", "-12.5"),
            (r#""\u00e9\u0001""#, "\"é\\u0001\""),
        ] {
            assert_eq!(canonical(text), expected);
        }
    }

    #[test]
    fn depth_is_bounded_and_errors_say_where() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(deep(64).as_bytes(), 64).is_ok());
        assert_eq!(parse(deep(65).as_bytes(), 64).unwrap_err().code, Code::TooDeep);
        assert_eq!(parse("[".repeat(1_000_000).as_bytes(), 64).unwrap_err().code, Code::TooDeep);
        let error = parse(br#"{"a":01}"#, 64).unwrap_err();
        assert_eq!(error.code, Code::InvalidJson);
        assert!(error.message.contains("at byte"), "{}", error.message);
        assert!(parse(b"[1] x", 64).is_err());
        assert!(parse(b"\xff", 64).is_err());
    }
}
