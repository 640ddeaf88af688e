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
    """A process and its children."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [c for child in children for c in processes(int(child))]


def cpu_seconds(pid):
    total = 0
    for each in processes(pid):
        fields = pathlib.Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


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


def start_gateway(folder, sinks, limits={}, http={}, queue={}, tls=None, more={}, listeners={}):
    port = free_port()
    receivers = {f"sink{i}": {"plugin": "HTTPWriter", "config": {"endpoint": [{"url": f"http://127.0.0.1:{p}"}]}, "queue": queue}
                 for i, p in enumerate(sinks)}
    listener = {"http": {"listen_address": "127.0.0.1", "listen_port": port, **http}, "ack": "delivered", "forward_to": list(receivers), **({"tls": tls} if tls else {}), **more}
    config = folder / "gateway.json"
    config.write_text(json.dumps({"admin": None, "limits": limits, "receive_http": {"default": listener, **{name: {**other, "forward_to": list(receivers)} for name, other in listeners.items()}}, "receivers": receivers}))
    process = subprocess.Popen([ROOT / ".build/release/gateway", "run", "--config", config], stderr=subprocess.DEVNULL)
    wait_for(port)
    return Contender("gateway, ack: delivered", process, port)
