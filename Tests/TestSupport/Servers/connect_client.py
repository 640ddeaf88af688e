"""A client of push.v1 with the Connect protocol, by connectrpc of PyPI: connect_client.py SERVER

Each line of standard input is a call, and each line of standard output is its outcome:

  {"codec": "json", "gzip": true, "headers": {}, "series": [{"labels": [{"name": "a", "value": "b"}], "samples": [...]}]}
  {"code": "ok"}   or   {"code": "invalid_argument", "message": "..."}
"""

import json
import sys

from connectrpc.client import ConnectClientSync
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from google.protobuf import json_format

from push_messages import classes

made = classes()
request_type = made["push.v1.PushRequest"]
push = MethodInfo(
    name="Push", service_name="push.v1.PusherService", input=request_type, output=made["push.v1.PushResponse"],
    idempotency_level=IdempotencyLevel.UNKNOWN, stream_type=StreamType.UNARY)
codecs = {"proto": google_protobuf_binary_codec(), "json": google_protobuf_json_codec()}

for line in sys.stdin:
    call = json.loads(line)
    client = ConnectClientSync(
        sys.argv[1], codec=codecs[call["codec"]], send_compression=GzipCompression() if call["gzip"] else None)
    request = json_format.ParseDict({"series": call["series"]}, request_type())
    try:
        client.execute_unary(request=request, method=push, headers=call["headers"])
        outcome = {"code": "ok"}
    except ConnectError as error:
        outcome = {"code": error.code.value, "message": error.message}
    print(json.dumps(outcome), flush=True)
