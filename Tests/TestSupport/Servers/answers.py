"""An upstream for tests that gives the answer of the path's first segment: `answers.py FILE`.

FILE contains a JSON object with an answer for each segment:

  "raw"    bytes to send
  "more"   bytes to repeat after that until the peer closes
  "then"   the end: "" serves the next request, "close" closes the connection, "reset" resets it, "silent" leaves it open

It prints `{"event": "listening", "port": N}` and, before the answer to each request, `{"event": "request", "target": "…"}`. The end of
standard input ends the process.
"""

import asyncio
import json
import socket
import struct
import sys


def say(event, **members):
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
    sys.stdout.flush()


class Upstream:
    def __init__(self, answers):
        self.answers = answers

    async def serve(self, reader, writer):
        try:
            while await self.request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def request(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        target = head.split(" ")[1]
        length = [line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
        await reader.readexactly(int(length[0]) if length else 0)
        say("request", target=target)
        answer = self.answers[target.split("/")[1]]
        writer.write(answer["raw"].encode("latin-1"))
        await writer.drain()
        while answer["more"]:
            writer.write(answer["more"].encode("latin-1") * 64)
            await writer.drain()
        if answer["then"] == "silent":
            await reader.read()
        if answer["then"] == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return answer["then"] == ""


async def main():
    with open(sys.argv[1]) as file:
        upstream = Upstream(json.load(file))
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 20)
    say("listening", port=server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
