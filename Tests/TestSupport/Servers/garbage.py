"""Sends randomly damaged Pushes, and prints how often each status came: garbage.py PORT COUNT SEED"""

import base64
import collections
import gzip
import http.client
import json
import random
import sys

port, count, seed = (int(argument) for argument in sys.argv[1:])
print("seed", seed, flush=True)
chance = random.Random(seed)


def field(number, content):
    return bytes([number << 3 | 2, len(content)]) + content


label = field(1, field(1, b"__name__") + field(2, b"cpu"))
proto = field(1, label + field(2, field(1, b"profile") + field(2, b"id")) + b"\x1b\x08\x01\x1c" + b"\x25abcd") * 2
members = {"labels": [{"name": "a", "value": "\u00e9"}], "samples": [{"rawProfile": base64.b64encode(b"profile").decode(), "ID": "x"}]}
text = json.dumps({"x": [1, {"y": None}], "series": [members, members]}).encode()


def broken(message):
    message = bytearray(message)
    for _ in range(chance.randint(0, 5)):
        if not message:
            break
        place = chance.randrange(len(message))
        change = chance.randrange(4)
        if change == 0:
            message[place] = chance.randrange(256)
        elif change == 1:
            del message[place]
        elif change == 2:
            message[place:place] = chance.randbytes(chance.randint(1, 4))
        else:
            del message[place:]
    return bytes(message)


statuses = collections.Counter()
connection = http.client.HTTPConnection("127.0.0.1", port)
for _ in range(count):
    kind, message = chance.choice([("proto", proto), ("json", text)])
    headers = {"Content-Type": f"application/{kind}"}
    body = broken(message)
    if chance.random() < 0.3:
        body = broken(gzip.compress(body))
        headers["Content-Encoding"] = "gzip"
    connection.request("POST", "/push.v1.PusherService/Push", body, headers)
    answer = connection.getresponse()
    answer.read()
    statuses[answer.status] += 1
print(json.dumps(statuses), flush=True)
