"""A TLS client that prints what it saw as JSON: tls_client.py PORT CA ACTION [ARGUMENT...]

  request TEXT        prints version, ALPN, serial of the certificate and answer, and whether it ended with close_notify
  dribble TEXT SIZE   sends the request in TLS records of this many bytes each
  two TEXT [NAME]     sends the request again after a line on standard input, and uses the certificate NAME.pem
  silent              sends nothing and waits for the end
  plain TEXT          sends the request without TLS
"""

import json
import socket
import ssl
import sys

port, authority, action, *rest = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
if len(rest) > 1 and action == "two":
    context.load_cert_chain(rest[1] + ".pem", rest[1] + ".key")
context.set_alpn_protocols(["h2", "http/1.1"])


def text():
    return rest[0].encode().decode("unicode_escape").encode("latin-1")


def read_to_end(connection):
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
        # Python raises an error if the stream ends without close_notify.
        return answer.decode("latin-1"), True
    except ssl.SSLEOFError:
        return answer.decode("latin-1"), False


def connect():
    plain = socket.create_connection(("127.0.0.1", int(port)))
    return context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)


def describe(connection):
    serial = context.get_ca_certs() and connection.getpeercert()["serialNumber"]
    return {"version": connection.version(), "alpn": connection.selected_alpn_protocol(), "serial": serial}


if action == "silent":
    connection = socket.create_connection(("127.0.0.1", int(port)))
    seen = {"answer": connection.recv(100).decode("latin-1")}
elif action == "plain":
    connection = socket.create_connection(("127.0.0.1", int(port)))
    connection.sendall(text())
    seen = {"answer": read_to_end(connection)[0]}
else:
    connection = connect()
    seen = describe(connection)
    if action == "dribble":
        size = int(rest[1])
        for start in range(0, len(text()), size):
            connection.sendall(text()[start:start + size])
    else:
        connection.sendall(text())
    if action == "two":
        seen["first"] = connection.recv(65536).decode("latin-1")
        print(json.dumps(seen), flush=True)
        sys.stdin.readline()
        connection.sendall(text())
    seen["answer"], seen["closed"] = read_to_end(connection)
print(json.dumps(seen), flush=True)
