//! The server beneath the interface: accepts connections through a door and has HTTP/1.1 spoken on them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_rt::Arbiter;
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::unread::Unread;
use crate::config::Limits;
use crate::ingress::{Door, Entered, Place};

/// Threads that answer requests. Entities are asked on their shards' threads, so more would only take their cores.
const WORKERS: usize = 2;
/// Connections that wait for a thread to take them, each.
const QUEUED_MAX: usize = 64;
/// How long requests under way have when the server is stopped.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// Pause after a connection could not be accepted, most likely for want of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Requests under way are answered.
    Gracefully,
    AtOnce,
}

/// A running server.
pub struct HttpServer {
    stop: watch::Sender<Option<Stop>>,
    accepting: JoinHandle<()>,
    workers: Vec<(Arbiter, watch::Receiver<bool>)>,
}

/// A connection that has its place.
struct Accepted {
    stream: std::net::TcpStream,
    from: SocketAddr,
    place: Place,
}

/// Serves what `routes` configures on `listener`. A request's headers must come in time, and answers be taken.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve<F>(listener: std::net::TcpListener, door: Arc<Door>, limits: &Limits, routes: F) -> io::Result<HttpServer>
where
    F: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    let stop = watch::Sender::new(None);
    let (mut workers, mut queues) = (Vec::new(), Vec::new());
    for _ in 0..WORKERS {
        let (queue, connections) = mpsc::channel(QUEUED_MAX);
        let ended = watch::Sender::new(false);
        let arbiter = Arbiter::new();
        let worker = Worker {
            door: door.clone(),
            hello_timeout: limits.hello_timeout,
            unread_timeout: limits.unread_timeout,
            stop: stop.subscribe(),
        };
        let (routes, end) = (routes.clone(), ended.subscribe());
        arbiter.spawn_fn(move || {
            actix_rt::spawn(async move {
                worker.run(connections, routes).await;
                ended.send_replace(true);
            });
        });
        workers.push((arbiter, end));
        queues.push(queue);
    }
    let accepting = actix_rt::spawn(accept(listener, door, queues, stop.subscribe()));
    Ok(HttpServer { stop, accepting, workers })
}

impl HttpServer {
    /// Closes the listener, ends the connections, and waits until all is done.
    pub async fn stop(self, how: Stop) {
        self.stop.send_replace(Some(how));
        let _ = self.accepting.await;
        for (arbiter, mut ended) in self.workers {
            // A worker that is gone has ended, too.
            let _ = ended.wait_for(|ended| *ended).await;
            arbiter.stop();
            let _ = actix_rt::task::spawn_blocking(move || arbiter.join()).await;
        }
    }
}

/// Deals connections out to the workers, while there are places for them.
async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    queues: Vec<mpsc::Sender<Accepted>>,
    mut stop: watch::Receiver<Option<Stop>>,
) {
    for queue in queues.iter().cycle() {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, &door) => accepted,
            _ = stop.wait_for(Option::is_some) => return,
        };
        // A worker ends only when the whole server does.
        let _ = queue.send(accepted).await;
    }
}

async fn accept_one(listener: &TcpListener, door: &Arc<Door>) -> Accepted {
    loop {
        door.vacancy().await;
        let accepted = match listener.accept().await {
            // It is served on another thread, with a runtime of its own.
            Ok((stream, from)) => stream.into_std().map(|stream| (stream, from)),
            Err(error) => Err(error),
        };
        match accepted {
            Ok((stream, from)) => match door.place(from.ip()) {
                Ok(place) => return Accepted { stream, from, place },
                Err(crowded) => tracing::debug!(%from, "a connection was closed: {crowded}"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What HTTP is spoken on.
trait Stream: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Stream for T {}

type Connection = Unread<Pin<Box<dyn Stream>>>;

/// What a worker serves with.
struct Worker {
    door: Arc<Door>,
    hello_timeout: Duration,
    unread_timeout: Duration,
    stop: watch::Receiver<Option<Stop>>,
}

impl Worker {
    async fn run<F>(mut self, mut queued: mpsc::Receiver<Accepted>, routes: F)
    where
        F: Fn(&mut web::ServiceConfig) + Clone + 'static,
    {
        let stopping = self.stop.clone();
        let app = map_config(App::new().configure(routes), |()| AppConfig::default());
        let http = HttpService::build()
            .client_request_timeout(self.hello_timeout)
            .on_connect_ext(|stream: &Connection, data| {
                data.insert(stream.other_end());
            })
            .graceful_shutdown_signal(move || {
                let mut stopping = stopping.clone();
                async move {
                    let _ = stopping.wait_for(Option::is_some).await;
                }
            })
            .h1::<_, BoxBody>(app);
        // Fails only if a part of it does, and none of them can; without it, connections are closed.
        let Ok(http) = http.new_service(()).await else { return };
        let http = Rc::new(http);
        let mut connections = JoinSet::new();
        while let Some(Accepted { stream, from, place }) = queued.recv().await {
            let (door, http, unread_timeout) = (self.door.clone(), http.clone(), self.unread_timeout);
            connections.spawn_local(async move {
                let _place = place;
                let stream: Pin<Box<dyn Stream>> = match entered(&door, stream).await {
                    Ok(Entered::Plain(stream)) => Box::pin(stream),
                    Ok(Entered::Secured(stream)) => Box::pin(*stream),
                    Err(error) => return tracing::debug!(%from, %error, "a connection was not secured"),
                };
                if let Err(error) = http.call((Unread::new(stream, unread_timeout), Some(from))).await {
                    tracing::debug!(%from, %error, "a connection broke");
                }
            });
            while connections.try_join_next().is_some() {}
        }
        if *self.stop.borrow_and_update() == Some(Stop::Gracefully) {
            let ended = async { while connections.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(SHUTDOWN, ended).await;
        }
    }
}

async fn entered(door: &Door, stream: std::net::TcpStream) -> io::Result<Entered> {
    let stream = tokio::net::TcpStream::from_std(stream)?;
    // Only a matter of latency.
    let _ = stream.set_nodelay(true);
    door.enter(stream).await
}
