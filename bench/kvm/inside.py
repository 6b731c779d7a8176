# SPDX-License-Identifier: Apache-2.0
"""inside.py ENGINE RUNS FORKS: the part of bench/kvm that runs in L1: measures, and reports JSON lines to $RIG_RESULTS.

Times come from L1's monotonic clock, which counts instructions under icount. Beside each stand the VM exits and guest page
faults (nested or shadow paging's) that KVM counted meanwhile, over all virtual machines: nothing else uses KVM here.
"""
import json
import os
import pathlib
import re
import select
import statistics
import subprocess
import sys
import time

BUILD = pathlib.Path("/rig/build")
VIAL, PROBE, DRIVER, FIRST_EXIT = (BUILD / p for p in ("src/vial", "bench/bench-probe", "tests/integ/lib-driver", "bench/kvm/first-exit"))
TRACE = pathlib.Path("/sys/kernel/tracing/instances/bench/events/kvm")
TOP_HIST = pathlib.Path("/sys/kernel/tracing/events/kvm/kvm_exit/trigger")
LIMIT_S = 60  # of virtual time, which may be an hour of the host's
MEMORY = "512"
MICROVM = ["qemu-system-x86_64", "-M", "microvm,x-option-roms=off,rtc=on,auto-kernel-cmdline=off", "-accel", "kvm", "-cpu", "host", "-smp", "1",
           "-m", MEMORY, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
           "-kernel", f"{BUILD}/guest/vmlinuz-small", "-initrd", "/rig/microvm.cpio",
           "-append", "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t tsc=nowatchdog rdinit=/init"]


class Counters:
    """Hits of kvm_exit and kvm_page_fault, and exits by reason."""

    def __init__(self):
        TOP_HIST.write_text("!" + TOP_HIST.read_text().split(" [")[0])  # the rig's own count would cost every exit
        TRACE.parents[1].mkdir(exist_ok=True)
        (TRACE / "kvm_exit/trigger").write_text("hist:keys=exit_reason")
        (TRACE / "kvm_page_fault/trigger").write_text("hist:keys=error_code")

    @staticmethod
    def hits(event):
        return int(re.search(r"Hits: (\d+)", (TRACE / event / "hist").read_text())[1])

    def now(self):
        return self.hits("kvm_exit"), self.hits("kvm_page_fault")

    def reasons(self):
        """Exits since the start by reason, most frequent first."""
        found = re.findall(r"\{ exit_reason:\s+(.*?) \} hitcount:\s+(\d+)", (TRACE / "kvm_exit/hist").read_text())
        return sorted(((int(n), name) for name, n in found), reverse=True)


class Bench:
    def __init__(self, engine, runs):
        self.runs = runs
        self.env = {**os.environ, "VIAL_ENGINE": engine, "VIAL_HOME": "/scratch/bench-home"}
        self.counters = Counters()
        self.out = os.open(os.environ["RIG_RESULTS"], os.O_WRONLY)

    def say(self, **m):
        os.write(self.out, json.dumps(m).encode() + b"\n")

    def put(self, name, unit, values, **more):
        self.say(name=name, unit=unit, p50=statistics.median(values), min=min(values), max=max(values), values=values, **more)

    def several(self, name, function, runs=None):
        """FUNCTION returns {part: ms}; each part becomes a row, with the exits and faults of the whole."""
        parts, exits, faults = {}, [], []
        for i in range((runs or self.runs) + 1):
            before = self.counters.now()
            got = function()
            after = self.counters.now()
            if i == 0:
                continue  # fills the page cache
            for part, value in got.items():
                parts.setdefault(part, []).append(value)
            exits.append(after[0] - before[0])
            faults.append(after[1] - before[1])
        for part, values in parts.items():
            self.put(f"{name}{part}", "ms", values, exits=statistics.median(exits), faults=statistics.median(faults))

    def timed(self, argv, marker, tail=b""):
        """Start ARGV; {first output that contains MARKER, end} in ms. TAIL is written after MARKER came."""
        start = time.monotonic_ns()
        p = subprocess.Popen([str(a) for a in argv], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        got, first = b"", None
        while True:
            ready, _, _ = select.select([p.stdout], [], [], LIMIT_S)
            chunk = os.read(p.stdout.fileno(), 65536) if ready else b""
            if not ready:
                p.kill()
            if not chunk:
                break
            got += chunk
            if first is None and marker in got:
                first = time.monotonic_ns()
                p.stdin.write(tail)
                p.stdin.close()
        p.wait()
        end = time.monotonic_ns()
        if first is None:
            raise RuntimeError(f"{argv}: no {marker!r}: {got[-2000:]!r} {p.stderr.read()[-2000:]!r}")
        return {" to first output": (first - start) / 1e6, ", whole": (end - start) / 1e6}

    def first_exit(self):
        r = subprocess.run([FIRST_EXIT, "20"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        self.put("bare /dev/kvm: create to first exit", "ms", [int(x) / 1e6 for x in r.stdout.split()][1:])

    def starts(self):
        self.several("QEMU microvm", lambda: self.timed(MICROVM, b"READY", b"\n"))
        self.several("vial run echo hello", lambda: self.timed([VIAL, "run", "--", "echo", "hello"], b"hello"))

    def cold(self):
        self.several("vial cold, --console to the prompt", lambda: self.timed([VIAL, "run", "--console"], b"# ", b"exit\n"), 2)

    def probe(self, name, unit, scale, *args):
        before = self.counters.now()
        r = subprocess.run([PROBE, *args], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if r.returncode != 0:
            raise RuntimeError(f"bench-probe {args}: {r.stderr}")
        values = [scale(int(x)) for x in r.stdout.split()]
        exits, faults = (b - a for a, b in zip(before, self.counters.now()))
        self.put(name, unit, values[1:] or values, exits=round(exits / len(values)), faults=round(faults / len(values)))

    def inside_box(self):
        self.probe("exec of true in a running box", "ms", lambda ns: ns / 1e6, "rtt", "30")
        self.probe("16 MiB through cat, both ways counted once", "MB/s", lambda ns: 16 * 1048576e3 / ns, "pipe", "16")

    def memory(self):
        """Private memory of the idle box's monitor processes; what backs the guest's memory is told apart by its size."""
        p = subprocess.Popen([PROBE, "hold"], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        monitor = int(p.stdout.readline() or b"0")
        for pid in below(monitor):
            guest, own = private_kib(pid)
            name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            self.put(f"private memory of {name}", "MiB", [own / 1024], guest_mib=guest / 1024)
        p.communicate(b"\n")

    def fork(self, n):
        with Driver(self.env) as d:
            d.call("create")
            d.call("start 0")
            d.call("run 0 echo state >/tmp/s")
            before = self.counters.now()
            start = time.monotonic_ns()
            d.call(f"fork 0 {n}")
            forked = time.monotonic_ns()
            for i in range(1, n + 1):
                if "state" not in d.run(i, "cat /tmp/s"):
                    raise RuntimeError("a child lacks its parent's state")
            answered = time.monotonic_ns()
            exits, faults = (b - a for a, b in zip(before, self.counters.now()))
            pause = int(d.call("pause_us 0")) / 1000
        self.put(f"fork of {n}: call", "ms", [(forked - start) / 1e6], exits=exits, faults=faults)
        self.put(f"fork of {n}: until each child answered", "ms", [(answered - start) / 1e6], exits=exits, faults=faults)
        self.put(f"fork of {n}: parent's pause", "ms", [pause])


class Driver:
    """lib-driver of the integration tests: a line each way."""

    def __init__(self, env):
        self.p = subprocess.Popen([DRIVER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.stdin.close()
        self.p.wait()

    def call(self, line):
        self.p.stdin.write(line.encode() + b"\n")
        self.p.stdin.flush()
        answer = self.p.stdout.readline().decode()
        if not answer.startswith("ok"):
            raise RuntimeError(f"{line}: {answer}")
        return answer[2:].strip()

    def run(self, box, script):
        code, size = map(int, self.call(f"run {box} {script}").split())
        text = self.p.stdout.read(size).decode()
        if code != 0:
            raise RuntimeError(f"{script}: {code} {text}")
        return text


def below(pid):
    """PID and its descendants."""
    found = [pid]
    for p in found:
        for task in pathlib.Path(f"/proc/{p}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def private_kib(pid):
    """(guest memory, the rest): private KiB of a process; guest memory is a mapping of at least 64 MiB."""
    totals = [0, 0]
    size = 0
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key == "Size":
            size = int(rest.split()[0])
        elif key in ("Private_Clean", "Private_Dirty"):
            totals[size < 65536] += int(rest.split()[0])
    return totals[0], totals[1]


def main():
    engine, runs, forks = sys.argv[1], int(sys.argv[2]), [int(n) for n in sys.argv[3].split(",") if n]
    b = Bench(engine, runs)
    steps = [b.first_exit, b.starts, b.inside_box, b.memory] + [lambda n=n: b.fork(n) for n in forks] + [b.cold]
    failed = False
    for step in steps:
        try:
            step()
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            failed = True
            b.say(error=str(e))
    b.say(reasons=b.counters.reasons()[:12])
    sys.exit(1 if failed else 0)


main()
