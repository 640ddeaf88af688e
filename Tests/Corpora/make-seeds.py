#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets beside this script; what it did not write, such as a finding-*, stays."""
import base64
import gzip
import hashlib
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent


def seeds(target, **files):
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        assert len(content) <= 4096, name
        (folder / name.replace("_", "-")).write_bytes(content)


def head(*lines):
    return "\r\n".join(lines) + "\r\n\r\n"


def compressed(content):
    return gzip.compress(content, mtime=0)


def chunked(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# protobuf


def varint(value):
    rest = value >> 7
    return bytes([value & 0x7F | (0x80 if rest else 0)]) + (varint(rest) if rest else b"")


def field(number, content):
    content = content if isinstance(content, bytes) else content.encode()
    return varint(number << 3 | 2) + varint(len(content)) + content


def series(labels, *samples):
    pairs = [field(1, field(1, name) + field(2, value)) for name, value in labels.items()]
    return field(1, b"".join(pairs) + b"".join(field(2, field(1, raw) + field(2, identity)) for raw, identity in samples))


# A profile.proto with one sample of one function: sample type, sample, location, function, strings, period.
PPROF = (
    field(1, b"\x08\x01\x10\x02")
    + field(2, field(1, b"\x01") + field(2, b"\x05"))
    + field(4, b"\x08\x01" + field(4, b"\x08\x01\x10\x2a"))
    + field(5, b"\x08\x01\x10\x03")
    + b"".join(field(6, text) for text in ["", "cpu", "nanoseconds", "main.work"])
    + b"\x60\x80\xad\xe2\x04"
)
LABELS = {"__name__": "process_cpu", "service_name": "checkout", "region": "eu-1"}
PYTHON = series(LABELS, (compressed(PPROF), "b1946ac9-2492-4d23-a47c-1f3f0b5d0f5e"))
DOTNET = series({"__name__": "memory", "service_name": "shop"}, (PPROF, ""))
MANY = PYTHON + DOTNET + series({}) + series({"a": "ü→", "b": ""}, (b"", "one"), (b"x", "two"))
UNKNOWN = b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"\x21" + bytes(8) + b"\x33\x08\x01\x34" + b"\x3d" + bytes(4)

# Heads, as clients send them.

CURL = [
    "POST /ingest?name=myapp&format=pprof HTTP/1.1", "Host: 127.0.0.1:9999", "User-Agent: curl/7.88.1", "Accept: */*",
    "Content-Length: 4180", "Content-Type: application/x-www-form-urlencoded", "Expect: 100-continue",
]
PUSH = "POST /push.v1.PusherService/Push HTTP/1.1"
RUST = [
    PUSH, "content-type: application/proto", "content-encoding: gzip", "x-scope-orgid: team-a",
    "user-agent: pyroscope-rs/pyspy/2.0.0 reqwest", "accept: */*", "host: gateway:9999",
]
JAVA = [
    "POST /ingest?name=shop%7Benv%3Dprod%7D&units=samples&aggregationType=sum&sampleRate=100&from=1790000000&until=1790000010"
    "&spyName=javaspy&format=jfr HTTP/1.1", "Content-Type: multipart/form-data; boundary=3c1f0b5d", "Transfer-Encoding: chunked",
    "Host: gateway:9999", "Connection: Keep-Alive", "Accept-Encoding: gzip", "User-Agent: okhttp/4.12.0",
]
ALLOY = [
    PUSH, "Host: gateway:9999", "User-Agent: Alloy/v1.9.0", "Content-Length: 351", "Accept-Encoding: gzip",
    "Connect-Protocol-Version: 1", "Connect-Timeout-Ms: 9999", "Content-Type: application/proto",
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Alloy-Id: 7", "X-Scope-OrgID: team-a",
]
NODE = [
    "POST /ingest?from=1790000000&name=pyroscope-nodejs-pprof-{app=x,region=,cluster=}&spyName=nodespy&until=1790000010 HTTP/1.1",
    "host: gateway:9999", "connection: close", "content-type: multipart/form-data; boundary=x", "content-length: 900",
]
GO = [
    "POST /ingest?aggregationType=sum&from=1790000000000000000&name=shop.cpu%7B%7D&sampleRate=100&spyName=gospy&units=samples"
    "&until=1790000010000000000 HTTP/1.1", "Host: gateway:9999", "User-Agent: Go-http-client/1.1", "Content-Length: 12",
    "Authorization: Basic dGVzdDp0ZXN0", "Content-Type: multipart/form-data; boundary=0a1b", "Accept-Encoding: gzip",
]
PLAIN = ["POST /ingest?name=a HTTP/1.1", "Host: a"]

seeds(
    "head",
    curl=head(*CURL), rust=head(*RUST), java=head(*JAVA), alloy=head(*ALLOY), node=head(*NODE), go=head(*GO),
    empty_lines="\r\n\r\n" + head("GET / HTTP/1.0", "Connection: keep-alive"),
    absolute=head("GET http://A:80/x?y HTTP/1.1", "Host: a:80"), asterisk=head("OPTIONS * HTTP/1.1", "Host: a"),
    pipelined=head(*PLAIN) + head("GET /-/ready HTTP/1.1", "Host: [::1]:1"), http2="PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    both_framings=head(*PLAIN, "Content-Length: 5", "Transfer-Encoding: chunked"),
    two_lengths=head(*PLAIN, "Content-Length: 5", "Content-Length: 5"), folded=head(*PLAIN, "X: y", " Content-Length: 5"),
    bare_line_feeds="POST / HTTP/1.1\nHost: a\n\n", no_host=head("GET / HTTP/1.1"), incomplete="POST /ingest?name=a HTTP/1.1\r\nHost: a\r\n\r",
    space_before_colon=head(*PLAIN, "Content-Length : 5"), many_fields=head(*PLAIN, *[f"X-{number}: {number}" for number in range(127)]),
)
seeds(
    "body",
    one=chunked(b"hello"), two=chunked(b"hello", b", world") + b"GET", empty="0\r\n\r\n", many=chunked(*[b"x" * 17] * 20),
    extensions="5;a=b;c=\"d\"\r\nhello\r\n0 ;x\r\n\r\n", trailers="5\r\nhello\r\n0\r\nA: b\r\nC:\td\r\n\r\nnext", zeros="005\r\nhello\r\n000\r\n\r\n",
    upper_case="A\r\n0123456789\r\n0\r\n\r\n", line_ends_inside="4\r\n\r\n\r\n\r\n0\r\n\r\n", cut="5\r\nhel", no_size="\r\n",
    too_long="6\r\nhello\r\n0\r\n\r\n", too_short="4\r\nhello\r\n0\r\n\r\n", bare_line_feed="5\nhello", signed="+5\r\nhello",
    prefixed="0x5\r\nhello", two_sizes="5 5\r\nhello\r\n0\r\n\r\n", huge="fffffffffffffff\r\n", too_many_digits="0000000000000005\r\nhello",
)
OK = "HTTP/1.1 200 OK"
CHUNKED = "Transfer-Encoding: chunked"
seeds(
    "answer",
    length=head(OK, "Content-Type: application/proto", "Content-Length: 5") + "hello", until_close=head(OK, "Server: a") + "hello",
    interim=head("HTTP/1.1 103 Early", "Link: a") + head("HTTP/1.1 204 No Content"), old=head("HTTP/1.0 503 No", "Retry-After: 7", "Connection: keep-alive"),
    redirect=head("HTTP/1.1 307 Go", "Location: /x", "Content-Length: 0") + head(OK), bare_status="HTTP/1.1 404\r\nConnection: a, close\r\n\r\n",
    chunked=head(OK, CHUNKED).encode() + chunked(b"hello", b", world"), trailers=head(OK, CHUNKED) + "5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\nnext",
    both_framings=head(OK, "Content-Length: 5", CHUNKED) + "hello", two_lengths=head(OK, "Content-Length: 5", "Content-Length: 5") + "hello",
    folded=head(OK, "X: y", " Content-Length: 5"), bare_line_feeds="HTTP/1.1 200 OK\nContent-Length: 0\n\n", nul=head(OK, "A: \0"), ssh="SSH-2.0-OpenSSH_9.2\r\n",
    switch=head("HTTP/1.1 101 Switch", "Upgrade: a"), too_long=head(OK, CHUNKED) + "4\r\nhello\r\n0\r\n\r\n", cut=head(OK, CHUNKED) + "5\r\nhel",
    many_fields=head(OK, *[f"X-{number}: {number}" for number in range(200)]),
)


def request(lines, body):
    kept = [line for line in lines if not line.lower().startswith("content-length")]
    return head(*kept, f"Content-Length: {len(body)}").encode() + body


def multipart(boundary, **files):
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n{text}\r\n' for name, text in files.items())
    return f"{parts}--{boundary}--\r\n".encode()


def connect(kind, body, *more):
    return request([PUSH, "Host: a", "Connect-Protocol-Version: 1", f"Content-Type: application/{kind}", *more], body)


JSON = b'{"series":[{"labels":[{"name":"service_name","value":"a"}],"samples":[{"rawProfile":"aGVsbG8=","ID":"1"}]}]}'
seeds(
    "request",
    folded=request(["POST /ingest?name=app.cpu%7Benv=prod%7D&from=now-10s&until=now HTTP/1.1", "Host: a"], b"main;work 1\n"),
    pprof=request(CURL, PPROF), go=request(GO, multipart("0a1b", profile="x", sample_type_config="{}")),
    java=head(*JAVA).encode() + chunked(multipart("3c1f0b5d", jfr="FLR", labels="")), node=request(NODE, multipart("x", profile="x")),
    python=request(RUST, compressed(PYTHON)), dotnet=connect("proto", DOTNET), several=connect("proto", MANY),
    json=connect("json", JSON), gzip_json=connect("json; charset=utf-8", compressed(JSON), "Content-Encoding: gzip"),
    empty_push=connect("proto", b""), no_gzip=connect("proto", b"x", "Content-Encoding: gzip"), codec=connect("grpc-web", b""),
    compression=connect("proto", b"", "Content-Encoding: br"), timeout=connect("proto", b"", "Connect-Timeout-Ms: 1x"),
    two_types=request([*PLAIN, "Content-Type: a", "Content-Type: b", "traceparent: 00"], b""),
    tenant=request([*PLAIN, "X-Scope-OrgID: a|b"], b""), no_name=request(["POST /ingest HTTP/1.1", "Host: a"], b""),
    nowhere=request(["GET /x%22 HTTP/1.1", "Host: a"], b""),
)
seeds(
    "labels",
    application="shop.cpu", usual="shop{env=prod,region=eu-1}", blanks=" foo { bar = 1 , baz = 2 } ", empty_value="foo{a=,b=1}",
    literal='foo{a="x",b={y,c=d=e}', after_end="foo{a=1}b=2}", twice="foo{a=1,b=2,a=3}", name="foo{__name__=b@d!,service_name=x}",
    unterminated="foo{a=1,b", unicode="foo{a=ü\u2003→,b=e\u0301}", bad_name="foo{a-b=1}", bad_application="föö{a=b}", no_application="{a=b}",
    node="pyroscope-nodejs-pprof-{app=x,region=,cluster=}", many="a{" + ",".join(f"k{number % 40}=v{number}" for number in range(100)) + "}",
)
seeds(
    "query",
    go="aggregationType=sum&from=1790000000000000000&name=shop.cpu%7B%7D&sampleRate=100&spyName=gospy&until=1790000010000000000",
    java="name=shop%7Benv%3Dprod%7D&from=1790000000&until=1790000010&format=jfr", plus="name=a+b%2Bc&name=second", bare="&&name&=x&a==b&",
    malformed="name=%zz&a=%4&b=%+1&c=%", offset="now-1h30min", days="now - 2d, 3w_1M", date="20260921", milliseconds="1790000000000",
    microseconds="1790000000000000", huge="99999999999999999999", overflow="+9223372036854775807y", units="-1s1m1h1d1w1mon1y1q",
    bytes=b"name=%ff\xff\x00&\xc3=1",
)
seeds(
    "content-type",
    multipart="\nmultipart/form-data; boundary=3c1f0b5d", named="pprof\nmultipart/form-data; boundary=x", trie="\nbinary/octet-stream+trie",
    tree="groups\nbinary/octet-stream+tree", jfr="jfr", lines="lines\ntext/plain", speedscope="speedscope\napplication/json",
    upper_case="PPROF\nMultipart/Form-Data", empty="", mixed="x\ntext/plain, multipart/form-data",
)
seeds(
    "protobuf",
    python=PYTHON, dotnet=DOTNET, several=MANY, empty="", no_series=UNKNOWN, unknown=field(1, UNKNOWN + field(1, UNKNOWN) + field(2, UNKNOWN)),
    repeated=field(1, field(2, field(1, "a") + field(1, "bc") + field(2, "x") + field(2, "y"))),
    duplicate=field(1, field(1, field(1, "a")) * 2), groups=b"\x4b" * 31 + b"\x4c" * 31, deep_groups=b"\x4b" * 40 + b"\x4c" * 40,
    wrong_group=b"\x4b\x54", cut=PYTHON[:-7], long_length=b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", long_number=b"\x18" + b"\xff" * 11,
    field_zero=b"\x02\x00", wire_type=b"\x0e", not_text=field(1, field(1, field(1, b"\xff"))), nul=series({"a\0": "b"}), gzip=compressed(PYTHON),
)


def sample(raw, more=""):
    return '{"series":[{"samples":[{"rawProfile":"%s"%s}]}]}' % (raw, more)


seeds(
    "json",
    usual=JSON, pprof=sample(base64.b64encode(PPROF).decode(), ',"ID":"1"'), url_safe=sample("-_-_"), unpadded=sample("YQ"), empty="{}",
    snake_case='{"series":[{"samples":[{"raw_profile":"YQ=="},{"ID":"only"}]}]}', nulls='{"series":[{"labels":null,"samples":[null,{"ID":null}]},null]}',
    unknown='{"x":[1,-2.5e+3,true,false,null,{"y":"z"}],"series":[{"annotations":[{"key":"k"}]}]}', blanks=' {\n"series"\t:\r[ ] } ',
    escapes=r'{"series":[{"labels":[{"name":"\u0061\n\"\\\/","value":"\ud83d\ude00"}],"samples":[{"rawProfile":"\u0059Q=="}]}]}',
    half=r'{"series":[{"labels":[{"name":"\ud83d","value":"b"}]}]}', deep='{"x":' + "[" * 31 + "]" * 31 + "}", too_deep='{"x":' + "[" * 40,
    several='{"series":[{"labels":[{"name":"b","value":"1"},{"name":"a","value":"2"}]},{"labels":[]},{}],"series":[{}]}', base64=sample("Y"),
    padding=sample("YQ="), duplicate='{"series":[{"labels":[{"name":"a"},{"name":"a"}]}]}', cut='{"series":[{"labels":[{"name":"a', tail="{}x",
    nul=r'{"series":[{"labels":[{"name":"a\u0000"}]}]}',
)
HELLO = compressed(b"hello")
seeds(
    "gzip",
    hello=HELLO, empty=compressed(b""), zeros=compressed(bytes(100_000)), push=compressed(PYTHON), members=HELLO + compressed(b"") + HELLO,
    named=b"\x1f\x8b\x08\x1c\0\0\0\0\0\x03\x02\0\xaa\xbbhello.txt\0a comment\0" + HELLO[10:], stored=gzip.compress(b"hello", 0, mtime=0),
    cut=HELLO[:-3], checksum=HELLO[:-8] + b"\0" + HELLO[-7:], length=HELLO[:-1] + b"\1", trailing=HELLO + b"x", header=HELLO[:10],
    bomb=compressed(bytes(2 << 20)), nested=compressed(compressed(b"x" * 1000)), text="hello", zlib=b"\x78\x9c" + HELLO[10:-8] + b"\x06\x2c\x02\x15",
)


def config(text):
    return '{ "receive_http": { "default": { "forward_to": ["a"] } }, "receivers": { "a": { "plugin": "StdoutSink" } }, %s }' % text


DOCUMENTED = (ROOT / "docs/configuration.md").read_text().split("```jsonc\n")[1].split("```")[0]
seeds(
    "config",
    readme=DOCUMENTED, example=(ROOT / "examples/gateway.json").read_bytes(), clusters=(ROOT / "examples/two-clusters.json").read_bytes(),
    admin_off=config('"admin": null'), sizes=config('"limits": { "max_body_size": "1.5GiB", "max_in_flight_bytes": 1e3 }'),
    durations=config('"shutdown_timeout": "1h30m500ms"'), near_miss=config('"plugin_dir": [], "lgo": { "level": "inf" }'),
    unknown_receiver='{"receive_http":{"x":{"forward_to":["b","b","aa"]}},"receivers":{"a":{},"b":{"plugin":"p.so","config":[]}}}',
    duplicates='{"log":{"level":"info","level":"debug"},"log":{}}', odd_names=config('"a.b": 1, "": 2, "\\u202e\\"": 3'),
    comments='/* a */ { // b\n /* c', trailing_comma='{"receivers":{},}', byte_order_mark="\ufeff{}", not_utf8=b'{"log":"\xff"}',
    deep='{"x":' + "[" * 63 + "]" * 63 + "}", too_deep="[" * 70, numbers='[0,-0,1.5,1e5,-1E-5,01]', escapes='["\\ud83d\\ude00\\n\\/","\\ud83d"]',
    wrong_kinds='{"admin":[],"log":1,"limits":"x","receive_http":{"a":7},"receivers":[]}', later=config('"data_dir": "/x"'),
)

seeds(
    "references", plain="plain", whole="${A}", within="http://${A}:${B}/x", default="${B:-a:-b $c {}", empty_default="${C_1:-}",
    escaped="$${A} $$${A} $${", dollars="$ $A $$ a$", open="a${", no_name="${}", digit="${1A}", other="${A-b}", nested="${B:-${A}}",
    not_utf8_value="${C}", combining="${\u0301A}", empty=b"",
)

# Words that libFuzzer puts in, since bytes at random seldom make one.
WORDS = {
    "head": ["POST ", "GET ", "/ingest?name=", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "\r\n", "\r\n\r\n", "Host: a\r\n", "Content-Length: ",
             "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "keep-alive", "Expect: 100-continue\r\n", "http://", "PRI * HTTP/2.0"],
    "body": ["\r\n", "0\r\n\r\n", ";a=b", "5\r\nhello\r\n", "fffffffffffffff", "A: b\r\n"],
    "labels": ["{", "}", "=", ",", "__name__=", "service_name=", "app_name=", "\u2003"],
    "query": ["&", "=", "%41", "%", "+", "name=", "now-", "1h", "min", "mon", "20260921", "1790000000000"],
    "content-type": ["pprof", "jfr", "trie", "tree", "lines", "speedscope", "folded", "binary/octet-stream+trie", "multipart/form-data", "\n"],
    "json": ["{", "}", "[", "]", ":", ",", '"series"', '"labels"', '"samples"', '"name"', '"value"', '"rawProfile"', '"ID"', "null", "true", "\\u0061",
             "\\ud83d\\ude00", "YQ=="],
    "gzip": ["\x1f\x8b\x08"],
    "multipart": ["\r\n", "\r\n\r\n", "--x", "\r\n--x", "\r\n--x--\r\n", "Content-Disposition: ", "form-data", "; name=", '"profile"', "; filename=",
                  "multipart/form-data", "; boundary=", "\n"],
    "references": ["${", "}", "$${", ":-", "${A}", "${B:-", "${C}"],
    "config": ["{", "}", "[", "]", ":", ",", "//", "/*", "*/", "null", "true", "\\u0061", '"30s"', '"64MiB"', '"admin"', '"log"', '"level"', '"limits"',
               '"receive_http"', '"receivers"', '"http"', '"listen_port"', '"forward_to"', '"plugin"', '"queue"', '"retry"', '"max_bytes"', '"ack"'],
}
WORDS["answer"] = WORDS["body"] + ["HTTP/1.1 200 OK\r\n", "HTTP/1.0 503\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "Content-Length: 5\r\n", "\r\n\r\n",
                                  "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Location: ", "Retry-After: ", "Content-Type: "]
WORDS["request"] = WORDS["head"] + ["/push.v1.PusherService/Push", "Content-Type: application/proto\r\n", "Content-Type: application/json\r\n",
                                    "Content-Encoding: gzip\r\n", "X-Scope-OrgID: ", "Connect-Timeout-Ms: ", "format=", "from="]
for target, words in WORDS.items():
    escaped = ("".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word.encode("latin-1" if
               target == "gzip" else "utf-8")) for word in words)
    (HERE / f"{target}.dict").write_text("".join(f'"{word}"\n' for word in escaped))


# gRPC-Web, Authorization headers, and files of users


def frame(content, flags=0):
    content = content if isinstance(content, bytes) else content.encode()
    return bytes([flags]) + len(content).to_bytes(4, "big") + content


seeds(
    "grpc-web", empty=b"", message=frame(PYTHON), no_message=frame(b"x: y\r\n", 0x80), compressed=frame(compressed(PYTHON), 1),
    with_trailers=frame(PYTHON) + frame(b"grpc-status: 0\r\n", 0x80), two=frame(b"a") + frame(b"b"), cut=frame(PYTHON)[:-1],
    prefix=b"\0\0\0", huge=b"\0\xff\xff\xff\xff", flags=frame(b"a", 0x42), text=base64.b64encode(frame(PYTHON)),
    text_in_pieces=b"".join(base64.b64encode(frame(PYTHON)[start:start + 10]) for start in range(0, 60, 10)))
seeds(
    "authorization", basic="Basic YWxpY2U6c2VjcmV0", colons="Basic YTpiOmM=", no_colon="Basic YWxpY2U=", blank="Basic ", spaces="basic   YTo=",
    bearer="Bearer t-1._~+/==", no_scheme="YTpi", digest="Digest username=a", not_utf8=b"Basic /zpi", control=b"Bearer \x01", empty=b"")
seeds(
    "users", one="alice:$6$saltsalt$" + "x" * 86, windows="# users\r\nbob:$2b$10$" + "y" * 53 + "\r\n", plain="alice:secret\n",
    twice=("a:$y$j9T$salt$" + "z" * 43 + "\n") * 2, no_user=":x\n", tokens="one\ntwo==\n# three\n", not_token="a b\n", not_utf8=b"a:\xff\n",
    md5="a:$1$salt$0123456789012345678901\n", empty=b"")


# What lies in a data directory: see docs/spool-format.md

SALT = 0x1122334455667788
TIME = 1_790_000_000_000_000_000
LARGEST = 2**64 - 1


def crc32c(content, seed=0):
    state = seed ^ 0xFFFFFFFF
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def summed(content, seed=0):
    return content + struct.pack("<I", crc32c(content, seed))


def text(content):
    content = content if isinstance(content, bytes) else content.encode()
    return struct.pack("<I", len(content)) + content


def texts(*contents):
    return b"".join(map(text, contents))


def spool_head(magic, receivers=("a", "b"), version=1, salt=SALT, names=None):
    names = texts(*receivers) if names is None else names
    fields = struct.pack("<IIQQqQIII", version, len(receivers), 1, salt, TIME, 0, len(names), crc32c(names), 0)
    return summed(magic + fields) + names


def spool_profile(labels=(("__name__", "a"), ("service_name", "a")), samples=(("", b"body"),), api=0, headers=(), query="name=a", **other):
    times = struct.pack("<Iqqq", api, other.get("received", TIME), other.get("begin", 0), other.get("end", 0))
    pairs = (struct.pack("<I", len(group)) + b"".join(texts(*pair) for pair in group) for group in (labels, headers))
    table = struct.pack("<I", len(samples)) + b"".join(text(name) + struct.pack("<Q", len(content)) for name, content in samples)
    return times + texts("", "/ingest", query, "pprof", "", "") + b"".join(pairs) + table + b"".join(content for _, content in samples)


def spool_record(sequence=5, body=None, time=TIME, origin=0, receivers=("a",), length=None):
    body = spool_profile() if body is None else body
    names = texts(*receivers)
    size = len(body) if length is None else length
    head = struct.pack("<QQqQIIII", SALT, sequence, time, origin, size, crc32c(body), len(names), 0) + names
    return b"GWRC" + struct.pack("<I", crc32c(head)) + head + body


def index_entry(offset, length, sequence=5, time=TIME, receivers=1, flags=0):
    return summed(struct.pack("<IIQqQI", offset, length, sequence, time, receivers, flags), SALT & 0xFFFFFFFF)


def settled_entry(kind, receiver, offset, end=0, count=0, due=0, progress=0):
    return summed(struct.pack("<BBHIIIQqQI", kind, 0, receiver, offset, end, count, progress, due, 0, 0), SALT & 0xFFFFFFFF)


def segment(records=(), index=None, settled=b"", flags=0, receivers=("a", "b"), between=b""):
    """The three files as the target takes them apart; an index that tells of all records unless there is one."""
    head = spool_head(b"GWSPOOL1", receivers)
    entries, offset = b"", len(head)
    for number, record in enumerate(records):
        entries += index_entry(offset, len(record), 5 + number)
        offset += len(record) + len(between)
    content = head + between.join(records)
    entries = spool_head(b"GWSINDX1", receivers) + (entries if index is None else index)
    return struct.pack("<BHH", flags, len(content), len(entries)) + content + entries + spool_head(b"GWSSETL1", receivers) + settled


ONE, COPY = spool_record(), spool_record(6, origin=1)
START = 64 + len(texts("a", "b"))
LENGTH = len(ONE)
seeds(
    "segment",
    one=segment([ONE]), two=segment([ONE, spool_record(6, receivers=("a", "b"))]), empty=segment(), no_index=segment([ONE, COPY], flags=2),
    no_records=segment([ONE], flags=1), no_heads=segment([ONE, ONE], flags=6), damaged_sums=segment([ONE], flags=8)[:-9],
    damaged_body=segment([ONE, COPY], flags=16), twice=segment([ONE, COPY], flags=32), unindexed_twice=segment([ONE, ONE, ONE], b"", flags=32),
    settled=segment([ONE, COPY], settled=settled_entry(1, 0, START, START + LENGTH)),
    attempted=segment([ONE], settled=settled_entry(2, 0, START, count=2**32 - 1, due=-(2**63), progress=LARGEST)),
    settled_by_nobody=segment([ONE], settled=settled_entry(1, 65535, 0, 2**32 - 1)),
    loop=segment([ONE], index_entry(START, 0) + bytes(40)), copy_for_nobody=segment([ONE], index_entry(START, LENGTH, receivers=4, flags=1)),
    for_all=segment([ONE], index_entry(START, LENGTH, receivers=LARGEST)), for_none=segment([ONE], index_entry(START, LENGTH, receivers=0)),
    too_long=segment([ONE], index_entry(START, 2**32 - 1 - START)), over_the_end=segment([ONE], index_entry(2**32 - 2, 2)),
    first_time=segment([ONE], index_entry(START, LENGTH, time=-(2**63))), last_time=segment([ONE], index_entry(START, LENGTH, time=2**63 - 1)),
    last_sequence=segment([spool_record(LARGEST)], index_entry(START, LENGTH, LARGEST)), no_sequence=segment([spool_record(0)], b""),
    huge_record=segment([spool_record(length=2**32 - 1)], b""), junk=segment([ONE, COPY], b"", between=b"GWRC" + bytes(60)),
    many_receivers=segment([spool_record(receivers=[f"r{number}" for number in range(64)])], receivers=[f"r{number}" for number in range(64)]),
    other_receivers=segment([spool_record(receivers=("c", "d"))], b""), origin_is_itself=segment([spool_record(origin=1)], index_entry(START, LENGTH, flags=1)),
)
seeds(
    "record",
    one=ONE, push=spool_record(body=spool_profile(samples=(("x", b"ab"), ("", b""), ("y", b"c")), api=1)), copy=COPY,
    headers=spool_record(body=spool_profile(headers=(("traceparent", "00-1"), ("a", "")))), unknown_api=spool_record(body=spool_profile(api=7)),
    line_break=spool_record(body=spool_profile(headers=(("a", "b\r\nX: y"),))), query=spool_record(body=spool_profile(query="a\n")),
    nul=spool_record(body=spool_profile(labels=(("a\0", "b"),))), unsorted=spool_record(body=spool_profile(labels=(("z", "1"), ("a", "2"), ("a", "3")))),
    not_utf8=spool_record(body=spool_profile(query=b"\xff")), no_samples=spool_record(body=spool_profile(samples=())),
    two_samples=spool_record(body=spool_profile(samples=(("", b"a"), ("", b"b")))), first_time=spool_record(body=spool_profile(received=-(2**63))),
    more=spool_record(body=spool_profile() + b"x"), cut=spool_record(body=spool_profile()[:-1]), no_receivers=spool_record(receivers=()),
)


def requests(*records, version=1, created=TIME, salt=7):
    head = summed(b"GRQUEST1" + struct.pack("<IIqI", version, 0, created, salt))
    return head + b"".join(summed(struct.pack("<qqI", accepted, until, listener) + bytes(range(32)), salt) for accepted, until, listener in records)


LISTENER = crc32c(b"l")
seeds(
    "requests",
    one=requests((TIME, TIME + 300 * 10**9, LISTENER)), other_listener=requests((TIME, TIME + 1, 5)), empty=requests(), cut=requests((TIME, TIME, 0))[:-5],
    first_time=requests((-(2**63), 2**63 - 1, LISTENER), created=-(2**63)), last_time=requests((2**63 - 1, -(2**63), LISTENER), created=2**63 - 1),
    later_version=requests(version=2), several=requests(*((TIME + number, TIME - number, LISTENER) for number in range(20))),
)
seeds(
    "sequence",
    usual=summed(struct.pack("<Q", TIME)), last=summed(struct.pack("<Q", LARGEST)), before_last=summed(struct.pack("<Q", LARGEST - 1)),
    half=summed(struct.pack("<Q", 2**63)), below_half=summed(struct.pack("<Q", 2**63 - 1)), damaged=b"12345678", empty=b"",
)
seeds(
    "spool-names",
    usual="0000000000000001.records\n0000000000000001.index\n0000000000000001.settled\n0000000000000001.requests",
    removed="0000000000000002.records.tmp\n0000000000000003.index.tmp", last="7fffffffffffffff.records\n7fffffffffffffff.requests",
    largest="3fffffffffffffff.records\n4000000000000000.index\n4000000000000001.records", beyond="8000000000000000.records\n8000000000000000.requests",
    upper_case="000000000000000A.records\nffffffffffffffff.requests", short="1.records\n.records\nrecords",
)
STEM = "20260131T235959.123456789Z-5"
seeds(
    "dead-letters",
    one=f"{STEM}.json\n{STEM}.pprof", push=f"a/b/{STEM}.json\na/b/{STEM}-0.pprof\na/b/{STEM}-1.pprof", no_metadata=f"{STEM}.jfr",
    huge_index=f"{STEM}-9223372036854775807.pprof\n{STEM}.json", larger_index=f"{STEM}-99999999999999999999.pprof", endings=f"{STEM}.pprof\n{STEM}.jfr\n{STEM}-3.x",
    unfinished=f".{STEM}.pprof.1-2-3.tmp", others=f"readme\na/readme\n{STEM}\n{STEM}.",
)


def sidecar(**changes):
    samples = [{"file": f"{STEM}.pprof", "id": "", "size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}]
    members = dict(version=1, api="ingest", tenant="", query="name=a", content_type="", content_encoding="", labels={}, headers=[], samples=samples)
    return json.dumps({**members, **changes})


seeds(
    "sidecar",
    usual=sidecar(), push=sidecar(api="push", samples=[]), headers=sidecar(headers=[["a", "b"], ["c"]], labels={"a": "b"}),
    twice=sidecar(api="push", samples=[{"file": "a", "id": "", "size": 0, "sha256": ""}] * 2), huge=sidecar(samples=[{"file": "a", "id": "", "size": 2**63 - 1, "sha256": ""}]),
    accent=sidecar(samples=[{"file": "a/\u0301b", "id": "", "size": 1, "sha256": ""}]), elsewhere=sidecar(samples=[{"file": "../a", "id": "", "size": 1, "sha256": ""}]), itself=sidecar(samples=[{"file": f"{STEM}.json", "id": "", "size": 9, "sha256": ""}]),
    other_version=sidecar(version=2), deep="[" * 100, empty="",
)


def archive_index(*lines, heading="gateway-archive-index 1", count=None):
    return "\n".join((heading, *lines, f"end {len(lines) if count is None else count}")) + "\n"


seeds(
    "archive-index",
    usual=archive_index("20260131T23 120 4711000", "20260201T00 6 90321 changing"), none=archive_index(), one=archive_index("20260131T23 1 0"),
    largest=archive_index(f"20260131T23 {2**42} {2**42}"), beyond=archive_index(f"20260131T23 1 {2**42 + 1}"), huge=archive_index(f"20260131T23 1 {2**63}"),
    negative=archive_index("20260131T23 -1 5"), twice=archive_index("20260131T23 1 5", "20260131T23 1 5"), cut=archive_index("20260131T23 1 5", count=2),
    other_version=archive_index(heading="gateway-archive-index 2"), no_hour=archive_index("2026013123 1 5"), other_word=archive_index("20260131T23 1 5 changed"), empty="",
)


def elf(*entries, strings=b"\0libx.so\0$ORIGIN:/lib\0", size=None):
    """A shared object of this machine that has program headers and a dynamic section, and nothing to run."""
    table = b"".join(struct.pack("<QQ", *entry) for entry in (*entries, (5, 0x1000 + 176), (10, len(strings) if size is None else size), (0, 0)))
    place = 176 + len(strings)
    end = place + len(table)
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    segments = ((1, 0, 0x1000, end), (2, place, 0x1000 + place, len(table)))
    return head + b"".join(struct.pack("<IIQQQQQQ", kind, 4, start, at, at, count, count, 8) for kind, start, at, count in segments) + strings + table


seeds(
    "elf",
    runpath=elf((1, 1), (29, 9)), rpath=elf((1, 1), (15, 9)), both=elf((1, 1), (15, 9), (29, 17)), far=elf((1, 2**60)), no_end=elf((1, 1), strings=b"\0libx"),
    long_table=elf((1, 1), size=2**40), headers_far=elf((1, 1))[:32] + b"\xff" * 8 + elf((1, 1))[40:], cut=elf((1, 1), (29, 9))[:150],
)


def proxy_block(command, family, content, count=None):
    """A header of the PROXY protocol, version 2."""
    count = len(content) if count is None else count
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", command, family, count) + content


PROXY_FOUR = bytes([192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack(">HH", 49152, 80)
PROXY_SIX = bytes.fromhex("20010db8000000000000000000000007") + bytes(15) + b"\1" + struct.pack(">HH", 49152, 443)

seeds(
    "proxy",
    tcp4="PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nPOST /ingest HTTP/1.1\r\n", tcp6="PROXY TCP6 2001:db8::7 ::1 1 2\r\n",
    unknown="PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", longest="PROXY UNKNOWN " + "x" * 91 + "\r\n", too_long="PROXY UNKNOWN " + "x" * 100 + "\r\n",
    bare_lf="PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n", zeroes="PROXY TCP4 192.0.2.07 10.0.0.1 01 2\r\n",
    block4=proxy_block(0x21, 0x11, PROXY_FOUR) + b"POST", block6=proxy_block(0x21, 0x21, PROXY_SIX), local=proxy_block(0x20, 0, b""),
    extensions=proxy_block(0x21, 0x11, PROXY_FOUR + b"\x02\0\x04host\x04\0\1\0"), unspecified=proxy_block(0x21, 0, b""), short=proxy_block(0x21, 0x21, PROXY_FOUR),
    unix=proxy_block(0x21, 0x31, b"/run/a".ljust(108, b"\0") * 2), large=proxy_block(0x21, 0x11, PROXY_FOUR + bytes(4000)), too_large=proxy_block(0x21, 0x11, PROXY_FOUR, 4097),
    version3=proxy_block(0x31, 0x11, PROXY_FOUR), command=proxy_block(0x22, 0x11, PROXY_FOUR), other="GET / HTTP/1.1\r\n", all_ones=proxy_block(0x21, 0x21, b"\xff" * 36),
)


def part(name, content, more="", head="Content-Disposition: form-data; name="):
    return f"--x\r\n{head}{name}{more}\r\n\r\n{content}\r\n"


def parts(*written, boundary="x", tail="--x--\r\n"):
    """The Content-Type, a line feed, and the body."""
    return f"multipart/form-data; boundary={boundary}\n" + "".join(written) + tail


seeds(
    "multipart",
    usual=parts(part('"profile"', "main;work 1"), part('"sample_type_config"', "{}")), last=parts(*[part('"a"', "b")] * 15, part('"profile"', "c")),
    beyond=parts(*[part('"a"', "b")] * 16, part('"profile"', "c")), quoted=parts(part("profile", "c"), boundary='"x"; charset=utf-8'),
    more=parts(part('"profile"', "c", '; filename="profile.pprof"\r\nContent-Type: application/octet-stream')), empty_part=parts(part('"profile"', "")),
    upper_case=parts(part('"profile"', "c", head="CONTENT-DISPOSITION: FORM-DATA; NAME=")), line_before="multipart/form-data; boundary=x\n\r\n" + part("profile", "c") + "--x--",
    boundary_inside=parts(part('"profile"', "--x\r\n-x\r\n--")), file_name=parts(part('"a"', "b", '; filename="; name=profile"'), part('"profile"', "c")),
    no_end=parts(part('"profile"', "c"), tail=""), no_head_end=parts("--x\r\nContent-Disposition: form-data; name=profile\r\n"), no_head=parts("--x\r\n\r\nc\r\n"),
    no_boundary="multipart/form-data\n" + part("profile", "c"), empty_boundary=parts(part("profile", "c"), boundary=""), longest=parts("--" + "b" * 70 + "\r\n\r\n", boundary="b" * 70),
    too_long=parts("--" + "b" * 71 + "\r\n\r\n", boundary="b" * 71), long_head=parts(part('"profile"', "c", "\r\nX: " + "y" * 3900)), go=b"multipart/form-data; boundary=0a1b\n" + multipart("0a1b", profile="x", sample_type_config="{}"),
    not_utf8=b"multipart/form-data; boundary=\xff\n--\xff\r\n\xff\r\n\r\n\r\n--\xff", empty="",
)


def pprof(types, samples, locations, functions, texts, default=0):
    """A profile.proto; samples are lists of locations with values, locations are lists of functions."""
    body = b"".join(field(1, b"\x08" + varint(name) + b"\x10" + varint(unit)) for name, unit in types)
    for stack, values in samples:
        body += field(2, field(1, b"".join(map(varint, stack))) + field(2, b"".join(varint(value % 2**64) for value in values)))
    body += field(3, b"\x08\x01\x28\x01")
    for place, lines in locations:
        body += field(4, b"\x08" + varint(place) + b"\x10\x01" + b"".join(field(4, b"\x08" + varint(line) + b"\x10\x07") for line in lines))
    body += b"".join(field(5, b"\x08" + varint(number) + b"\x10" + varint(name)) for number, name in functions)
    return body + b"".join(field(6, text) for text in texts) + b"\x70" + varint(default)


TYPES, TEXTS = ((1, 2), (3, 4)), ("", "samples", "count", "cpu", "nanoseconds", "main", "work", "F[struct { A int; B int }]")
FUNCTIONS = ((1, 5), (2, 6), (3, 7))
usual = pprof(TYPES, (((2, 1), (1, 10)), ((3, 2, 1), (2, 20))), ((1, (1,)), (2, (2, 3)), (3, (3,))), FUNCTIONS, TEXTS, 1)
seeds(
    "pprof",
    one=PPROF, usual=usual, gzip=compressed(usual), recursion=pprof(TYPES, (((1, 1, 1), (1, 10)), ((1, 2, 1), (1, 10))), ((1, (1,)), (2, (2,))), FUNCTIONS, TEXTS),
    negative=pprof(TYPES, (((2, 1), (-1, -(2**63))), ((1,), (2**63 - 1, -(2**63)))), ((1, (1,)), (2, (2,))), FUNCTIONS, TEXTS),
    no_ids=pprof(TYPES, (((2, 1), (1, 1)),), ((0, (1,)), (0, (2,))), ((0, 5), (0, 6)), TEXTS), far_ids=pprof(TYPES, (((2**63, 2**64 - 1), (1, 1)),), ((2**63, (2**62,)), (2**64 - 1, ())), ((2**62, 5),), TEXTS),
    no_location=pprof(TYPES, (((9,), (1, 1)),), (), (), TEXTS), no_function=pprof(TYPES, (((1,), (1, 1)),), ((1, (9,)),), (), TEXTS), no_text=pprof(TYPES, (((1,), (1, 1)),), ((1, (1,)),), ((1, 99),), TEXTS),
    empty_stack=pprof(TYPES, (((), (1, 1)),), (), (), TEXTS), nameless=pprof(TYPES, (((1,), (1, 1)),), ((1, ()),), (), TEXTS), values=pprof(TYPES, (((1,), (1,)),), ((1, (1,)),), FUNCTIONS, TEXTS),
    unpacked=PPROF.replace(b"\x12\x06\x0a\x01\x01\x12\x01\x05", b"\x12\x04\x08\x01\x10\x05"), group=usual + b"\x33\x34", cut=usual[:-9], empty="",
    deep=pprof(TYPES, ((tuple(1 + number % 3 for number in range(90)), (1, 1)),), ((1, (1,)), (2, (2,)), (3, (3,))), FUNCTIONS, TEXTS),
)
seeds(
    "stacks",
    usual="main;work 3\nmain;work;leaf 4\nmain 1\n", spaces="main (a.py:1);work (b.py:2) 12", crlf="a;b 1\r\nc 2\r\n", recursion="a;a;b;a 5\na 6", empty_frames=";;a 1\n; 2\n 3",
    negative="a -5\na;b 9223372036854775807\nb -9223372036854775808", too_large="a 9223372036854775808", no_count="a;b\nc x", unprintable="a\tb;\u202ec 1\n\xe9 2".encode("latin-1", "replace"),
    many="\n".join(f"a;f{number % 9};g{number} {number}" for number in range(200)), lines="main;work\nmain;work\nmain", gzip=compressed(b"a;b 1\n"), deep=";".join("ab" * 45) + " 1", empty="",
)


def speedscope(*profiles, frames=("main", "work", "leaf")):
    return json.dumps({"$schema": "https://www.speedscope.app/file-format-schema.json", "shared": {"frames": [{"name": name} for name in frames]}, "profiles": profiles})


SAMPLED = {"type": "sampled", "name": "thread 1", "unit": "seconds", "startValue": 0, "endValue": 1, "samples": [[0, 1], [0, 1, 2], []], "weights": [0.01, 0.02, 1e-9]}
EVENTS = [{"type": "O", "frame": 0, "at": 0}, {"type": "O", "frame": 1, "at": 2.5}, {"type": "C", "frame": 1, "at": 4}, {"type": "C", "frame": 0, "at": 9}]
EVENTED = {"type": "evented", "unit": "milliseconds", "startValue": 0, "endValue": 9, "events": EVENTS}
seeds(
    "speedscope",
    sampled=speedscope(SAMPLED), evented=speedscope(EVENTED), both=speedscope(SAMPLED, EVENTED, {**SAMPLED, "unit": "bytes"}, {**SAMPLED, "unit": "none"}),
    names=speedscope(SAMPLED, frames=("a\n\"\\b", "\U0001f525;", "")), half=speedscope(SAMPLED).replace("main", "\\ud83d\\u0041\\u12"), far=speedscope({**SAMPLED, "samples": [[3]], "weights": [1]}),
    weights=speedscope({**SAMPLED, "weights": [1]}), huge=speedscope({**SAMPLED, "weights": [1e300, -1e300, 1]}), backwards=speedscope({**EVENTED, "events": EVENTS[::-1]}),
    wrong_close=speedscope({**EVENTED, "events": EVENTS[:2] + [EVENTS[3]]}), unit=speedscope({**SAMPLED, "unit": "weeks"}), profiles_first='{"profiles":[%s],"shared":{"frames":[{"file":"x","name":"a"},{"name":"b"},{"name":"c"}]}}' % json.dumps(SAMPLED),
    twice='{"shared":[],"shared":{"frames":[]},"profiles":[]}', deep='{"shared":' + "[" * 300, cut=speedscope(SAMPLED)[:-30], empty="",
)
