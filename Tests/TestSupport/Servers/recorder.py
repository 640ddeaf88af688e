"""An HTTP upstream for tests that records every request: recorder.py [PORT [HOST]]

Commands are JSON lines on standard input, and events are JSON lines on standard output. The end of standard input ends
the process, so that none is left after a test.

  {"do": "answer", "status": 200, "headers": [["A", "b"]], "body": "text"}   answers so, also held requests
  {"do": "reject", "status": 400, "text": "bad"}                             answers requests that contain the text so
  {"do": "hold"}      reads and records requests, but does not answer them
  {"do": "refuse"}    resets open connections, refuses new ones and keeps the port
  {"do": "listen"}    accepts again
  {"do": "sync"}      does nothing

A request with `answer=503,200` in its query gets these statuses in turn, and then the last one again; `retry_after=2` adds
that header to all answers except 2xx.
"""

import asyncio
import hashlib
import json
import socket
import sys
from urllib.parse import parse_qs, urlsplit


def say(event, **members):
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
    sys.stdout.flush()


class Recorder:
    def __init__(self, port, host):
        self.port = port
        self.host = host
        self.server = None
        self.placeholder = None
        self.mode = "answer"
        self.answer = (200, [], b"")
        self.requests = 0
        self.connections = 0
        self.open = set()
        self.held = []
        self.turns = {}
        self.rejected = None

    async def listen(self):
        if self.placeholder:
            self.placeholder.close()
            self.placeholder = None
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        self.port = listener.getsockname()[1]
        self.server = await asyncio.start_server(self.serve, sock=listener, backlog=1024, limit=1 << 20)

    def refuse(self):
        if self.server:
            self.server.close()
            self.server = None
        for writer in list(self.open):
            writer.transport.abort()
        # The socket is bound but not listening, so nobody else gets the port, and connections are refused.
        self.placeholder = socket.socket()
        self.placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.placeholder.bind((self.host, self.port))
        self.port = self.placeholder.getsockname()[1]

    async def serve(self, reader, writer):
        self.connections += 1
        number = self.connections
        self.open.add(writer)
        try:
            while await self.request(reader, writer, number):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def request(self, reader, writer, connection):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        headers = [[name, value.strip()] for name, _, value in (line.partition(":") for line in lines[1:-2])]
        fields = {name.lower(): value for name, value in headers}
        body = await self.body(reader, fields)
        self.requests += 1
        held = self.mode == "hold"
        say(
            "request", number=self.requests, connection=connection, method=method, target=target, version=version,
            headers=headers, sha256=hashlib.sha256(body).hexdigest(), length=len(body), held=held,
            text=body.decode("latin-1") if len(body) <= 256 else None)
        if held:
            answered = asyncio.get_running_loop().create_future()
            self.held.append(answered)
            await answered
        status, extra, content = self.choose(target, head + body)
        lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(content)}"] + [f"{n}: {v}" for n, v in extra]
        writer.write("\r\n".join(lines + ["", ""]).encode("latin-1") + content)
        await writer.drain()
        return fields.get("connection", "").lower() != "close" and version == "HTTP/1.1"

    async def body(self, reader, fields):
        if fields.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                parts.append(await reader.readexactly(size))
                await reader.readexactly(2)
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return b"".join(parts)
        return await reader.readexactly(int(fields.get("content-length", "0")))

    def choose(self, target, request):
        if self.rejected and self.rejected[1] in request:
            return self.rejected[0], [], b""
        query = parse_qs(urlsplit(target).query)
        if "answer" not in query:
            return self.answer
        turn = self.turns.get(target, 0)
        self.turns[target] = turn + 1
        statuses = query["answer"][0].split(",")
        status = int(statuses[min(turn, len(statuses) - 1)])
        extra = [["Retry-After", query["retry_after"][0]]] if "retry_after" in query and status // 100 != 2 else []
        return status, extra, b"" if status == 204 else b"upstream says %d" % status

    async def obey(self, command):
        do = command["do"]
        if do == "answer":
            self.answer = (command.get("status", 200), command.get("headers", []), command.get("body", "").encode())
            self.mode = "answer"
            for answered in self.held:
                if not answered.done():
                    answered.set_result(None)
            self.held = []
        elif do == "reject":
            self.rejected = (command["status"], command["text"].encode())
        elif do == "hold":
            self.mode = "hold"
        elif do == "refuse":
            self.refuse()
        elif do == "listen":
            await self.listen()
        say("done", do=do)


async def main():
    recorder = Recorder(int(sys.argv[1]) if len(sys.argv) > 1 else 0, sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1")
    await recorder.listen()
    say("listening", port=recorder.port)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        await recorder.obey(json.loads(line))


asyncio.run(main())
