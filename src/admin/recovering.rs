//! What is answered while the journal is replayed: health and metrics; everything else may be asked again later.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, ResponseError, web};

use super::problem::Problem;
use super::status::{METRICS_TEXT, healthz};
use crate::metrics::Metrics;

/// Serves until its handle stops it; the listener can be served by [`super::serve`] after that.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve_recovering(metrics: Arc<Metrics>, listener: TcpListener) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        let metrics = metrics.clone();
        App::new()
            .route("/healthz", web::get().to(healthz))
            .route(
                "/metrics",
                web::get().to(move || {
                    let text = metrics.render();
                    async { HttpResponse::Ok().content_type(METRICS_TEXT).body(text) }
                }),
            )
            .default_service(web::to(|| async {
                let why = "the node is replaying its journal; ask again a little later";
                Problem::unavailable("recovering", why).error_response()
            }))
    });
    let server = server.workers(1).disable_signals().shutdown_timeout(1).listen(listener)?;
    Ok(server.run())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Load balancers must see that it lives, and must not send to it yet.
    #[actix_web::test]
    async fn a_recovering_node_is_alive_and_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let server = serve_recovering(Arc::new(Metrics::new()), listener).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        for (path, status, part) in [
            ("/healthz", "200", "ok"),
            ("/metrics", "200", "turnstile_build_info"),
            ("/readyz", "503", "recovering"),
            ("/v1/entities/order/1", "503", "application/problem+json"),
        ] {
            let answer = web::block(move || get(address, path)).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{path}: {answer}");
        }
        handle.stop(false).await;
    }
}
