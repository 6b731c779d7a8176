# SPDX-License-Identifier: Apache-2.0
"""Boxes through the library: lib-driver, which takes lines, as an object."""
import contextlib
import os
import select
import subprocess

import harness

DRIVER = harness.BUILD / "tests/integ/lib-driver"


class Failed(Exception):
    """A call of the library failed: .code as in vial_error_name(), .text its message."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Driver:
    """One process that uses libvial. Verbs are those of lib-driver.c; `with` ends it and all its boxes.

    DRIVER_LOG=FILE in the environment: what the boxes' processes log goes there.
    """

    def __init__(self, v):
        log = os.environ.get("DRIVER_LOG")
        env = {**v.env, "DRIVER_LOG": log, "VIAL_LOG": "debug"} if log else v.env
        with open(log, "ab") if log else contextlib.nullcontext(subprocess.PIPE) as err:
            self.p = subprocess.Popen([*v.prefix, str(DRIVER)], env=env, cwd=v.cwd, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=err)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.stdin.close()
        try:
            self.p.wait(timeout=harness.TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            raise

    def _answer(self, timeout):
        ready, _, _ = select.select([self.p.stdout], [], [], timeout)
        assert ready, f"lib-driver did not answer within {timeout} s"
        line = self.p.stdout.readline()
        assert line, f"lib-driver ended: {self.p.stderr.read() if self.p.stderr else None!r}"
        return line.decode(errors="replace").rstrip("\n")

    def send(self, *words):
        """Ask without waiting for the answer: answer() later."""
        self.p.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        self.p.stdin.flush()

    def answer(self, timeout=harness.TIMEOUT_S * 2):
        kind, _, rest = self._answer(timeout).partition(" ")
        if kind == "error":
            raise Failed(*rest.split(" ", 1))
        assert kind == "ok", (kind, rest)
        return rest

    def call(self, *words, **kw):
        self.send(*words)
        return self.answer(**kw)

    def create(self, *fields):
        return int(self.call("create", *fields))

    def start(self, *fields):
        """A box that was started."""
        box = self.create(*fields)
        self.call("start", box)
        return box

    def run(self, box, script, check=True):
        """Output of `sh -c SCRIPT`, which is one line."""
        assert "\n" not in script
        code, n = map(int, self.call("run", box, script).split())
        out = self.p.stdout.read(n).decode(errors="replace")
        assert not check or code == 0, (script, code, out)
        return out if check else (code, out)

    def fork(self, box, n):
        first = int(self.call("fork", box, n))
        return list(range(first, first + n))

    def fails(self, code, *words):
        """The call must fail with CODE; its message."""
        try:
            got = self.call(*words)
        except Failed as e:
            assert e.code == code, e
            assert e.text and "\n" not in e.text
            return e.text
        raise AssertionError(f"{words} succeeded: {got!r}, wanted {code}")
