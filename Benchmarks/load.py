"""The load of Benchmarks/run: the requests, and one measurement of one contender."""
import contextlib, dataclasses, gzip, json, os, pathlib, random, re, shutil, subprocess, time
from common import TICKS, context_switches, cpu_times, failed_answers, processes, push, rss_mib, settled_counts, sink_count
from contenders import TOOLS

SIZES = {"351": 351, "9K": 9 << 10, "53K": 53 << 10, "183K": 183 << 10}
LABELS = {"351": "351 B", "9K": "9 KiB", "53K": "53 KiB", "183K": "183 KiB", "mix": "mix"}
TARGETS = {"ingest": "/ingest?name=bench&format=pprof", "push": "/push.v1.PusherService/Push"}
HEADERS = {"ingest": {"Content-Type": "application/octet-stream"}, "push": {"Content-Type": "application/proto", "Content-Encoding": "gzip"}}
WARM_UP = 0.3


class Failed(Exception):
    """Why a measurement has no result."""


class Paused(Failed):
    """A measurement took much longer than its load lasts, as when the machine or this process was stopped meanwhile."""


@contextlib.contextmanager
def within(seconds):
    start = time.monotonic()
    yield
    if (took := time.monotonic() - start) > seconds:
        raise Paused(f"a load of at most {seconds} s took {took:.0f} s")


@dataclasses.dataclass(frozen=True)
class Point:
    """One load."""
    api: str
    size: str
    destinations: int
    connections: int

    @property
    def label(self):
        return LABELS[self.size]

    def __str__(self):
        return f"{self.api}, {self.label}, {self.destinations} destinations, {self.connections} connections"


def bodies(point):
    """The bodies of a load, which take turns. They are random bytes, because senders compress profiles."""
    found = [random.Random(n).randbytes(n) for n in (SIZES.values() if point.size == "mix" else [SIZES[point.size]])]
    return found if point.api == "ingest" else [gzip.compress(push(body), 6, mtime=0) for body in found]


def write_load(point, folder):
    """Writes the script for wrk, and each request as a file."""
    lines, files = ['wrk.method = "POST"'] + [f'wrk.headers["{k}"] = "{v}"' for k, v in HEADERS[point.api].items()], []
    for index, body in enumerate(bodies(point)):
        head = "".join(f"{k}: {v}\r\n" for k, v in HEADERS[point.api].items())
        (folder / f"body{index}").write_bytes(body)
        files.append(folder / f"request{index}")
        files[-1].write_bytes(f"POST {TARGETS[point.api]} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines.append(f'do local file = io.open("{folder}/body{index}", "rb"); wrk.body = file:read("*a"); file:close() end')
    if len(files) > 1:
        # A script without `request` lets wrk send the same bytes always, without a call of the script.
        lines.insert(0, "local requests, turn = {}, 0")
        lines.append(f"""function init()
            for index = 0, {len(files) - 1} do
                local file = io.open("{folder}/body" .. index, "rb")
                requests[index] = wrk.format(nil, nil, nil, file:read("*a"))
                file:close()
            end
        end
        function request() turn = turn + 1; return requests[turn % {len(files)}] end""")
    (folder / "load.lua").write_text("\n".join(lines) + "\n")
    return files


def closed_loop(kind, contender, point, folder):
    """The command of wrk, without its duration: every connection sends its next request after its answer."""
    url = f"{kind.scheme}://127.0.0.1:{contender.port}{TARGETS[point.api]}"
    return ["wrk", "-t1", f"-c{point.connections}", "-s", str(folder / "load.lua"), url]


def count_syscalls(pid, load, folder):
    """Puts load on a process for a moment, and returns its system calls, or None where perf cannot count them."""
    moment = ["timeout", "-s", "INT", str(WARM_UP), *load[:1], "-d60s", *load[1:]]
    perf = ["perf", "stat", "-x,", "-o", str(folder / "perf"), "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, processes(pid)))]
    if shutil.which("perf") and subprocess.run([*perf, "--", *moment], capture_output=True).returncode in (0, 124):
        if match := re.search(r"^(\d+),.*raw_syscalls", (folder / "perf").read_text(), re.M):
            return int(match[1])
        return None
    subprocess.run(moment, capture_output=True)
    return None


def processor_times():
    """The seconds of processor time that all programs have taken, and those of this script and of what it has started."""
    user, nice, system, _idle, _iowait, _irq, _softirq, steal, *_ = map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    ended = os.times()
    return (user + nice + system + steal) / TICKS, sum(cpu_times(os.getpid())) + ended.children_user + ended.children_system


def throughput(kind, contender, point, ports, folder, seconds):
    """Puts full load on a contender, and returns what a request cost."""
    if point.size == "mix" and kind.scheme == "https":
        raise Failed("wrk cannot send a mix over TLS, because it may change a request that it has to write again")
    pid, load = contender.process.pid, closed_loop(kind, contender, point, folder)
    start_counts = [sink_count(port) for port in ports]
    syscalls = count_syscalls(pid, load, folder)
    counts = settled_counts(ports)
    warm = min(b - a for a, b in zip(start_counts, counts))
    all_before, own_before = processor_times()
    user, kernel = cpu_times(pid)
    switches, start = context_switches(pid), time.monotonic()
    with within(seconds + 2):
        report = subprocess.run(load + [f"-d{seconds}s"], check=True, capture_output=True, text=True).stdout
    elapsed = time.monotonic() - start
    all_after, own_after = processor_times()
    # Requests that are still on their way to a sink count too, so this waits until no count changes any more.
    reached = min(after - before for before, after in zip(counts, settled_counts(ports)))
    user_end, kernel_end = cpu_times(pid)
    if failed := failed_answers(report):
        raise Failed(f"{failed} requests were not answered 200")
    if match := re.search(r"Socket errors:.*", report):
        raise Failed(match[0])
    if not reached:
        raise Failed("no request reached all sinks")
    answered = int(re.search(r"(\d+) requests in", report)[1])
    result = {
        "rate": reached / elapsed, "user": (user_end - user) / reached * 1e6, "kernel": (kernel_end - kernel) / reached * 1e6,
        "switches": (context_switches(pid) - switches) / reached, "lost": max(0, answered - reached),
        "others": max(0, all_after - all_before - own_after + own_before) / elapsed,
    }
    result["cpu"] = result["user"] + result["kernel"]
    if syscalls and warm:
        result["syscalls"] = syscalls / warm
    return result


def fixed_rate(contender, point, files, rate, seconds):
    """The latencies at a fixed rate, in milliseconds."""
    command = [TOOLS / "fixed_rate", str(contender.port), f"{rate:.0f}", str(seconds), str(point.connections), *map(str, files)]
    with within(2 * seconds + 3):
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if result["errors"]:
        raise Failed(f"{result['errors']} requests failed at a fixed rate")
    return {"offered": rate, "unanswered": result["unanswered"] / (result["unanswered"] + result["count"])} | {k: result[k] for k in ("p50", "p99", "p99.9", "max")}


def memory(contender):
    """The resident memory after the load, and the most that there was."""
    pid = contender.process.pid
    return {"steady": rss_mib(pid, "VmRSS"), "peak": rss_mib(pid, "VmHWM")}
