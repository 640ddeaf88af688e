"""A client of push.v1 with gRPC-Web, by sonora of PyPI: grpc_web_client.py SERVER

Input and output are those of connect_client.py; codecs are proto, json and text, which is proto in base64.
"""

import base64
import gzip
import json
import sys

import grpc
import sonora.client
import urllib3
from google.protobuf import json_format
from sonora import protocol

from push_messages import classes

made = classes()
request_type, response_type = made["push.v1.PushRequest"], made["push.v1.PushResponse"]


class Text(urllib3.PoolManager):
    """The base64 encoding that browsers use when they cannot read bytes."""

    def request(self, method, url, body, **rest):
        # A client that streams encodes each piece separately.
        pieces = (body[start:start + 1000] for start in range(0, len(body), 1000))
        response = super().request(method, url, body=b"".join(map(base64.b64encode, pieces)), **rest)
        response._body = base64.b64decode(response.data)
        return response


def call_once(call):
    channel = sonora.client.WebChannel(sys.argv[1])
    kind = call["codec"]
    if kind == "text":
        channel._session = Text()
    if kind == "json":
        write, read = lambda m: json_format.MessageToJson(m).encode(), lambda data: json_format.Parse(data, response_type())
    else:
        write, read = request_type.SerializeToString, response_type.FromString
    push = channel.unary_unary("/push.v1.PusherService/Push", write, read)
    metadata = [("content-type", f"application/grpc-web-{kind}" if kind == "text" else f"application/grpc-web+{kind}")]
    metadata += call["headers"].items()
    if call["gzip"]:
        metadata.append(("grpc-encoding", "gzip"))
    push(json_format.ParseDict({"series": call["series"]}, request_type()), metadata=metadata)


plain_wrap = protocol.wrap_message
for line in sys.stdin:
    call = json.loads(line)
    # sonora itself never compresses.
    protocol.wrap_message = (lambda t, c, m: plain_wrap(t, True, gzip.compress(m))) if call["gzip"] else plain_wrap
    try:
        call_once(call)
        outcome = {"code": "ok"}
    except grpc.RpcError as error:
        outcome = {"code": error.code().name.lower(), "message": error.details()}
    print(json.dumps(outcome), flush=True)
