//! Reading Server-Sent Events as they come. The crates for it are unmaintained or bound to another version of `reqwest`;
//! of the format, a client needs these few lines.

/// An event that has data.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    pub event: String,
    pub data: String,
}

/// Cuts a body into events.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line that has not ended yet.
    line: Vec<u8>,
    event: ServerEvent,
    /// The id that was sent and belongs to what comes next.
    id: Option<String>,
}

impl Parser {
    /// Takes what came. Tells of each event with data, and of the position after it: `None` where the event has no data,
    /// and only the position is new.
    pub fn push(&mut self, bytes: &[u8], tell: &mut impl FnMut(Option<ServerEvent>, Option<String>)) {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                let id = self.id.take();
                if !event.data.is_empty() || id.is_some() {
                    tell((!event.data.is_empty()).then_some(event), id);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.id = Some(value.to_owned()),
                "event" => value.clone_into(&mut self.event.event),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
    }

    /// Bytes of an event whose end has not come.
    pub fn pending_bytes(&self) -> usize {
        self.line.len() + self.event.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, events would be cut in two where the network does, or positions be lost.
    #[test]
    fn events_are_found_however_they_are_cut() {
        let body = "retry: 1000\nid: 4\n\n: heartbeat\nid: 5\n\nid: 6.1\r\nevent: decision\r\ndata: {\"a\":\r\ndata:1}\r\n\r\n\
                    event: end\ndata: é\n\n\n";
        let event = |event: &str, data: &str| Some(ServerEvent { event: event.to_owned(), data: data.to_owned() });
        let id = |id: &str| Some(id.to_owned());
        let expected = [
            (None, id("4")),
            (None, id("5")),
            (event("decision", "{\"a\":\n1}"), id("6.1")),
            (event("end", "é"), None),
        ];
        for size in 1..=body.len() {
            let (mut parser, mut told) = (Parser::default(), Vec::new());
            for part in body.as_bytes().chunks(size) {
                parser.push(part, &mut |event, id| told.push((event, id)));
            }
            assert_eq!(told, expected, "in parts of {size} bytes");
            assert_eq!(parser.pending_bytes(), 0);
        }
    }
}
