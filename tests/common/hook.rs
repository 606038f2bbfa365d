//! An endpoint for webhooks that answers as the test says, and remembers what came.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use serde_json::Value;

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Call {
    pub headers: HashMap<String, String>,
    pub body: String,
    pub at: Instant,
    /// What was answered; none if nothing was.
    pub status: Option<u16>,
}

impl Call {
    /// What tells it from others: a webhook's id, an effect's key.
    pub fn id(&self) -> &str {
        self.headers.get("webhook-id").unwrap_or_else(|| &self.headers["idempotency-key"])
    }

    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The key it is about.
    pub fn key(&self) -> String {
        self.event()["subject"].as_str().expect("a subject").to_owned()
    }

    pub fn was_taken(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// What the endpoint does with a request.
pub enum Answer {
    Status(u16),
    Header(u16, &'static str, String),
    /// The connection is closed without an answer.
    Reset,
    /// 200 once the gate is open.
    Behind(Arc<Gate>),
}

/// Closed until it is opened.
#[derive(Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }
}

type Answers = dyn Fn(&Call, usize) -> Answer + Send + Sync;

/// The endpoint; it listens as long as the test runs.
#[derive(Clone)]
pub struct Hook {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Hook {
    /// Answers each request as `answers` says, which is told how many with the same id came before.
    pub fn start(answers: impl Fn(&Call, usize) -> Answer + Send + Sync + 'static) -> Hook {
        Hook::start_on(TcpListener::bind("127.0.0.1:0").expect("a port"), answers)
    }

    pub fn start_on(listener: TcpListener, answers: impl Fn(&Call, usize) -> Answer + Send + Sync + 'static) -> Hook {
        let hook = Hook { address: listener.local_addr().expect("its address"), calls: Arc::default() };
        let (calls, answers): (_, Arc<Answers>) = (hook.calls.clone(), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (calls, answers) = (calls.clone(), answers.clone());
                std::thread::spawn(move || serve(stream, &calls, &*answers));
            }
        });
        hook
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// A sink of this name that sends here, with what else is set for it.
    pub fn sink(&self, name: &str, settings: &str) -> String {
        format!(
            "[sink.{name}]\nkind = \"webhook\"\nurl = \"{}\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
             allow_private = true\n{settings}\n",
            self.url()
        )
    }

    /// Everything that came so far, in the order it came.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The ids that were taken, in order.
    pub fn taken(&self) -> Vec<String> {
        self.calls().iter().filter(|call| call.was_taken()).map(|call| call.id().to_owned()).collect()
    }
}

fn serve(stream: TcpStream, calls: &Mutex<Vec<Call>>, answers: &Answers) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut writer = stream;
    while let Some(call) = read(&mut reader) {
        let (at, before) = {
            let mut calls = calls.lock().unwrap();
            let before = calls.iter().filter(|other| other.id() == call.id()).count();
            calls.push(call.clone());
            (calls.len() - 1, before)
        };
        let (status, header) = match answers(&call, before) {
            Answer::Reset => return,
            Answer::Status(status) => (status, String::new()),
            Answer::Header(status, name, value) => (status, format!("{name}: {value}\r\n")),
            Answer::Behind(gate) => {
                gate.pass();
                (200, String::new())
            }
        };
        calls.lock().unwrap()[at].status = Some(status);
        let answer = format!("HTTP/1.1 {status} X\r\n{header}content-length: 2\r\n\r\nok");
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    assert!(line.starts_with("POST /hook"), "{line}");
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).expect("a length");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).expect("JSON is text");
    Some(Call { headers, body, at: Instant::now(), status: None })
}
