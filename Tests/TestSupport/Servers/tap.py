"""An HTTP server that stores all bodies: tap.py PREFIX [PORT]

It stores the decompressed body of each request as PREFIX-<number>, and prints a JSON line. With PORT, it passes the request
on unchanged and returns the answer; otherwise it answers 200. The end of standard input ends the process.
"""

import gzip
import http.client
import itertools
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

prefix = sys.argv[1]
upstream = int(sys.argv[2]) if len(sys.argv) > 2 else None
numbers = itertools.count(1)


class Tap(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        plain = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
        file = f"{prefix}-{next(numbers)}"
        with open(file, "wb") as out:
            out.write(plain)
        # A single write keeps the lines of several threads apart.
        sys.stdout.write(json.dumps({"target": self.path, "headers": self.headers.items(), "file": file}) + "\n")
        status, headers, content = self.pass_on(body) if upstream else (200, [], b"")
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def pass_on(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", upstream)
        connection.request("POST", self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kept = ("content-type", "content-encoding")
        return answer.status, [(n, v) for n, v in answer.getheaders() if n.lower() in kept], content

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Tap)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("listening", server.server_port)
sys.stdin.read()
os._exit(0)
