# SPDX-License-Identifier: Apache-2.0
"""The yardstick: a bare QEMU that restores a template, with nothing of ours in it.

A machine of the size, type, accelerator and CPU model that vial's own QEMU has (read off that process) boots the same kernel
with an initramfs of busybox and one shell loop, which answers every line on the serial console. It is stopped, its devices are
migrated to a file with x-ignore-shared, its memory stays in the memory file. A restore is the same command line with share=off and
-incoming defer. Timed is from exec of QEMU until the answer to a line that was sent once the machine runs again. No disk, no jail,
no agent, no identity, no fresh entropy: what any sandbox made of this QEMU has to pay at least.
"""
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "guest"))
import newc  # noqa: E402

TIMEOUT_S = 120
READY = b"ready\r\n"
INIT = """#!/bin/busybox sh
exec </dev/console >/dev/console 2>&1
/bin/busybox stty -echo
echo ready
while read -r n; do echo "answer $((n + 1))"; done
"""
CMDLINE = "console=ttyS0 quiet loglevel=3 panic=-1 no_timer_check tsc=nowatchdog random.trust_cpu=on"
FD_QMP, FD_CONSOLE = 3, 4  # in QEMU
CAPABILITIES = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
ONE_VALUE = ("-accel", "-cpu", "-smp", "-m")


def write_initramfs(path):
    busybox = shutil.which("busybox") or "/bin/busybox"
    a = newc.Archive()
    for name in ("dev", "proc", "sys"):
        a.add_dir(name)
    a.add_char("dev/console", 5, 1)
    a.add_file("bin/busybox", pathlib.Path(busybox).read_bytes(), 0o755)
    a.add_file("init", INIT.encode(), 0o755)
    a.save(path)


def like(argv):
    """The parts of vial's QEMU command line ARGV that say what machine it is."""
    machine = argv[argv.index("-M") + 1].split(",")
    parts = {"program": argv[0], "machine": [p for p in machine if not p.startswith("memory-backend=")]}
    for key in ONE_VALUE:
        parts[key] = argv[argv.index(key) + 1]
    return parts


class Machine:
    """One QEMU process and its two channels."""

    def __init__(self, argv):
        qmp, theirs = socket.socketpair()
        console, serial = socket.socketpair()
        # Copies above the fixed numbers: no source is overwritten before it was used.
        high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD_CLOEXEC, 100) for s in (theirs, serial)]
        actions = [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in zip(high, (FD_QMP, FD_CONSOLE))]
        self.start = time.monotonic()
        self.pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
        for fd in high:
            os.close(fd)
        theirs.close()
        serial.close()
        self.qmp, self.console, self.lines = qmp, console, b""

    def _read_message(self):
        while b"\n" not in self.lines:
            got = self._recv(self.qmp)
            self.lines += got
        line, _, self.lines = self.lines.partition(b"\n")
        return json.loads(line)

    def _recv(self, sock):
        ready, _, _ = select.select([sock], [], [], TIMEOUT_S)
        got = sock.recv(65536) if ready else b""
        if not got:
            raise RuntimeError("the baseline's QEMU " + ("ended" if ready else f"was silent for {TIMEOUT_S} s"))
        return got

    def wait_message(self, wanted):
        """Read messages until WANTED(message) is true."""
        while True:
            m = self._read_message()
            if "error" in m:
                raise RuntimeError(f"baseline: QMP: {m['error']['desc']}")
            if wanted(m):
                return m

    def send(self, command, fd=None, **args):
        text = json.dumps({"execute": command, **({"arguments": args} if args else {})}).encode() + b"\n"
        socket.send_fds(self.qmp, [text], [] if fd is None else [fd])

    def migrate(self, file, *commands):
        """Negotiate, send COMMANDS, then a migration to or from FILE, all in one go; wait until it is done."""
        self.send("qmp_capabilities")
        self.send("migrate-set-capabilities", capabilities=CAPABILITIES)
        self.send("getfd", fd=file.fileno(), fdname="state")
        for command in commands[:-1]:
            self.send(command)
        self.send(commands[-1], uri="fd:state")
        self.wait_migrated()

    def wait_migrated(self):
        """Until the migration under way is done, whichever direction it has."""
        m = self.wait_message(lambda m: m.get("event") == "MIGRATION" and m["data"]["status"] in ("completed", "failed"))
        if m["data"]["status"] == "failed":
            raise RuntimeError("baseline: migration failed")

    def wait_console(self, marker):
        got = b""
        while marker not in got:
            got += self._recv(self.console)

    def ask(self, n):
        """Send a line; wait for the answer, which differs from an echo of it."""
        self.console.sendall(b"%d\n" % n)
        self.wait_console(b"answer %d\r\n" % (n + 1))

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.qmp.close()
        self.console.close()


class Baseline:
    def __init__(self, vial_argv, kernel, where):
        """VIAL_ARGV: command line of vial's QEMU; KERNEL: path; WHERE: directory for the template."""
        self.where = pathlib.Path(where)
        self.parts = like(vial_argv)
        self.kernel = str(kernel)
        self.initrd, self.mem, self.state = (str(self.where / n) for n in ("initramfs", "mem", "state"))
        write_initramfs(self.initrd)

    def argv(self, restore):
        p = self.parts
        size = p["-m"]
        argv = [p["program"], "-M", ",".join([*p["machine"], "memory-backend=m"])]
        for key in ONE_VALUE:
            argv += [key, p[key]]
        argv += ["-object", f"memory-backend-file,id=m,size={size},mem-path={self.mem},share={'off' if restore else 'on'}",
                 "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot",
                 "-chardev", f"socket,id=q,fd={FD_QMP}", "-mon", "chardev=q,mode=control",
                 "-chardev", f"socket,id=c,fd={FD_CONSOLE}", "-serial", "chardev:c",
                 "-kernel", self.kernel, "-initrd", self.initrd, "-append", CMDLINE]
        return argv + (["-incoming", "defer"] if restore else [])

    def build(self):
        """Boot once and keep the machine. Returns seconds from exec to the shell's first word."""
        m = Machine(self.argv(False))
        try:
            m.wait_console(READY)
            booted = time.monotonic() - m.start
            for n in range(3):  # so that the loop's pages are in memory, its branches taken once
                m.ask(n)
            with open(self.state, "wb") as file:
                m.migrate(file, "stop", "migrate")
        finally:
            m.end()
        return booted

    def restore(self, n):
        """Seconds from exec of QEMU: until it spoke, was restored, and answered the line N on the console."""
        m = Machine(self.argv(True))
        try:
            m.wait_message(lambda m: "QMP" in m)
            up = time.monotonic()
            with open(self.state, "rb") as file:
                m.migrate(file, "migrate-incoming")
            restored = time.monotonic()
            m.send("cont")
            m.ask(n)
            return up - m.start, restored - m.start, time.monotonic() - m.start
        finally:
            m.end()
