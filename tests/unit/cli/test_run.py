#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`vial` as people and programs use it: exit codes, bytes, signals, terminal. Started by meson with the path of a
vial whose boxes are plain processes (stub.c), so it needs no machine."""
import errno
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

VIAL = ""
LIMIT = 20  # seconds until a test counts as hung


class Base(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("VIAL_", "SHURU_", "STUB_"))}
        self.env["HOME"] = self.dir.name
        self.env.pop("XDG_DATA_HOME", None)

    def path(self, name, text=None):
        p = os.path.join(self.dir.name, name)
        if text is not None:
            os.makedirs(os.path.dirname(p), exist_ok=True)
            with open(p, "w") as f:
                f.write(text)
        return p

    def vial(self, *args, stdin=subprocess.DEVNULL, **kw):
        env = dict(self.env, **kw.pop("env", {}))
        if isinstance(stdin, bytes):
            kw["input"] = stdin
        else:
            kw["stdin"] = stdin
        return subprocess.run([VIAL, *args], cwd=self.dir.name, env=env, timeout=LIMIT,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)

    def start(self, *args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("preexec_fn", heed_signals)
        env = dict(self.env, **kw.pop("env", {}))
        p = subprocess.Popen([kw.pop("program", VIAL), *args], cwd=self.dir.name, env=env, **kw)
        self.addCleanup(self.reap, p)
        return p

    @staticmethod
    def reap(p):
        if p.poll() is None:
            p.kill()
        p.wait()
        for f in (p.stdin, p.stdout, p.stderr):
            if f and not f.closed:
                f.close()

    def one_line(self, r, code, *parts):
        text = r.stderr.decode()
        self.assertEqual(r.returncode, code, text)
        self.assertEqual(text.count("\n"), 1, text)
        self.assertTrue(text.startswith("vial: "), text)
        for part in parts:
            self.assertIn(part, text)

    def spec(self, *args, **kw):
        """What a run would make a box of."""
        out = self.path("spec-out.json")
        kw.setdefault("env", {})["STUB_SPEC"] = out
        r = self.vial("run", *args, **kw)
        self.assertTrue(os.path.exists(out), r.stderr)
        with open(out) as f:
            s = json.load(f)
        os.unlink(out)
        return s


class Usage(Base):
    def test_exit_codes_of_the_command(self):
        for line, code in (("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)):
            self.assertEqual(self.vial("run", "--", "sh", "-c", line).returncode, code, line)

    def test_commands_that_cannot_start(self):
        self.one_line(self.vial("run", "--", "no-such-program"), 127, "not found")
        self.one_line(self.vial("run", "--", "/"), 126)
        self.one_line(self.vial("run", "-w", "/no/such", "--", "true"), 125)

    def test_timeout(self):
        self.assertEqual(self.vial("run", "--timeout", "200ms", "--", "sleep", "60").returncode, 124)

    def test_usage_errors_of_run_are_125(self):
        cases = (
            (("--mem", "3"), "--mem", "did you mean '--memory'"),
            (("--cpus", "0"), "--cpus:", "1 to 64"),
            (("--cpus",), "--cpus:", "needs a value"),
            (("--memory", "0"), "--memory:", "at least 64M"),
            (("--memory", "999999G"), "--memory:", "this host"),
            (("--publish", "80"), "--publish: not built yet"),
            (("-p80:80",), "--publish: not built yet"),
            (("--name=a",), "--name: not built yet"),
            (("-x",), "'-x'"),
            (("--ulimit", "nofil=1"), "--ulimit:", "did you mean nofile?"),
            (("--hostname", "a_b"), "--hostname:"),
            (("--env-file", "none.env"), "--env-file:", "none.env", "No such file"),
            (("--config", "none.json"), "none.json", "No such file"),
            (("-t", "--", "true"), "the input device is not a TTY"),
            (("--console", "--", "true"), "--console:"),
            (("--tty=maybe", "--", "true"), "--tty:", "neither true nor false"),
        )
        for args, *parts in cases:
            self.one_line(self.vial("run", *args), 125, *parts)

    def test_usage_errors_elsewhere_are_2(self):
        self.one_line(self.vial(), 2, "no command")
        self.one_line(self.vial("rnu"), 2, "did you mean 'run'")
        self.one_line(self.vial("ps"), 2, "'ps' is not built yet")
        self.one_line(self.vial("info", "x"), 2, "takes no 'x'")
        self.one_line(self.vial("--engine", "xen", "info"), 2, "xen")
        self.one_line(self.vial("--log-level", "loud", "info"), 2, "loud")
        self.one_line(self.vial("init", "--kernel-package", "x"), 2, "--kernel-package: not built yet")
        self.one_line(self.vial("completion", "tcsh"), 2, "tcsh")

    def test_library_failures(self):
        self.one_line(self.vial("run", "--", "true", env={"STUB_FAIL": "no \x1b[31m QEMU"}), 125, "no ?[31m QEMU")
        self.one_line(self.vial("--home", "/nonexistent", "run", "--", "true"), 125, "/nonexistent")
        self.one_line(self.vial("init", env={"STUB_FAIL": "no QEMU"}), 1, "no QEMU")

    def test_help_everywhere(self):
        for args in (("help",), ("--help",), ("-h",), ("run", "--help"), ("run", "-h"), ("help", "run"),
                     ("init", "--help"), ("doctor", "--help"), ("info", "--help"), ("completion", "-h")):
            r = self.vial(*args)
            self.assertEqual((r.returncode, r.stderr), (0, b""), args)
            self.assertTrue(r.stdout.startswith(b"usage: vial"), args)
            self.assertLess(max(len(l) for l in r.stdout.decode().split("\n")), 111, args)

    def test_version(self):
        self.assertEqual(self.vial("--version").stdout, self.vial("version").stdout)
        self.assertIn("version", json.loads(self.vial("--json", "version").stdout))

    def test_info_and_doctor(self):
        self.assertIn(b"engine:", self.vial("info").stdout)
        self.assertEqual(json.loads(self.vial("--format", "json", "info").stdout)["engine"], "stub")
        ok = self.vial("doctor")
        self.assertEqual(ok.returncode, 0)
        self.assertIn(b"join group kvm", ok.stdout)
        bad = self.vial("--json", "doctor", env={"STUB_DOCTOR": "fail"})
        self.assertEqual(bad.returncode, 1)
        self.assertEqual([c["result"] for c in json.loads(bad.stdout)], ["ok", "warn", "fail"])
        home = self.vial("--home", "/nonexistent", "doctor")
        self.assertEqual(home.returncode, 1)
        self.assertIn(b"FAIL  home", home.stdout)

    def test_selftest(self):
        """The stub cannot pause, and its forked children share this machine's machine-id: a finding, but no end."""
        r = self.vial("--json", "doctor", "--selftest")
        found = {c["name"]: (c["result"], c["found"]) for c in json.loads(r.stdout)}
        self.assertEqual(r.returncode, 1)
        self.assertEqual(found["qemu"][0], "ok")
        for name in ("self-start", "self-restore", "self-exec", "self-clock", "self-snapshot"):
            self.assertEqual(found[name][0], "ok", found)
        self.assertEqual(found["self-pause"], ("warn", "no pause here"))
        self.assertEqual(found["self-fork"], ("fail", "two children have one machine-id"))
        r = self.vial("doctor", "--selftest", env={"STUB_FAIL": "no machine today"})
        self.assertEqual(r.returncode, 1)
        self.assertIn(b"FAIL  self-start      no machine today", r.stdout)
        self.assertNotIn(b"self-restore", r.stdout)
        self.assertNotIn(b"self-", self.vial("doctor", "--selftest=false").stdout)

    def test_init(self):
        spec = self.path("spec-out.json")
        self.path("vial.json", '{"memory": 512}')
        self.assertEqual(self.vial("init", env={"STUB_SPEC": spec}).returncode, 0)
        with open(spec) as f:
            self.assertEqual(json.load(f)["memory"], "512M")
        self.vial("init", "--force", env={"STUB_SPEC": spec})
        with open(spec) as f:
            self.assertEqual(f.read(), "forced")


    def test_from(self):
        seen = self.path("from-out")
        for line, wanted in ((("--from", "f.vial", "true", "x"), "f.vial"), (("--from", "f.vial", "--trust"), "trusted")):
            s = self.spec(*line, env={"STUB_FROM": seen})
            self.assertNotIn("image", s)
            self.assertEqual(s.get("command"), ["true", "x"] if "true" in line else None)
            with open(seen) as f:
                self.assertEqual(f.read(), wanted)
        self.one_line(self.vial("run", "--trust", "--", "true"), 125, "--from")


class Layers(Base):
    def test_words(self):
        s = self.spec("./img", "--", "echo", "-n", "--", "x")
        self.assertEqual((s["image"], s["command"]), ("./img", ["echo", "-n", "--", "x"]))
        s = self.spec("./img", "true", "--memory", "1")
        self.assertEqual(s["command"], ["true", "--memory", "1"])
        s = self.spec("--", "true")
        self.assertNotIn("image", s)
        s = self.spec("--rootfs", "d", "echo", "--", "x")
        self.assertEqual((s["rootfs"], s["command"]), ("d", ["echo", "--", "x"]))
        self.assertNotIn("image", s)
        s = self.spec("./img", "--", "-")
        self.assertEqual(s["command"], ["-"])

    def test_forms_of_options(self):
        for args in (("-e", "A=1"), ("-eA=1",), ("-e=A=1",), ("--env", "A=1"), ("--env=A=1",), ("-ie", "A=1")):
            self.assertEqual(self.spec(*args, "--", "true")["env"], {"A": "1"}, args)
        self.assertEqual(self.spec("--interactive=false", "--", "true")["interactive"], False)

    def test_precedence(self):
        self.path(".local/share/vial/config.json", '{"cpus": 3, "memory": 300, "hostname": "low", "user": "low"}')
        self.path("vial.json", '{"cpus": 4, "memory": 400, "kernel": "project", "env": {"A": "1", "B": "1"},'
                               ' "command": ["a", "b"]}')
        s = self.spec("--cpus", "5", "-e", "B=2", env={"VIAL_KERNEL": "env", "SHURU_KERNEL": "old"})
        self.assertEqual((s["cpus"], s["memory"], s["hostname"], s["kernel"]), (5, "400M", "low", "env"))
        self.assertEqual((s["env"], s["command"]), ({"A": "1", "B": "2"}, ["a", "b"]))
        s = self.spec("--kernel", "flag", "--", "c", env={"SHURU_KERNEL": "old"})
        self.assertEqual((s["kernel"], s["command"]), ("flag", ["c"]))
        self.assertEqual(self.spec(env={"SHURU_KERNEL": "old", "VIAL_KERNEL": ""})["kernel"], "old")

    def test_home_chooses_the_defaults(self):
        self.path("h/config.json", '{"cpus": 7, "default_image": "./d"}')
        self.assertEqual(self.spec("--", "true", env={"VIAL_HOME": self.path("h")})["default_image"], "./d")

    def test_project_files(self):
        self.path("shuru.json", '{"cpus": 8, "command": ["x"]}')
        self.assertEqual(self.spec()["cpus"], 8)
        self.path("vial.json", '{"cpus": 9, "command": ["x"]}')
        self.assertEqual(self.spec()["cpus"], 9)
        self.path("other.json", '{"cpus": 10, "command": ["x"]}')
        self.assertEqual(self.spec("--config", "other.json")["cpus"], 10)
        self.path("vial.json", '{\n "cpus": 1,\n "memroy": 1}')
        self.one_line(self.vial("run"), 125, "vial.json:3: field 'memroy': unknown field (did you mean 'memory'?)")
        self.path("vial.json", '{\n "allow_net": true}')
        self.one_line(self.vial("run"), 125, "vial.json:2: field 'allow_net': not built yet")

    def test_image_and_rootfs_take_each_other_away(self):
        self.path("vial.json", '{"rootfs": "low"}')
        self.assertNotIn("rootfs", self.spec("./img", "--", "true"))
        self.path("vial.json", '{"image": "low"}')
        self.assertNotIn("image", self.spec("--rootfs", "d", "true"))
        s = self.spec("--", "true", env={"VIAL_ROOTFS": "d"})
        self.assertEqual((s.get("image"), s["rootfs"]), (None, "d"))
        self.path("vial.json", '{"image": "a", "rootfs": "b"}')
        self.one_line(self.vial("run", "--", "true"), 125, "both")

    def test_lists_replace_and_env_files_come_first(self):
        self.path("vial.json", '{"ulimit": ["nofile=1"], "boot_arg": ["quiet"]}')
        self.path("e.env", "A=file\nB=file\nHOSTVAR\n# no\n")
        s = self.spec("-e", "A=flag", "--env-file", "e.env", "--ulimit", "nproc=2", "--ulimit", "cpu=3", "--", "true",
                      env={"HOSTVAR": "mine"})
        self.assertEqual(s["env"], {"A": "flag", "B": "file", "HOSTVAR": "mine"})
        self.assertEqual((s["ulimit"], s["boot_arg"]), (["nproc=2", "cpu=3"], ["quiet"]))


class Bytes(Base):
    def test_every_byte_both_ways(self):
        data = bytes(range(256)) * 4096
        self.assertEqual(self.vial("run", "-i", "--", "cat", stdin=data).stdout, data)

    def test_without_i_stdin_is_empty(self):
        self.assertEqual(self.vial("run", "--", "cat", stdin=b"no").stdout, b"")

    def test_stdout_and_stderr_at_once(self):
        line = "head -c 262144 /dev/zero | tr '\\0' o & head -c 262144 /dev/zero | tr '\\0' e >&2; wait"
        r = self.vial("run", "--", "sh", "-c", line)
        self.assertEqual((r.stdout, r.stderr), (b"o" * 262144, b"e" * 262144))

    def test_command_that_reads_nothing(self):
        self.assertEqual(self.vial("run", "-i", "--", "true", stdin=b"x" * 10_000_000).returncode, 0)

    def test_input_of_a_file_a_fifo_and_a_socket(self):
        with open(self.path("f", "file"), "rb") as f:
            self.assertEqual(self.vial("run", "-i", "--", "cat", stdin=f).stdout, b"file")
        a, b = __import__("socket").socketpair()
        with a, b:
            p = self.start("run", "-i", "--", "cat", stdin=b, stdout=b)
            b.close()
            a.sendall(b"sock")
            a.shutdown(1)
            self.assertEqual(a.recv(100), b"sock")
            self.assertEqual(p.wait(LIMIT), 0)

    def test_output_to_a_file_appends(self):
        out = self.path("out", "before ")
        with open(out, "ab") as f:
            self.start("run", "--", "echo", "after", stdout=f).wait(LIMIT)
        with open(out) as f:
            self.assertEqual(f.read(), "before after\n")

    def test_inherited_descriptors_stay_blocking(self):
        r, w = os.pipe()
        self.start("run", "--", "echo", "x", stdout=w).wait(LIMIT)
        self.assertFalse(fcntl.fcntl(w, fcntl.F_GETFL) & os.O_NONBLOCK)
        os.close(r)
        os.close(w)

    def test_closed_stdout_ends_the_command(self):
        p = self.start("run", "--", "sh", "-c", "echo $$ >&2; exec yes", stderr=subprocess.PIPE)
        pid = int(p.stderr.readline())
        p.stdout.read(10)
        p.stdout.close()
        self.assertEqual(p.wait(LIMIT), 141)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_stdio_that_is_closed_from_the_start(self):
        for line, code in (('exec "$0" run -i -- cat <&-', 0), ('exec "$0" run -- true >&-', 0),
                           ('exec "$0" run -- echo x >&- 2>/dev/null', 125)):
            r = subprocess.run(["sh", "-c", line, VIAL], env=self.env, cwd=self.dir.name, timeout=LIMIT)
            self.assertEqual(r.returncode, code, line)

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            p = self.start("run", "--", "echo", "x", stdout=full, stderr=subprocess.PIPE)
            self.assertIn(b"No space left", p.stderr.read())
            self.assertEqual(p.wait(LIMIT), 125)

    def test_blocked_stdout_holds_a_window_and_blocks_nothing_else(self):
        peak = self.path("peak")
        p = self.start("run", "--", "sh", "-c", "trap 'echo got >&2; exit 5' USR1; yes & echo ready >&2; wait",
                       stderr=subprocess.PIPE, env={"STUB_PEAK": peak})
        self.assertEqual(p.stderr.readline(), b"ready\n")
        # The pipe is full when a further byte would not go; only then is anything shown.
        self.wait_until(lambda: pipe_bytes(p.stdout) >= 60000)
        p.send_signal(signal.SIGUSR1)
        self.assertEqual(p.stderr.readline(), b"got\n")
        with open(f"/proc/{p.pid}/status") as f:
            rss = next(int(l.split()[1]) for l in f if l.startswith("VmRSS"))
        self.assertLess(rss, 16 * 1024)
        p.kill()

    def wait_until(self, condition):
        end = time.monotonic() + LIMIT
        while not condition():
            self.assertLess(time.monotonic(), end)
            select.select([], [], [], 0.005)


def pipe_bytes(f):
    buf = fcntl.ioctl(f.fileno(), termios.FIONREAD, b"\0" * 4)
    return struct.unpack("i", buf)[0]


class Signals(Base):
    def test_forwarded_while_running(self):
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            name = sig.name[3:]
            p = self.start("run", "--", "sh", "-c", f"trap 'echo trapped; exit 9' {name}; echo on; while :; do sleep 0.05; done")
            self.assertEqual(p.stdout.readline(), b"on\n")
            p.send_signal(sig)
            self.assertEqual(p.stdout.readline(), b"trapped\n", name)
            self.assertEqual(p.wait(LIMIT), 9)

    def test_second_interrupt_is_forwarded_too(self):
        p = self.start("run", "--", "sh", "-c", "n=; trap 'echo int; n=x$n; [ $n != xx ] || exit 3' INT; echo on; while :; do sleep 0.05; done")
        self.assertEqual(p.stdout.readline(), b"on\n")
        for _ in range(2):
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.stdout.readline(), b"int\n")
        self.assertEqual(p.wait(LIMIT), 3)

    def test_before_the_start_a_signal_ends_vial(self):
        p = self.start("run", "--", "true", env={"STUB_HANG": "1"})
        # Handlers are in place when the signal pipe is there to be polled.
        end = time.monotonic() + LIMIT
        while not caught(p.pid, signal.SIGTERM):
            self.assertLess(time.monotonic(), end)
            select.select([], [], [], 0.005)
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(LIMIT), -signal.SIGTERM)

    def test_ignored_signals_stay_ignored(self):
        p = self.start("run", "--", "sh", "-c", "echo on; read x", stdin=subprocess.DEVNULL,
                       preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.assertEqual(p.stdout.readline(), b"on\n")
        p.send_signal(signal.SIGHUP)
        self.assertEqual(p.wait(LIMIT), 1)


def heed_signals():
    """What was started in the background, or by nohup, ignores some: vial would, too."""
    for sig in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_DFL)


def caught(pid, sig):
    with open(f"/proc/{pid}/status") as f:
        mask = next(int(l.split()[1], 16) for l in f if l.startswith("SigCgt"))
    return bool(mask >> (sig - 1) & 1)


class Terminal(Base):
    def open(self, *args, rows=31, cols=97, program=None, **env):
        self.master, slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.slave = slave
        self.addCleanup(os.close, slave)
        self.resize(rows, cols)
        self.before = termios.tcgetattr(slave)

        def lead():
            heed_signals()
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        p = self.start(*args, program=program or VIAL, stdin=slave, stdout=slave, stderr=slave, preexec_fn=lead, env=dict(env, TERM="vt100"))
        self.seen = b""
        return p

    def resize(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def expect(self, text):
        end = time.monotonic() + LIMIT
        while text not in self.seen:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                self.fail(f"no {text!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.master, 4096)
            except OSError as e:
                if e.errno != errno.EIO:
                    raise
                self.fail(f"no {text!r} in {self.seen!r}")
        self.before_match, self.seen = self.seen.split(text, 1)

    def cooked(self):
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def raw(self):
        self.assertFalse(termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG))

    def send(self, data):
        os.write(self.master, data)

    def test_size_keys_and_end(self):
        p = self.open("run", "-it", "--", "sh", "-c", "stty size; echo $TERM; stty -echo; read x; echo got:$x; exit 3")
        self.expect(b"31 97\r\nvt100\r\n")
        self.raw()
        self.send(b"hey\r")
        self.expect(b"got:hey\r\n")
        self.assertEqual(p.wait(LIMIT), 3)
        self.cooked()

    def test_bare_run_is_a_shell(self):
        p = self.open("run")
        self.send(b"tty >/dev/null && echo is-a-'tty'; exit 4\r")
        self.expect(b"is-a-tty\r\n")
        self.assertEqual(p.wait(LIMIT), 4)

    def test_command_without_t_leaves_the_terminal_alone(self):
        p = self.open("run", "--", "sh", "-c", "test -t 1 || echo plain; echo on; exec sleep 60")
        self.expect(b"plain")
        self.expect(b"on")
        self.cooked()
        self.send(b"\x03")
        self.assertEqual(p.wait(LIMIT), 130)

    def test_interrupt_key_is_a_byte(self):
        p = self.open("run", "-it", "--", "sh", "-c", "trap 'echo INT; exit 6' INT; echo on; while :; do sleep 0.05; done")
        self.expect(b"on\r\n")
        self.send(b"\x03")
        self.expect(b"INT")
        self.assertEqual(p.wait(LIMIT), 6)
        self.cooked()

    def test_resize(self):
        p = self.open("run", "-it", "--", "sh", "-c", "trap 'stty size' WINCH; echo on; while :; do sleep 0.05; done")
        self.expect(b"on\r\n")
        self.resize(40, 120)
        self.expect(b"40 120\r\n")
        p.send_signal(signal.SIGTERM)
        p.wait(LIMIT)
        self.cooked()

    def test_terminal_is_restored_after_death(self):
        # AddressSanitizer would turn these signals into exits of its own.
        self.env["ASAN_OPTIONS"] = self.env.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_abort=0:handle_sigbus=0"
        for sig in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            p = self.open("run", "-it", "--", "sh", "-c", "echo on; exec sleep 60")
            self.expect(b"on\r\n")
            self.raw()
            p.send_signal(sig)
            self.assertEqual(p.wait(LIMIT), -sig)
            self.cooked()

    def test_signal_before_the_start_restores_too(self):
        p = self.open("run", "-it", "--", "true", STUB_HANG="1")
        self.wait_raw()
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(LIMIT), -signal.SIGTERM)
        self.cooked()

    def test_failure_restores_too(self):
        p = self.open("run", "-it", "--", "no-such-program")
        self.expect(b"not found\r\n")
        self.assertEqual(p.wait(LIMIT), 127)
        self.cooked()

    def test_stop_gives_the_terminal_back(self):
        line = '"$0" run -it -- sh -c "echo pid=\\$PPID.; while read x; do echo again; done"; stty -a; echo stopped; fg'
        self.open("-mc", line, VIAL, program="bash")
        self.expect(b"pid=")
        self.expect(b".\r\n")
        pid = int(self.before_match)
        os.kill(pid, signal.SIGTSTP)
        self.expect(b" icanon ")
        self.expect(b"stopped\r\n")
        self.expect(b"run -it")
        self.wait_raw()
        self.send(b"\r")
        self.expect(b"again")
        os.kill(pid, signal.SIGTERM)

    def test_stop_that_nobody_would_end_is_none(self):
        p = self.open("run", "-it", "--", "sh", "-c", "echo on; while read x; do echo again; done")
        self.expect(b"on\r\n")
        p.send_signal(signal.SIGTSTP)  # an orphaned process group is not stopped
        self.send(b"\r")
        self.expect(b"again")
        self.wait_raw()

    def wait_raw(self):
        end = time.monotonic() + LIMIT
        while termios.tcgetattr(self.slave)[3] & termios.ICANON:
            self.assertLess(time.monotonic(), end)
            select.select([], [], [], 0.005)

    def test_console(self):
        p = self.open("run", "--console")
        self.expect(b"login:")
        self.send(b"abc\n")
        self.expect(b"abc")
        self.raw()
        self.send(b"\x1d")
        self.assertEqual(p.wait(LIMIT), 0)
        self.cooked()


class Completion(Base):
    def complete(self, *words):
        line = ('source <("$0" completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vial; '
                'printf "%s\\n" "${COMPREPLY[@]}"')
        r = subprocess.run(["bash", "-euc", line, VIAL, *words], stdout=subprocess.PIPE, timeout=LIMIT, check=True)
        return r.stdout.decode().split()

    def test_bash(self):
        self.assertEqual(self.complete("vial", "run", "--mem"), ["--memory"])
        self.assertEqual(self.complete("vial", "comp"), ["completion"])
        self.assertEqual(self.complete("vial", "--home", "x", "--engine", "q"), ["qemu"])
        self.assertIn("--env-file", self.complete("vial", "run", "--env"))
        self.assertNotIn("--publish", self.complete("vial", "run", "--"))
        self.assertEqual(self.complete("vial", "completion", "f"), ["fish"])

    def test_other_shells_parse(self):
        for shell in ("zsh", "fish"):
            text = self.vial("completion", shell).stdout
            self.assertIn(b"--memory" if shell == "zsh" else b"-l memory", text)
            try:
                subprocess.run([shell, "-n"], input=text, check=True, timeout=LIMIT)
            except FileNotFoundError:
                pass  # the text was looked at; the shell is not here to read it


if __name__ == "__main__":
    VIAL = os.path.abspath(sys.argv.pop(1))
    unittest.main()
