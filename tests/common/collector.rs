//! A collector of OpenTelemetry: takes spans as OTLP over HTTP, and remembers them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::wait_for;

/// The collector; it listens as long as the test runs.
#[derive(Clone)]
pub struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    spans: Vec<Span>,
    /// Attributes of whoever sent them.
    resource: Vec<KeyValue>,
    /// Lines of the last request's head.
    head: Vec<String>,
}

impl Collector {
    pub fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let collector = Collector { address: listener.local_addr().expect("its address"), taken: Arc::default() };
        let taken = collector.taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let taken = taken.clone();
                std::thread::spawn(move || serve(&stream, &taken));
            }
        });
        collector
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that came so far.
    pub fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap().spans.clone()
    }

    /// Waits until so many spans have come.
    pub fn wait_for_spans(&self, count: usize) -> Vec<Span> {
        wait_for(&format!("{count} spans"), || Some(self.spans()).filter(|spans| spans.len() >= count))
    }

    /// What the sender says of itself, and how the last request began.
    pub fn sender(&self) -> (Vec<KeyValue>, Vec<String>) {
        let taken = self.taken.lock().unwrap();
        (taken.resource.clone(), taken.head.clone())
    }
}

fn serve(stream: &TcpStream, taken: &Mutex<Taken>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_ascii_lowercase()),
            }
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        reader.read_exact(&mut body).expect("a body");
        let request = ExportTraceServiceRequest::decode(&body[..]).expect("OTLP as protobuf");
        let mut taken = taken.lock().unwrap();
        taken.head = head;
        for resource in request.resource_spans {
            taken.resource = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            taken.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        drop(taken);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        let mut writer = stream;
        if writer.write_all(answer).is_err() {
            return;
        }
    }
}

/// The value of an attribute, as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}
