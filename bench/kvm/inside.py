# SPDX-License-Identifier: Apache-2.0
"""inside.py ENGINE RUNS FORKS [STEP…]: the part of bench/kvm that runs in L1: measures, and reports JSON lines to $RIG_RESULTS.

Times come from L1's monotonic clock, which counts instructions under icount. Beside each stand the VM exits and guest page
faults (nested or shadow paging's) that KVM counted meanwhile, over all virtual machines: nothing else uses KVM here.
"""
import functools
import json
import os
import pathlib
import re
import select
import shutil
import statistics
import subprocess
import sys
import time

BUILD = pathlib.Path("/rig/build")
VIAL, PROBE, DRIVER, FIRST_EXIT, WALK = (BUILD / p for p in ("src/vial", "bench/bench-probe", "tests/integ/lib-driver", "bench/kvm/first-exit",
                                                             "bench/kvm/walk"))
AGENT_UP = b"agent is up"  # in the monitor's log
TRACE = pathlib.Path("/sys/kernel/tracing/instances/bench/events/kvm")
TOP_HIST = pathlib.Path("/sys/kernel/tracing/events/kvm/kvm_exit/trigger")
READ_MAX = 64 << 20  # larger files are nearly all holes
COLD_S = 60
LIMIT_S = 3600  # of virtual time, which jumps forward whenever everything waits for the host
HOME = "/dev/shm/bench-home"  # no disk: a wait for it would be a jump of virtual time
MEMORY = "512"
FORK_MIB = 64
GUEST_KIB = 120 << 10  # the smallest machine has 128 MiB
MICROVM = ["qemu-system-x86_64", "-M", "microvm,acpi=off,x-option-roms=off,rtc=on,auto-kernel-cmdline=off", "-accel", "kvm", "-cpu", "host", "-smp", "1",
           "-m", MEMORY, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
           "-kernel", f"{BUILD}/guest/vmlinuz-small", "-initrd", "/rig/microvm.cpio",
           "-append", "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t tsc=nowatchdog rdinit=/init"]


def read_ahead():
    """Fill the page cache with all that is started or read here."""
    libraries = set()
    for program in (MICROVM[0], "/usr/bin/python3", VIAL):
        out = subprocess.run(["ldd", shutil.which(str(program))], capture_output=True, text=True, check=False).stdout
        libraries |= set(re.findall(r"(/\S+) \(", out)) | {shutil.which(str(program))}
    trees = [p for top in (BUILD, pathlib.Path("/usr/share/qemu"), pathlib.Path("/usr/share/seabios")) for p in top.rglob("*")]
    for path in [*map(pathlib.Path, libraries), *trees, pathlib.Path("/rig/microvm.cpio")]:
        if path.is_file() and path.stat().st_size < READ_MAX:
            with open(path, "rb") as f:
                while f.read(1 << 20):
                    pass


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
        self.env = {**os.environ, "VIAL_ENGINE": engine, "VIAL_HOME": HOME}
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

    def microvm(self):
        self.several("QEMU microvm", lambda: self.timed(MICROVM, b"READY", b"\n"))

    def starts(self):
        self.several("vial run echo hello", lambda: self.timed([VIAL, "run", "--", "echo", "hello"], b"hello"))

    def cold(self):
        self.several("vial cold", self.cold_boot)

    def cold_boot(self):
        """To the agent as the monitor logs it, and to the shell on the console, which nobody ends from inside."""
        start = time.monotonic_ns()
        p = subprocess.Popen([VIAL, "run", "--console"], env={**self.env, "VIAL_LOG": "debug"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        wanted = {p.stderr.fileno(): (AGENT_UP, " to the agent"), p.stdout.fileno(): (b"# ", " to the shell")}
        got, times = dict.fromkeys(wanted, b""), {}
        while len(times) < len(wanted):
            ready, _, _ = select.select(list(wanted), [], [], COLD_S)
            chunks = {fd: os.read(fd, 65536) for fd in ready}
            if not all(chunks.values()) or not chunks:
                break
            for fd, chunk in chunks.items():
                got[fd] += chunk
                marker, name = wanted[fd]
                if marker in got[fd]:
                    times.setdefault(name, (time.monotonic_ns() - start) / 1e6)
        p.kill()
        p.communicate()
        if len(times) < len(wanted):
            raise RuntimeError(f"vial run --console: {times} {[text[-1000:] for text in got.values()]}")
        return times

    def walk(self):
        """The same program in a box that was booted and in one that came from a template."""
        program = "".join(f"\\{byte:03o}" for byte in WALK.read_bytes())
        with Driver(self.env) as d:
            for box, (kind, fields) in enumerate((("booted box", "console=true"), ("box from a template", ""))):
                d.call(f"create {fields}".strip())
                d.call(f"start {box}")
                d.run(box, f"printf '{program}' >/dev/shm/walk; chmod +x /dev/shm/walk")
                rows = [list(map(int, d.run(box, "/dev/shm/walk").split())) for _ in range(3)]
                for part, values in zip(("first touch of", "walk through"), zip(*rows)):
                    self.put(f"{part} 64 MiB, {kind}", "ms", [ns / 1e6 for ns in values])
                d.call(f"stop {box}")

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
            self.put(f"private memory of {name_of(pid)}", "MiB", [own / 1024], guest_mib=guest / 1024)
        p.communicate(b"\n")

    def fork(self, n, mib=0):
        """Of a box that has done nothing else but write MIB of memory."""
        name = f"fork of {n}" + (f", {mib} MiB written" if mib else "")
        with Driver(self.env) as d:
            d.call("create")
            d.call("start 0")
            d.run(0, f"head -c {mib << 20} /dev/zero | tr '\\0' x >/tmp/big; echo state >/tmp/s")
            before = self.counters.now()
            start = time.monotonic_ns()
            d.call(f"fork 0 {n}")
            forked = time.monotonic_ns()
            dirty = delta_mib(d.p.pid)
            idle = settled(d.p.pid, n + 1)
            asked = time.monotonic_ns()
            for i in range(1, n + 1):
                if "state" not in d.run(i, "cat /tmp/s"):
                    raise RuntimeError("a child lacks its parent's state")
            answered = time.monotonic_ns()
            exits, faults = (b - a for a, b in zip(before, self.counters.now()))
            pause = int(d.call("pause_us 0")) / 1000
        self.put(f"{name}: call", "ms", [(forked - start) / 1e6], exits=exits, faults=faults)
        self.put(f"{name}: then each child's first answer, one by one", "ms", [(answered - asked) / 1e6 / n], exits=exits, faults=faults)
        self.put(f"{name}: parent's pause", "ms", [pause], dirty_mib=dirty)
        if idle:
            self.put(f"{name}: private memory of an idle child", "MiB", [own / 1024 for _, own in idle[1:]],
                     guest_mib=max(guest for guest, _ in idle[1:]) / 1024)


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


def name_of(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def below(pid):
    """PID and its descendants."""
    found = [pid]
    for p in found:
        for task in pathlib.Path(f"/proc/{p}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def private_kib(pid):
    """(guest memory, the rest): private KiB of a process. Guest memory is where adjoining writable mappings make GUEST_KIB or more."""
    runs, last = [], None  # [KiB, private KiB] of each stretch of adjoining mappings
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line)
        key, _, rest = line.partition(":")
        if m:
            start, end = int(m[1], 16), int(m[2], 16)
            kind = m[3].startswith("rw")
            if last != (start, kind):
                runs.append([0, 0])
            runs[-1][0] += (end - start) >> 10
            last = (end, kind)
        elif key in ("Private_Clean", "Private_Dirty"):
            runs[-1][1] += int(rest.split()[0])
    guest = sum(private for size, private in runs if size >= GUEST_KIB)
    return guest, sum(private for _, private in runs) - guest


def settled(pid, n):
    """private_kib() of the N vial-vmm below PID, as soon as none has changed for a while; the one that started first comes first."""
    before, same = [], 0
    while same < 3:
        time.sleep(0.2)
        now = [private_kib(p) for p in sorted(below(pid)) if name_of(p) == "vial-vmm"]
        same = same + 1 if now == before and len(now) == n and all(guest for guest, _ in now) else 0
        before = now
    return now


def delta_mib(pid):
    """Of the deltas of memory that a process holds: the MiB of the largest."""
    sizes = [os.stat(f"/proc/{pid}/fd/{fd}").st_blocks / 2048 for fd in os.listdir(f"/proc/{pid}/fd")
             if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:vial-delta")]
    return max(sizes, default=0)


def main():
    engine, runs, forks = sys.argv[1], int(sys.argv[2]), [int(n) for n in sys.argv[3].split(",") if n]
    only = sys.argv[4:]
    read_ahead()
    b = Bench(engine, runs)
    steps = [b.first_exit, b.microvm, b.starts, b.inside_box, b.memory, *(functools.partial(b.fork, n) for n in forks),
             functools.partial(b.fork, 1, FORK_MIB), b.cold, b.walk]
    steps = [s for s in steps if not only or getattr(s, "func", s).__name__ in only]
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
