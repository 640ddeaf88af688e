"""An upstream that counts the frames (frames.py) that it answered with 200, by their IDs, and keeps nothing else: counter.py [PORT]

Commands are JSON lines on standard input, each of which is answered with a line on standard output. The end of standard
input ends the process.

  {"do": "answer", "status": 503}    answers with this status, also held requests; only a 200 counts
  {"do": "hold"}                     reads requests, but neither answers nor counts them
  {"do": "refuse"}                   refuses connections and keeps the port
  {"do": "listen"}                   accepts again
  {"do": "life"}                     waits for the end of all connections, because their gateway is dead
  {"do": "forget"}                   sets all counts to 0
  {"do": "tally", "to": FILE}        writes the count of each ID, as 32-bit numbers in native byte order
  {"do": "scan", "under": FOLDER, "to": FILE}   does the same for the files of an archive, each of which is a frame or metadata
"""

import array
import asyncio
import json
import os
import re
import socket
import sys

import frames

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


class Tally:
    def __init__(self):
        self.counts = array.array("I")
        self.lives = {}
        self.requests = 0
        self.foreign = []
        self.twice = 0
        self.repeated = {}

    def add(self, number, life=0):
        if number >= len(self.counts):
            self.counts.extend([0] * (number + 1 - len(self.counts)))
        self.counts[number] += 1
        last = self.lives.get(number)
        if last == life:
            self.twice += 1
        elif last is not None:
            self.repeated[last] = self.repeated.get(last, 0) + 1
        self.lives[number] = life

    def add_foreign(self, what):
        self.foreign.append(what[:200].decode("latin-1"))

    def write(self, path):
        with open(path, "wb") as file:
            self.counts.tofile(file)
        return {
            "requests": self.requests, "foreign": self.foreign[:10], "twice": self.twice,
            "repeated": list(self.repeated.values()),
        }


class Connection(asyncio.Protocol):
    def __init__(self, counter):
        self.counter = counter
        self.received = bytearray()
        self.life = counter.life

    def connection_made(self, transport):
        self.transport = transport
        self.counter.open.add(self)

    def connection_lost(self, _):
        self.counter.open.discard(self)
        self.counter.held = [held for held in self.counter.held if held[0] is not self]
        self.counter.wake()

    def data_received(self, data):
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.received[:end + 4])
            length = LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.received) < whole:
                return
            body = bytes(self.received[end + 4:whole])
            del self.received[:whole]
            self.counter.request(self, head, body)


class Counter:
    def __init__(self, port):
        self.port = port
        self.server = None
        self.placeholder = None
        self.tally = Tally()
        self.life = 0
        self.status = 200
        self.holds = False
        self.held = []
        self.open = set()
        self.closed = None

    async def listen(self):
        if self.server:
            return
        if self.placeholder:
            self.placeholder.close()
            self.placeholder = None
        listener = self.bind()
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self), sock=listener, backlog=1024)

    def bind(self):
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", self.port))
        self.port = bound.getsockname()[1]
        return bound

    def refuse(self):
        if not self.server:
            return
        self.server.close()
        self.server = None
        held = {connection for connection, _, _ in self.held}
        for connection in list(self.open):
            # The gateway must be able to read answers that were sent, or it would rightly repeat the requests.
            if connection.received or connection in held:
                connection.transport.abort()
            else:
                connection.transport.close()
        self.placeholder = self.bind()

    def request(self, connection, head, body):
        if self.holds:
            self.held.append((connection, head, body))
        else:
            self.finish(connection, head, body)

    def finish(self, connection, head, body):
        self.tally.requests += 1
        if self.status == 200:
            self.count(connection, head, body)
        connection.transport.write(b"HTTP/1.1 %d Status\r\nContent-Length: 0\r\n\r\n" % self.status)

    def count(self, connection, head, body):
        if head.startswith(b"POST /ingest?"):
            number = frames.whole(body)
            # The query must still belong to the body.
            found = [number] if number is not None and b"from=%d&" % number in head else None
        else:
            found = frames.within(body)
        if found is None:
            self.tally.add_foreign(head + body)
        for number in found or []:
            self.tally.add(number, connection.life)

    def wake(self):
        if self.closed and not self.open and not self.closed.done():
            self.closed.set_result(None)

    async def next_life(self):
        # Connections that the kernel has accepted appear within a turn or two of the loop.
        for _ in range(3):
            await asyncio.sleep(0)
        if self.open:
            self.closed = asyncio.get_running_loop().create_future()
            await self.closed
            self.closed = None
        self.life += 1

    def answer(self, status):
        self.status, self.holds = status, False
        held, self.held = self.held, []
        for request in held:
            self.finish(*request)

    async def obey(self, command):
        do = command["do"]
        if do == "answer":
            self.answer(command.get("status", 200))
        elif do == "hold":
            self.holds = True
        elif do == "refuse":
            self.refuse()
        elif do == "listen":
            await self.listen()
        elif do == "life":
            await self.next_life()
        elif do == "forget":
            self.tally = Tally()
        elif do == "tally":
            return self.tally.write(command["to"])
        elif do == "scan":
            return scan(command["under"]).write(command["to"])
        return {}


def scan(folder):
    tally = Tally()
    for path, _, names in os.walk(folder):
        for name in names:
            if name.endswith((".json", ".tmp")):
                continue
            with open(os.path.join(path, name), "rb") as file:
                content = file.read()
            tally.requests += 1
            number = frames.whole(content)
            if number is None:
                tally.add_foreign(name.encode() + b": " + content)
            else:
                # Two files with the same ID count as two.
                tally.add(number)
    return tally


def say(**members):
    sys.stdout.write(json.dumps(members) + "\n")
    sys.stdout.flush()


async def main():
    counter = Counter(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    await counter.listen()
    say(event="listening", port=counter.port)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        say(event="done", **await counter.obey(json.loads(line)))


asyncio.run(main())
