"""An upstream for tests that answers by the first segment of the path: `answers.py FILE`.

FILE holds an object of segments, each with the answer to a request below it:

  "raw"    what is sent, as it stands
  "more"   what is sent after that without end, until the peer closes
  "then"   what becomes of the connection: "" goes on, "close" closes it, "reset" resets it, "silent" leaves it open without a word

It says `{"event": "listening", "port": N}` and, for each request before it is answered, `{"event": "request", "target": "…"}`. The end
of standard input ends the process.
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
