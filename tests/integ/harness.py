# SPDX-License-Identifier: Apache-2.0
"""Running the built programs from tests, and finding what they leave behind.

Whatever vial starts is a descendant of this process, and prctl(PR_SET_CHILD_SUBREAPER) makes orphans our children. A
process that outlives its command is therefore found exactly, whatever its name, user, or namespaces are, and other vials on the same
machine are never mistaken for ours.
"""
import ctypes
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("VIAL_BUILD", TOP / "build")).resolve()
PROGRAM = BUILD / "src/vial"
GUEST = BUILD / "guest"
ORDINARY_UID = 65501  # no such user is needed: only the number matters
TIMEOUT_S = 120  # a cold boot under emulation on a loaded machine
SETTLE_S = 10  # how long a killed box may take to clear away its things

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def engines():
    """Engines that can run on this machine, or those of $VIAL_TEST_ENGINES."""
    chosen = os.environ.get("VIAL_TEST_ENGINES")
    if chosen:
        return chosen.split(",")
    found = ["qemu"] if shutil.which("qemu-system-x86_64") else []
    with tempfile.TemporaryDirectory() as home:
        info = subprocess.run([PROGRAM, "--json", "--home", home, "--engine", "kvm", "info"], capture_output=True, check=False)
    if info.returncode == 0 and json.loads(info.stdout)["engine"]["usable"]:
        found.append("kvm")
    return found


def kernel_release():
    """What `uname -r` prints in a box: on the kvm engine vial prefers the small kernel of `make kernel`."""
    small = (GUEST / "vmlinuz-small").exists() and os.environ.get("VIAL_TEST_ENGINES") == "kvm"
    return (GUEST / ("kernel-version-small" if small else "kernel-version")).read_text().strip()


@dataclasses.dataclass
class Result:
    code: int
    out: bytes
    err: bytes

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.out[-2000:]!r}\nstderr: {self.err[-2000:]!r}"


class Vial:
    """The command line with a state directory of its own.

    home:	$VIAL_HOME
    uid:	user to run as; None: as we are
    """

    def __init__(self, home, engine="qemu", uid=None, base=None):
        self.home = pathlib.Path(home)
        self.base = pathlib.Path(base or self.home.parent)
        self.uid = uid
        self.tmp = self.base / "tmp"
        self.cwd = self.base / "cwd"
        for d in (self.tmp, self.cwd):
            d.mkdir(mode=0o700, parents=True, exist_ok=True)
            if uid is not None:
                os.chown(d, uid, uid)
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self.base), "VIAL_HOME": str(self.home),
            "VIAL_ENGINE": engine, "TMPDIR": str(self.tmp), "LANG": "C.UTF-8",
        }
        self.program = PROGRAM
        self.prefix = []
        if uid is not None and uid != os.getuid():
            self.prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]

    def argv(self, *args):
        return [*self.prefix, str(self.program), *map(str, args)]

    def popen(self, *args, env=None, cwd=None, **kw):
        """Start vial and leave it running; streams are as subprocess.Popen takes them, stdin closed unless given."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        full = {k: v for k, v in {**self.env, **(env or {})}.items() if v is not None}
        return subprocess.Popen(self.argv(*args), env=full, cwd=cwd or self.cwd, **kw)

    def __call__(self, *args, stdin=None, timeout=TIMEOUT_S, check=False, **kw):
        """Run vial to its end. A run that does not end is killed and fails the test with what it wrote so far."""
        kw["stdin"] = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        p = self.popen(*args, **kw)
        try:
            out, err = p.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            out, err = p.communicate()
            raise AssertionError(f"vial {args} did not end within {timeout} s\n{Result(-1, out, err)}") from None
        r = Result(p.returncode, out, err)
        if check:
            assert r.code == 0, r
        return r


def stat_fields(pid):
    """(comm, state, ppid, start time) of a process, or None if it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    comm, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
    return comm, rest[0], int(rest[1]), int(rest[19])


def descendants():
    """{pid: (comm, state)} of all that descends from this process."""
    table = {}
    for name in os.listdir("/proc"):
        fields = stat_fields(name) if name.isdigit() else None
        if fields:
            table[int(name)] = fields
    found, grew = {}, True
    while grew:
        grew = False
        for pid, (comm, state, ppid, _) in table.items():
            if pid not in found and (ppid == os.getpid() or ppid in found):
                found[pid] = (comm, state)
                grew = True
    return found


def reap():
    """Collect orphans that became our children and ended. Call when no Popen of ours is waited for."""
    for pid, (_, state) in descendants().items():
        if state == "Z":
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def leftovers(v):
    """What is there and must not be once no command runs: a list of words for each thing, empty if all is clean."""
    reap()
    bad = [f"process {pid} {comm} ({state})" for pid, (comm, state) in descendants().items()]
    boxes = v.home / "boxes"
    if boxes.is_dir():
        bad += [f"box directory {p}" for p in boxes.iterdir()]
    bad += [f"temporary file {p}" for p in v.tmp.iterdir()]
    for where, _, names in os.walk(v.home):
        for n in names:
            p = os.path.join(where, n)
            try:
                if stat.S_ISSOCK(os.lstat(p).st_mode):
                    bad.append(f"socket {p}")
            except FileNotFoundError:
                pass
    home = str(v.home)
    bad += [f"mount {line.split()[4]}" for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
            if home.replace(" ", "\\040") in line]
    bad += [f"unix socket {line.split()[-1]}" for line in pathlib.Path("/proc/net/unix").read_text().splitlines()
            if home in line]
    return bad


def cgroups():
    """Cgroups of ours on this machine: those with vial in their name."""
    found = set()
    for where, dirs, _ in os.walk("/sys/fs/cgroup"):
        found |= {os.path.join(where, d) for d in dirs if "vial" in d}
    return found


def settle(look, limit_s=SETTLE_S):
    """Wait until LOOK() returns nothing, for at most LIMIT_S; return what it returned last."""
    end = time.monotonic() + limit_s
    while True:
        seen = look()
        if not seen or time.monotonic() >= end:
            return seen
        time.sleep(0.02)  # there is no event for "no descendant is left"


def wait_output(p, marker, timeout=TIMEOUT_S):
    """Read P's stdout until MARKER (bytes) has come; return all read. Fails if the stream ends or time is up."""
    got = bytearray()
    deadline = time.monotonic() + timeout
    os.set_blocking(p.stdout.fileno(), False)
    import select
    while marker not in got:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([p.stdout], [], [], max(left, 0))
        assert ready, f"no {marker!r} within {timeout} s; got {bytes(got)!r}"
        chunk = os.read(p.stdout.fileno(), 65536)
        if not chunk:
            err = p.stderr.read() if p.stderr else b""
            raise AssertionError(f"stream ended before {marker!r}: {bytes(got)!r}, stderr {err!r}")
        got += chunk
    os.set_blocking(p.stdout.fileno(), True)
    return bytes(got)


def kill_hard(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def assert_one_line_error(r, *words, code=125):
    """vial's own failure: exit 125, nothing on stdout, one line on stderr that says what is wrong."""
    assert r.code == code, r
    assert r.out == b"", r
    lines = r.err.decode().splitlines()
    assert len(lines) == 1, r
    assert lines[0].startswith("vial: "), r
    for w in words:
        assert w.lower() in lines[0].lower(), (w, r)
