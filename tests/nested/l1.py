# SPDX-License-Identifier: Apache-2.0
"""L1: an emulated AMD machine with /dev/kvm, in which vial's kvm engine can be run where the host has no usable KVM.

make-l1 makes its disks. Here it is booted once and kept as a template, the way vial's qemu engine keeps its own: memory in a file,
device state beside it. Each run maps that memory privately, gets a payload disk and a throw-away scratch disk, runs one
command and is killed. Templates lie in the cache beside L1, one for each set of options, under a name that changes with all they
are made from.

L1 has one CPU: with two, feasibility tests hung. Nothing that runs in it is trusted by the host.
"""
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "guest"))
import newc  # noqa: E402

QEMU = "qemu-system-x86_64"
MEMORY = "3584M"  # boxes of 3 GiB, too
SCRATCH = "24G"
BOOT_S = 900  # a busy machine, icount
CMDLINE = "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off random.trust_cpu=on nowatchdog audit=0 cgroup_no_v1=all"
CHANNELS = ("ctl", "out", "err", "results")
CAPABILITIES = [{"capability": "x-ignore-shared", "state": True}]
L1_FILES = ("init", "agent.py")
SPARSE_TAR = ".sparse.tar"  # known to l1/agent.py
SPARSE_MIN = 16 << 20
PR_SET_PDEATHSIG = 1


class RigError(Exception):
    """The rig itself failed, not what ran in it."""


def cache_dir():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vial/nested"


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def write_initramfs(modules, out):
    """L1's initramfs: MODULES (a part that is ready), busybox and l1/init."""
    a = newc.Archive()
    for name in ("dev", "proc", "sys", "ro", "scratch", "root"):
        a.add_dir(name)
    a.add_char("dev/console", 5, 1)
    a.add_file("bin/busybox", pathlib.Path("/bin/busybox").read_bytes(), 0o755)
    for name in L1_FILES:
        a.add_file(name, (HERE / "l1" / name).read_bytes(), 0o755)
    a.save(out)
    with open(out, "ab") as f:
        f.write(pathlib.Path(modules).read_bytes())


class Machine:
    """One QEMU process with its QMP and port sockets."""

    def __init__(self, argv, channels, console):
        pairs = {name: socket.socketpair() for name in ("qmp", *channels)}
        fds = {name: theirs.fileno() for name, (_, theirs) in pairs.items()}
        argv = [a.format(**fds) for a in argv]
        self.console = console
        with open(console, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=list(fds.values()),
                                            preexec_fn=die_with_parent)
        self.sockets = {}
        for name, (ours, theirs) in pairs.items():
            theirs.close()
            self.sockets[name] = ours
        self.lines = {"qmp": b"", "ctl": b""}

    def fail(self, what):
        text = pathlib.Path(self.console).read_bytes().decode(errors="replace")
        raise RigError(f"{what}; L1's console:\n{text[-4000:]}")

    def line(self, name, deadline):
        """The next JSON line of channel NAME."""
        sock = self.sockets[name]
        while b"\n" not in self.lines[name]:
            ready, _, _ = select.select([sock], [], [], max(0, deadline - time.monotonic()))
            got = sock.recv(65536) if ready else b""
            if not got:
                self.fail(f"L1 {'ended' if ready else 'was silent'} ({name})")
            self.lines[name] += got
        text, _, self.lines[name] = self.lines[name].partition(b"\n")
        return json.loads(text)

    def qmp(self, command, fd=None, **args):
        """Send a QMP command and wait for its return."""
        text = json.dumps({"execute": command, **({"arguments": args} if args else {})}).encode() + b"\n"
        socket.send_fds(self.sockets["qmp"], [text], [] if fd is None else [fd])
        while True:
            m = self.line("qmp", time.monotonic() + BOOT_S)
            if "error" in m:
                self.fail(f"QMP {command}: {m['error']['desc']}")
            if "return" in m:
                return m["return"]

    def migrate(self, command, file):
        """Save to or load from FILE; the memory file is not part of it."""
        self.qmp("qmp_capabilities")
        if command == "migrate":
            self.qmp("stop")
        self.qmp("migrate-set-capabilities", capabilities=CAPABILITIES)
        self.qmp("getfd", fd=file.fileno(), fdname="state")
        self.qmp(command, uri="fd:state")
        while (status := self.qmp("query-migrate").get("status")) != "completed":
            if status == "failed":
                self.fail("migration failed")
            time.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.process.wait()
        for s in self.sockets.values():
            s.close()


class L1:
    """The machine with one set of options.

    memory:	of L1
    icount:	one instruction takes one virtual nanosecond; for measurements
    """

    def __init__(self, memory=MEMORY, icount=False):
        self.memory, self.icount = memory, icount
        r = subprocess.run([HERE / "make-l1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
        if r.returncode != 0:
            raise RigError("make-l1 failed")
        self.disks = pathlib.Path(r.stdout.strip())
        version = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
        words = [self.disks.name, version, *self.argv("T", "P"), *((HERE / "l1" / n).read_text() for n in L1_FILES)]
        self.template = cache_dir() / ("template-" + hashlib.sha256("\0".join(words).encode()).hexdigest()[:16])

    def argv(self, template, payload, restore=False):
        mode = "off" if restore else "on"
        argv = [QEMU, "-M", "pc-q35-7.2,usb=off,sata=off,smbus=off,i8042=off,vmport=off,memory-backend=mem", "-nodefaults",
                "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot", "-accel", "tcg,tb-size=512", "-cpu", "max,la57=off",
                "-smp", "1", "-m", self.memory,
                "-object", f"memory-backend-file,id=mem,size={self.memory},mem-path={template}/mem,share={mode}",
                "-kernel", f"{self.disks}/vmlinuz", "-initrd", f"{template}/initramfs", "-append", CMDLINE,
                "-chardev", "socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control",
                "-chardev", f"file,id=console,path={template if not restore else payload + '.d'}/console,append=on",
                "-serial", "chardev:console", "-device", "virtio-serial-pci"]
        for name in CHANNELS:
            argv += ["-chardev", f"socket,id={name},fd={{{name}}}", "-device", f"virtserialport,chardev={name},name=rig.{name}"]
        drives = ((f"{self.disks}/root.erofs", "readonly=on"), (f"{template}/scratch", f"snapshot={'on' if restore else 'off'},discard=unmap"),
                  (payload, "readonly=on"))
        for i, (file, options) in enumerate(drives):
            argv += ["-drive", f"if=none,id=d{i},format=raw,cache=unsafe,file.locking=off,file={file},{options}",
                     "-device", f"virtio-blk-pci,drive=d{i}"]
        if self.icount:
            argv += ["-icount", "shift=0,sleep=off"]
        return argv + (["-incoming", "defer"] if restore else [])

    def make_template(self):
        """Boot L1 and save it, unless that was done."""
        cache_dir().mkdir(parents=True, exist_ok=True)
        with open(cache_dir() / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (self.template / "state").exists():
                return
            for old in cache_dir().glob("newt.*"):
                shutil.rmtree(old)
            new = pathlib.Path(tempfile.mkdtemp(prefix="newt.", dir=cache_dir()))
            try:
                self.boot_into(new)
                shutil.rmtree(self.template, ignore_errors=True)
                new.rename(self.template)
            finally:
                shutil.rmtree(new, ignore_errors=True)

    def boot_into(self, where):
        with open(where / "scratch", "wb") as f:
            f.truncate(int(SCRATCH[:-1]) << 30)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal,uninit_bg", "-E", "lazy_itable_init=1", "-N", "400000",
                        where / "scratch"], check=True, stdin=subprocess.DEVNULL)
        write_initramfs(self.disks / "modules.cpio", where / "initramfs")
        (where / "none").write_bytes(bytes(4096))
        m = Machine(self.argv(str(where), str(where / "none")), CHANNELS, where / "console")
        try:
            m.line("qmp", time.monotonic() + BOOT_S)
            if m.line("ctl", time.monotonic() + BOOT_S) != {"event": "up"}:
                m.fail("L1 did not come up")
            with open(where / "new-state", "wb") as state:
                m.migrate("migrate", state)
        finally:
            m.kill()
        (where / "new-state").rename(where / "state")

    @contextlib.contextmanager
    def restored(self, payload):
        """A running copy of the template with PAYLOAD (an EROFS image, or None)."""
        self.make_template()
        with tempfile.TemporaryDirectory(prefix="vial-l1-", dir=os.environ.get("VIAL_TEST_DIR", "/var/tmp")) as where:
            disk = pathlib.Path(where) / "payload"
            (pathlib.Path(where) / "payload.d").mkdir()
            if payload:
                disk.symlink_to(pathlib.Path(payload).resolve())
            else:
                disk.write_bytes(bytes(4096))
            m = Machine(self.argv(str(self.template), str(disk), True), CHANNELS, f"{where}/payload.d/console")
            try:
                m.line("qmp", time.monotonic() + BOOT_S)
                with open(self.template / "state", "rb") as state:
                    m.migrate("migrate-incoming", state)
                m.qmp("cont")
                yield m
            finally:
                m.kill()

    def run(self, argv, payload=None, env=None, cwd=None, timeout=600, sinks=None):
        """Run ARGV in a fresh L1. SINKS: {"out" | "err" | "results": callable taking bytes; bytes that it returns are sent back}.
        Returns the agent's "exit" message."""
        sinks = sinks or {}
        with self.restored(payload) as m:
            request = {"argv": argv, "env": env or {}, "cwd": cwd or ("/rig" if payload else "/root"), "time": time.time(),
                       "payload": bool(payload)}
            m.sockets["ctl"].sendall(json.dumps(request).encode() + b"\n")
            return follow(m, sinks, time.monotonic() + timeout)


def follow(m, sinks, deadline):
    """Pass on what the machine writes until its command has ended and all of it has come."""
    got, end, ctl = {"out": 0, "err": 0, "results": 0}, None, b""
    names = {m.sockets[n]: n for n in (*got, "ctl")}
    while end is None or [got["out"], got["err"]] != end.get("sent"):
        ready, _, _ = select.select(list(names), [], [], max(0, deadline - time.monotonic()))
        if not ready:
            m.fail("L1's command did not end in time" if end is None else f"output is missing: {got} of {end}")
        for sock in ready:
            name, chunk = names[sock], sock.recv(65536)
            if not chunk:
                m.fail("L1 ended by itself")
            if name == "ctl":
                ctl += chunk
                if ctl.endswith(b"\n"):
                    end = json.loads(ctl)
                    if "error" in end:
                        m.fail(f"L1's agent: {end['error']}")
            else:
                got[name] += len(chunk)
                answer = sinks[name](chunk) if name in sinks else None
                if isinstance(answer, bytes) and answer:
                    sock.sendall(answer)
    return end


def take_sparse(where):
    """Move files that are mostly holes into a tar below WHERE, which L1's agent unpacks: mkfs.erofs would write the holes out."""
    names = []
    for path in pathlib.Path(where).rglob("*"):
        s = path.lstat()
        if stat.S_ISREG(s.st_mode) and s.st_size > SPARSE_MIN and s.st_blocks * 512 < s.st_size // 2:
            names.append(str(path.relative_to(where)))
    if names:
        subprocess.run(["tar", "-C", where, "-cSf", f"{where}/{SPARSE_TAR}", "--remove-files", "--", *names], check=True)


def make_image(where, out):
    """An EROFS image OUT of directory WHERE, all of it root's. WHERE is changed."""
    os.chmod(where, 0o755)
    take_sparse(where)
    r = subprocess.run(["mkfs.erofs", "--all-root", out, where], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise RigError(f"mkfs.erofs: {r.stderr}{r.stdout}")
