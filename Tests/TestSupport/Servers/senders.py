"""Posts with the HTTP clients that Python programs use: senders.py URL [CA [CERT KEY]]

Each client posts a short body, one of 100 KB and a chunked one, on one connection if it can, and its statuses are printed:
requests 200 200 200
"""

import http.client
import ssl
import sys
import urllib.parse

import httpx
import requests

url, authority, certificate, key = (sys.argv[1:] + [None] * 3)[:4]
pair = (certificate, key) if certificate else None
bodies = [b"main;work 1\n", b"main;work 1\n" * 8500]


def context():
    made = ssl.create_default_context(cafile=authority)
    if pair:
        made.load_cert_chain(*pair)
    return made


def with_requests(bodies):
    with requests.Session() as session:
        session.trust_env = False
        return [session.post(url, data=body, verify=authority, cert=pair).status_code for body in bodies]


def with_http_client(bodies):
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if authority else http.client.HTTPConnection
    connection = kind(parts.netloc, **({"context": context()} if authority else {}))
    statuses = []
    for body in bodies:
        connection.request("POST", f"{parts.path}?{parts.query}", body)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    return statuses


def with_httpx(bodies):
    with httpx.Client(verify=context() if authority else True, trust_env=False) as client:
        return [client.post(url, content=body).status_code for body in bodies]


for send in (with_requests, with_http_client, with_httpx):
    statuses = send(bodies + [iter([b"a 1\n", b"b 2\n"])])
    print(send.__name__[len("with_"):], *statuses, flush=True)
