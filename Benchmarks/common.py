"""Helpers of the benchmarks: nginx as sink and peer, the gateway, wrk, and their resources according to /proc."""
import json, os, pathlib, re, socket, subprocess, sys, time, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TICKS = os.sysconf("SC_CLK_TCK")
LUA = """
local file = io.open("%s", "rb"); local body = file:read("*a"); file:close()
wrk.method = "POST"; wrk.body = body
wrk.headers["Content-Type"] = "application/octet-stream"
"""


def install(*packages):
    missing = [p for p in packages if subprocess.run(["dpkg", "-s", p], capture_output=True).returncode]
    if missing:
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
        subprocess.run(sudo + ["apt-get", "install", "-y", "-qq", *missing], check=True, env=environment, stdout=subprocess.DEVNULL)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(2000):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    sys.exit(f"nothing listens on port {port}")


def nginx(folder, name, servers, connections=1024):
    prefix = folder / name
    prefix.mkdir()
    paths = "".join(f"{kind}_temp_path {prefix}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (prefix / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {prefix}/pid; error_log {prefix}/error.log;\n"
        f"events {{ worker_connections {connections}; }}\n"
        f"http {{ access_log off; client_max_body_size 64m; client_body_buffer_size 1m; keepalive_requests 1000000000; {paths}\n{servers}\n}}\n")
    return subprocess.Popen(["nginx", "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", str(prefix / "error.log")])


def processes(pid):
    """A process and its children; none when it has ended meanwhile."""
    try:
        children = [c for task in pathlib.Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid] + [c for child in children for c in processes(int(child))]


def cpu_times(pid):
    """The seconds that a process and its children have taken of the processor, as a user and in the kernel."""
    user = kernel = 0
    for each in processes(pid):
        fields = pathlib.Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        user, kernel = user + int(fields[11]), kernel + int(fields[12])
    return user / TICKS, kernel / TICKS


def cpu_seconds(pid):
    return sum(cpu_times(pid))


def context_switches(pid):
    """How often the threads of a process and of its children have left a processor."""
    tasks = (task for each in processes(pid) for task in pathlib.Path(f"/proc/{each}/task").iterdir())
    return sum(int(n) for task in tasks for n in re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text()))


def rss_mib(pid, field):
    """The resident memory of a process and its children: VmRSS is the current value, VmHWM the peak."""
    total = 0
    for each in processes(pid):
        match = re.search(rf"{field}:\s+(\d+)", pathlib.Path(f"/proc/{each}/status").read_text())
        total += int(match.group(1)) if match else 0
    return total / 1024


asked = {}


def sink_count(port):
    """The requests that a sink has answered, without those of this function."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=10).read().decode()
    asked[port] = asked.get(port, 0) + 1
    return int(page.split()[9]) - asked[port]


def settled_counts(ports):
    """The counts of sinks, once none of them changes any more."""
    last = None
    for _ in range(100):
        if (now := [sink_count(port) for port in ports]) == last:
            break
        last = now
        time.sleep(0.1)
    return last


def settled_count(port):
    last = None
    for _ in range(50):
        if (now := sink_count(port)) == last:
            break
        last = now
        time.sleep(0.2)
    return last


class Contender:
    def __init__(self, name, process, port):
        self.name, self.process, self.port = name, process, port


def wrk(contender, body, folder, connections):
    """The command that puts load on a contender, without -d."""
    data, script = folder / "body", folder / "post.lua"
    data.write_bytes(body)
    script.write_text(LUA % data)
    url = f"http://127.0.0.1:{contender.port}/ingest?name=bench&format=pprof"
    return ["wrk", "-t1", f"-c{connections}", "--latency", "-s", str(script), url]


def latencies(report):
    return dict(re.findall(r"^\s+(50|99)%\s+(\S+)", report, re.M))


def failed_answers(report):
    match = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    return int(match.group(1)) if match else 0


def require_build():
    if not (ROOT / ".build/release/gateway").exists():
        sys.exit("build first: make build")


def start_gateway(folder, sinks, limits={}, http={}, queue={}, tls=None, more={}, listeners={}, top={}, receiver={}, receivers={}, scheme="http", endpoint={}):
    """A gateway that forwards to sinks. `top` goes into the config itself, `more` into its listener, `receiver` and `endpoint` into each
    receiver and its endpoint, and `receivers` are further ones."""
    port = free_port()
    receivers = {f"sink{i}": {"plugin": "HTTPWriter", "config": {"endpoint": [{"url": f"{scheme}://127.0.0.1:{p}", **endpoint}]}, "queue": queue, **receiver}
                 for i, p in enumerate(sinks)} | receivers
    listener = {"http": {"listen_address": "127.0.0.1", "listen_port": port, **http}, "ack": "delivered", "forward_to": list(receivers), **({"tls": tls} if tls else {}), **more}
    listeners = {"default": listener} | {name: {**other, "forward_to": list(receivers)} for name, other in listeners.items()}
    config = folder / "gateway.json"
    config.write_text(json.dumps({"admin": None, "limits": limits, "receive_http": listeners, "receivers": receivers, **top}))
    process = subprocess.Popen([ROOT / ".build/release/gateway", "run", "--config", config], stderr=subprocess.DEVNULL)
    wait_for(port)
    return Contender("gateway, ack: delivered", process, port)


def metric(admin, name):
    page = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(rf"{name}(\{{|\s)", line))


def milliseconds(match):
    return float(match[1]) * {"us": 0.001, "ms": 1, "s": 1000}[match[2]]


def null_sink():
    """Builds the plugin that does nothing, and returns its path."""
    plugin = ROOT / ".build/null_sink.so"
    subprocess.run(["gcc", "-std=c11", "-O2", "-shared", "-fPIC", "-I", ROOT / "Sources/PluginABI/include", "-o", plugin, HERE / "null_sink.c"], check=True)
    return plugin


LABELS = {"__name__": "process_cpu", "service_name": "checkout", "env": "prod"}


def varint(number):
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def field(number, content):
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def push(sample):
    """A push.v1 PushRequest of one series and one sample."""
    labels = b"".join(field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in LABELS.items())
    return field(1, labels + field(2, field(1, sample) + field(2, b"6f6b1a6e-7a3e-4f0e-9d6b-000000000000")))


def make_certificate(folder):
    """A key and a certificate that signs itself, as members of `tls`."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key", "-out", folder / "certificate", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True)
    return {"cert_file": str(folder / "certificate"), "key_file": str(folder / "key")}
