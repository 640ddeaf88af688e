"""An HTTP/2 upstream for tests that can become silent without closing: `h2_upstream.py CERTIFICATE KEY`.

It prints `{"event": "listening", "port": N}`, `{"event": "request", "connection": N, "target": "…"}` before the answer to each
request, and `{"event": "closed", "connection": N}` at the end of each connection.
Commands are JSON lines on standard input, each of which is answered with `{"event": "done"}`:

  {"do": "freeze"}    reads from the open connections, but never answers there again
  {"do": "release"}   answers requests with `hold` in the target, which have to wait until then

The end of standard input ends the process.
"""

import asyncio
import json
import ssl
import sys

import h2.config
import h2.connection
import h2.events


def say(event, **members):
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
    sys.stdout.flush()


class Upstream:
    def __init__(self):
        self.connections = 0
        self.open = set()
        self.frozen = set()
        self.released = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        number = self.connections
        self.open.add(number)
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        targets = {}
        try:
            while data := await reader.read(65536):
                if number in self.frozen:
                    continue
                for event in connection.receive_data(data):
                    self.handle(event, connection, writer, targets, number)
                writer.write(connection.data_to_send())
        except ConnectionError:
            pass
        finally:
            self.open.discard(number)
            say("closed", connection=number)
            writer.close()

    def handle(self, event, connection, writer, targets, number):
        if isinstance(event, h2.events.RequestReceived):
            targets[event.stream_id] = dict(event.headers)[b":path"].decode()
        elif isinstance(event, h2.events.DataReceived):
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            target = targets.pop(event.stream_id)
            say("request", connection=number, target=target)
            asyncio.ensure_future(self.answer(event.stream_id, target, connection, writer))

    async def answer(self, stream, target, connection, writer):
        if "hold" in target:
            await self.released.wait()
        connection.send_headers(stream, [(":status", "200"), ("content-length", "0")], end_stream=True)
        writer.write(connection.data_to_send())


async def main():
    upstream = Upstream()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
    say("listening", port=server.sockets[0].getsockname()[1])
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        if json.loads(line)["do"] == "freeze":
            upstream.frozen |= upstream.open
        else:
            upstream.released.set()
        say("done")


asyncio.run(main())
