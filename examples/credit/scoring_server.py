#!/usr/bin/env python3
"""A credit bureau to try the rules with: slow, and it counts. Python's standard library is all it needs.

POST /score   {"applicant": {"id": …}, …}  ->  {"score": 300 to 849}, always the same for one applicant
GET  /calls   how often it was asked, by Idempotency-Key; it answers each time, as a bureau that bills each time does
"""

import argparse
import hashlib
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_BYTES_MAX = 1 << 20


class Bureau(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, delay, hang_up):
        super().__init__(address, Handler)
        self.delay, self.hang_up = delay, hang_up
        self.calls, self.lock = {}, threading.Lock()

    def count(self, key):
        with self.lock:
            self.calls[key] = self.calls.get(key, 0) + 1

    def counted(self):
        with self.lock:
            return dict(sorted(self.calls.items()))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= BODY_BYTES_MAX:
            # What is not read would be taken for the next request.
            self.close_connection = True
            return self.answer(400, {"error": "a body is needed, and not too long a one"})
        body = self.rfile.read(length)
        if self.path != "/score":
            return self.answer(404, {"error": "POST /score, GET /calls"})
        try:
            applicant = json.loads(body)["applicant"]["id"]
        except (ValueError, KeyError, TypeError):
            return self.answer(422, {"error": "applicant.id is missing"})
        self.server.count(self.headers.get("Idempotency-Key") or "none")
        time.sleep(self.server.delay)
        if applicant in self.server.hang_up:
            # It is scored, and billed; nobody ever hears of it.
            self.close_connection = True
            return None
        return self.answer(200, {"score": score(applicant)})

    def do_GET(self):
        if self.path != "/calls":
            return self.answer(404, {"error": "POST /score, GET /calls"})
        return self.answer(200, self.server.counted())

    def answer(self, status, document):
        body = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


def score(applicant):
    return 300 + int(hashlib.sha256(str(applicant).encode()).hexdigest(), 16) % 550


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=7490, help="0: one that is free")
    arguments.add_argument("--delay", type=float, default=2, help="seconds that an answer takes")
    arguments.add_argument("--hang-up", action="append", default=[], metavar="ID", help="an applicant it never answers about")
    options = arguments.parse_args()
    bureau = Bureau((options.host, options.port), options.delay, set(options.hang_up))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"scoring on http://{options.host}:{bureau.server_port}/score", flush=True)
    try:
        bureau.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
