"""A program that is profiled by pyroscope-io, until standard input ends: profiled.py SERVER TENANT"""

import sys
import threading

import pyroscope

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()

pyroscope.configure(
    application_name="checkout", server_address=sys.argv[1], tenant_id=sys.argv[2], sample_rate=100,
    tags={"region": "eu-west", "build": "1.2.3+\u00e9"}, upload_interval=1, enable_logging=True)


def work():
    return sum(number * number for number in range(10_000))


while not ended.is_set():
    work()
