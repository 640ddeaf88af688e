"""An OAuth2 token endpoint for tests of the client credentials grant, which issues token-1, token-2 and so on.

It prints each request as a JSON line. A JSON line on standard input changes some of the settings below and is answered
with a line. The end of standard input ends the process.
"""

import base64
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote_plus

# "accept" lists the places of credentials: "basic" is the Authorization header, "body" the form. No request is answered with "hold".
settings = {"client": "gateway", "secret": "s3cret", "expires_in": 3600, "accept": ["basic", "body"], "status": 200, "hold": False}
changed = threading.Condition()
requests = 0
tokens = 0


def say(event, **members):
    # A single write keeps the lines of several threads apart.
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")


def credentials(authorization, form):
    """The place and the values of the client's credentials."""
    if authorization.lower().startswith("basic "):
        user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
        return "basic", (unquote_plus(user), unquote_plus(password))
    if "client_id" in form:
        return "body", (form["client_id"][0], form.get("client_secret", [""])[0])
    return "none", None


class Tokens(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global requests
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode(), keep_blank_values=True)
        place, given = credentials(self.headers["Authorization"] or "", form)
        with changed:
            requests += 1
            say("request", number=requests, path=self.path, place=place, form=form, headers=self.headers.items())
            changed.wait_for(lambda: not settings["hold"])
            status, answer = self.answer(place, given, form)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer(self, place, given, form):
        global tokens
        if settings["status"] != 200:
            return settings["status"], {"error": "temporarily_unavailable"}
        if place not in settings["accept"] or given != (settings["client"], settings["secret"]):
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        tokens += 1
        return 200, {"access_token": f"token-{tokens}", "token_type": "Bearer", "expires_in": settings["expires_in"]}

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
threading.Thread(target=server.serve_forever, daemon=True).start()
say("listening", port=server.server_port)
for line in sys.stdin:
    with changed:
        settings.update(json.loads(line))
        say("done")
        changed.notify_all()
os._exit(0)
