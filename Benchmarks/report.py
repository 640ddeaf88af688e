"""RESULTS.md and its charts, made of the results of Benchmarks/run."""
import os, pathlib, platform, re, statistics, time
import charts
from common import HERE

CHARTS = HERE / "charts"
FIGURES = {"median": statistics.median, "least": min, "most": max}


class Results:
    """The results of all rounds: for a point and a contender, one dictionary for each round."""
    def __init__(self, kinds, points):
        self.kinds, self.points, self.rounds, self.notes = kinds, points, {}, []

    def add(self, point, kind, result):
        self.rounds.setdefault((point, kind.name), []).append(result)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def get(self, point, kind, what, figure="median"):
        values = [r[what] for r in self.rounds.get((point, kind.name), []) if what in r]
        return FIGURES[figure](values) if values else None

    def keeps_rate(self, point, kind):
        """Whether every request at the fixed rate was answered."""
        return not self.get(point, kind, "unanswered", "most")

    def has(self, point, kind):
        return (point, kind.name) in self.rounds


def table(head, rows):
    """A table; columns behind the ones of words are aligned to the right."""
    words = sum(1 for name in head if name in ("body", "contender", "its 200 means that"))
    return ["| " + " | ".join(head) + " |", "|" + "---|" * words + "--:|" * (len(head) - words)] + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def shown(value, form=".1f"):
    return "–" if value is None else format(value, form)


def spread(results, point, kind, what, form):
    median, least, most = (results.get(point, kind, what, figure) for figure in FIGURES)
    if median is None:
        return "–"
    return f"{median:{form}} ({least:{form}}–{most:{form}})" if most > least else f"{median:{form}}"


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}, Linux {platform.release().split('-')[0]}"


def counted(number, name):
    return f"{number} {name}{'s' if number > 1 else ''}"


def load_name(point):
    target = "`POST /ingest`" if point.api == "ingest" else "Push, gzip"
    return f"{target}, {counted(point.destinations, 'destination')}, {counted(point.connections, 'connection')}"


def costs(results, points):
    head = ["body", "contender", "requests/s", "CPU µs/request", "user", "kernel", "of nginx", "syscalls", "switches", "RSS MiB", "peak"]
    rows = []
    for point in points:
        base = next((results.get(point, k, "cpu") for k in results.kinds if k.name == "nginx"), None)
        for kind in results.kinds:
            if not results.has(point, kind):
                continue
            user, kernel, cpu, syscalls, switches, steady, peak = (
                results.get(point, kind, what) for what in ("user", "kernel", "cpu", "syscalls", "switches", "steady", "peak"))
            rows.append([
                point.label, kind.name, spread(results, point, kind, "rate", ".0f"), spread(results, point, kind, "cpu", ".1f"), shown(user), shown(kernel),
                shown(cpu / base if base else None, ".2f"), shown(syscalls), shown(switches, ".2f"), shown(steady), shown(peak)])
    return table(head, rows)


def latencies(results, points):
    rows = []
    for point in points:
        for kind in results.kinds:
            if results.get(point, kind, "p99") is None:
                continue
            late = results.get(point, kind, "unanswered", "most")
            rows.append([point.label, kind.name, f"{results.get(point, kind, 'offered'):.0f}", shown(results.get(point, kind, "p50"), ".2f"),
                         spread(results, point, kind, "p99", ".2f"), spread(results, point, kind, "p99.9", ".2f"), f"{late:.1%}" if late else "0"])
    return table(["body", "contender", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "unanswered"], rows) if rows else []


def costs_per_destination(results, points):
    """What one more destination costs, by the slope between the fewest and the most."""
    points = sorted(points, key=lambda p: p.destinations)
    few, many, rows = points[0], points[-1], []
    for kind in results.kinds:
        if kind.mode == "memory" and results.has(few, kind) and results.has(many, kind):
            each = [results.get(p, kind, "cpu") for p in points]
            rows.append([kind.name, *map(shown, each), shown((each[-1] - each[0]) / (many.destinations - few.destinations))])
    return table(["contender", *(f"{p.destinations}" for p in points), "each further one"], rows)


def over_connections(results, points):
    rows = []
    for kind in results.kinds:
        if kind.mode == "memory" and any(results.has(p, kind) for p in points):
            rows.append([kind.name, *(f"{shown(results.get(p, kind, 'rate'), '.0f')}, {shown(results.get(p, kind, 'cpu'))} µs" for p in points)])
    return table(["contender", *(f"{p.connections}" for p in points)], rows)


# MARK: Charts

def write_chart(name, svg):
    (CHARTS / f"{name}.svg").write_text(svg)
    return f"![{re.search('<title>(.*?)</title>', svg)[1]}](charts/{name}.svg)"


def bar_chart(results, name, title, note, points, what):
    panels = []
    for point in points:
        rows = [(k.key, k.name, *(results.get(point, k, what, figure) for figure in ("least", "median", "most")))
                for k in results.kinds if results.get(point, k, what) is not None and (what != "p99" or results.keeps_rate(point, k))]
        if rows:
            panels.append((point.label, rows))
    return [write_chart(name, charts.bars(title, note, panels)), ""] if panels else []


def line_chart(results, name, title, note, below, points, xs, what):
    series = [(k.key, k.name, [results.get(p, k, what) for p in points])
              for k in results.kinds if k.mode == "memory" and any(results.has(p, k) for p in points)]
    return [write_chart(name, charts.lines(title, note, below, xs, series)), ""] if series else []


# MARK: The document

def others(results):
    """How much of the machine was not the benchmark's."""
    values = [r["others"] for rounds in results.rounds.values() for r in rounds]
    if not values:
        return "Nothing was measured."
    return f"Other programs took {statistics.median(values):.2f} cores meanwhile, and {max(values):.2f} in the worst measurement."


def introduction(results, options, versions, arguments):
    lines = [
        "# Benchmark results", "",
        f"Written by `{' '.join(['Benchmarks/run', *arguments])}` on {machine()}, {time.strftime('%Y-%m-%d')};",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".", "",
        "Each contender gets the same requests over keep-alive connections from wrk, and forwards each to all destinations: nginx, one process each,",
        "which answers 200 at once. Only requests that reached every destination count. Load, contender and destinations share the cores, so that",
        "requests/s shows what the whole chain costs, and CPU time what the contender does: the user and kernel time of its processes.", "",
        f"Numbers are medians of {counted(options.rounds, 'round')} of {options.seconds} s, in parentheses the least and the most. The contenders take turns in each round,",
        "and each measurement has a new process. nginx has one worker, and Envoy one thread that works; the relays and the gateway may use all cores.",
        others(results), "",
    ]
    return lines + table(["contender", "its 200 means that"], [[k.name, k.meaning] for k in results.kinds])


SCALES = "each panel has its own scale"


def about_load(results, options, points, suffix):
    """The costs, and the latencies at a fixed rate, of one kind of load."""
    where = load_name(points[0]).replace("`", "")
    lines = [f"## {load_name(points[0])}", ""]
    lines += bar_chart(results, f"cpu{suffix}", "CPU time per request, µs", f"{where}; less is better; {SCALES}", points, "cpu")
    lines += bar_chart(results, f"throughput{suffix}", "Requests per second", f"{where}; more is better; {SCALES}", points, "rate")
    lines += [
        "*of nginx* is CPU time over nginx's, *switches* are context switches, and both they and system calls are per request. System calls are",
        "counted by perf while the load warms up. *RSS* is the resident memory when the load has ended, *peak* the most there was; what processes",
        "share counts for each.", ""]
    lines += costs(results, points)
    if rows := latencies(results, points):
        rate = f"Half of what {results.kinds[0].name} reached in the first round" if options.fixed_rate is None else "The rate of `--fixed-rate`"
        lines += [
            "### At a fixed rate", "",
            f"{rate}, the same for every contender, for {options.fixed_seconds} s a round. Requests are due by the clock, and a latency",
            "counts from then on, whether a connection was free or not. *Unanswered* requests count with the time that they have waited; it is the",
            "most of a round.", ""]
        note = f"{where}; less is better; {SCALES}; without those who left requests unanswered"
        lines += bar_chart(results, f"p99{suffix}", "p99 at a fixed rate, ms", note, points, "p99") + rows
    return lines


def about_destinations(results, points):
    note = f"{points[0].label}, {counted(points[0].connections, 'connection')}"
    chart = line_chart(results, "destinations", "CPU time per request over destinations, µs", note, "destinations", points, [p.destinations for p in points], "cpu")
    return ["## Destinations", "", f"CPU µs per request with {note}.", ""] + chart + costs_per_destination(results, points)


def about_connections(results, points):
    note = f"{points[0].label}, {counted(points[0].destinations, 'destination')}"
    chart = line_chart(results, "connections", "Requests per second over connections", note, "connections", points, [p.connections for p in points], "rate")
    return ["## Connections", "", f"Requests/s and CPU per request with {note}.", ""] + chart + over_connections(results, points)


def about_instructions(counts):
    lines = ["## Instructions and allocations", "",
             "Of the gateway for one request of 9 KiB and a receiver that does nothing, counted by callgrind with `Benchmarks/instructions`.", ""]
    return lines + ["| case | instructions | allocations |", "|---|--:|--:|", *(f"| {case} | {count} | {calls} |" for case, count, calls in counts), ""]


def write(results, options, versions, arguments, base, destinations, connections, instructions):
    CHARTS.mkdir(exist_ok=True)
    for old in CHARTS.glob("*.svg"):
        old.unlink()
    lines = introduction(results, options, versions, arguments)
    for api in dict.fromkeys(p.api for p in base):
        lines += about_load(results, options, [p for p in base if p.api == api], "" if api == "ingest" else f"-{api}")
    if destinations:
        lines += about_destinations(results, destinations)
    if connections:
        lines += about_connections(results, connections)
    if instructions:
        lines += about_instructions(instructions)
    if results.notes:
        lines += ["## What is missing", "", *(f"- {note}" for note in results.notes), ""]
    (HERE / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")
