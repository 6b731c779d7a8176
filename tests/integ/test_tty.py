# SPDX-License-Identifier: Apache-2.0
"""An interactive shell in a real terminal: tmux, whose screen is read as a person would."""
import os
import re
import shlex
import signal
import subprocess
import time
import uuid

import pytest

import harness

SCREEN_S = 30


class Terminal:
    """One tmux server with one window; typed into by send(), looked at by screen()."""

    def __init__(self, v, cols=100, rows=30):
        self.socket = "vial-test-" + uuid.uuid4().hex[:12]
        self.v = v
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(cols), "-y", str(rows), "env PS1='host> ' bash --norc --noprofile")
        self.tmux("set-option", "-g", "status", "off")
        self.tmux("set-option", "-g", "window-size", "manual")
        self.wait(r"^host> $")

    def tmux(self, *args):
        env = {**self.v.env, "TERM": "xterm-256color", "TMUX_TMPDIR": "/tmp"}
        r = subprocess.run(["tmux", "-L", self.socket, *args], env=env, cwd=self.v.cwd, capture_output=True, check=False)
        assert r.returncode == 0, (args, r.stderr)
        return r.stdout.decode(errors="replace")

    def screen(self):
        return self.tmux("capture-pane", "-p", "-J").rstrip("\n")

    def send(self, *keys):
        """KEYS are tmux's names (Enter, C-c, Left); anything else is typed as it is."""
        for k in keys:
            if re.fullmatch(r"(C-.|Enter|Left|Right|Up|BSpace|Home|End)", k):
                self.tmux("send-keys", k)
            else:
                self.tmux("send-keys", "-l", "--", k)

    def wait(self, pattern, count=1):
        """Wait until the screen has COUNT matches of PATTERN (line by line); return the screen."""
        end = time.monotonic() + SCREEN_S
        while True:
            text = self.screen()
            if len(re.findall(pattern, text, re.M)) >= count:
                return text
            assert time.monotonic() < end, f"no {count} × /{pattern}/ on the screen:\n{text}"
            time.sleep(0.05)  # tmux has no event for "the screen changed"

    def press_until(self, key, pattern):
        """Press KEY until PATTERN is there: a key that comes a moment too early goes to the shell, which ignores it."""
        end = time.monotonic() + SCREEN_S
        while not re.search(pattern, self.screen(), re.M):
            assert time.monotonic() < end, f"{key} does not lead to /{pattern}/:\n{self.screen()}"
            self.send(key)
            time.sleep(0.5)  # tmux has no event for "the screen changed"

    def resize(self, cols, rows):
        self.tmux("resize-window", "-x", str(cols), "-y", str(rows))

    def close(self):
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(vial):
    t = Terminal(vial)
    yield t
    t.close()


def start_shell(t):
    """A shell in a box whose prompt is "guest> "."""
    t.send(shlex.join(t.v.argv("run", "-it", "-e", "PS1=guest> ", "--", "sh")), "Enter")
    t.wait(r"^guest> $")


def test_prompt_and_line_editing(terminal):
    t = terminal
    start_shell(t)
    t.send("echo heXllo", "Left", "Left", "Left", "BSpace", "Enter")
    t.wait(r"^hello$")
    t.send("uname -r", "Enter")
    t.wait("^" + re.escape(harness.kernel_release()) + "$")
    t.send("Up", "Up", "Enter")  # the shell's history
    t.wait(r"^hello$", 2)
    t.send("tty; test -t 0 && test -t 1 && test -t 2 && echo all-ttys", "Enter")
    t.wait(r"^all-ttys$")


def test_exit_code_through_the_terminal(terminal):
    start_shell(terminal)
    terminal.send("exit 5", "Enter")
    terminal.wait(r"^host> $")
    terminal.send("echo code $?", "Enter")
    terminal.wait(r"^code 5$")


def test_ctrl_c_interrupts_the_guests_command(terminal):
    t = terminal
    start_shell(t)
    t.send("clear; echo in; sleep 1000; echo ended", "Enter")
    t.wait(r"^in$")
    t.press_until("C-c", r"^guest> $")
    assert not re.search(r"^ended", t.screen(), re.M)
    t.send("echo still $((40 + 2))", "Enter")
    t.wait(r"^still 42$")


def test_ctrl_z_and_fg(terminal):
    t = terminal
    start_shell(t)
    t.send("echo in; cat", "Enter")
    t.wait(r"^in$")  # what is typed earlier belongs to the shell's line editor
    t.send("one", "Enter")
    t.wait(r"^one$", 2)
    t.send("C-z")
    t.wait(r"Stopped[^$]*^guest> $")
    t.send("clear; jobs | grep -c Stopped", "Enter")
    t.wait(r"^1\nguest> $")
    t.send("fg", "Enter")
    t.wait(r"^cat$")
    t.send("two", "Enter")
    t.wait(r"^two$", 2)
    t.send("C-d")
    t.wait(r"^guest> $")


def test_resize_is_seen(terminal):
    t = terminal
    start_shell(t)
    t.send("stty size", "Enter")
    t.wait(r"^30 100$")
    t.resize(71, 23)
    # The new size travels behind the keys' back, so it is asked for until it is there.
    t.send("until [ \"$(stty size)\" = '23 71' ]; do sleep 0.1; done; echo seen", "Enter")
    t.wait(r"^seen$")


def host_stty(t):
    t.send("clear; stty -g", "Enter")
    return re.search(r"^[0-9a-f]+(:[0-9a-f]+){5,}$", t.wait(r"^[0-9a-f]+(:[0-9a-f]+){5,}$"), re.M).group(0)


@pytest.mark.parametrize("end", ["exit", "sigterm", "sigkill_monitor", "sigint"])
def test_terminal_is_sane_afterwards(terminal, end):
    t = terminal
    before = host_stty(t)
    t.send("clear", "Enter")
    if end == "sigterm":  # an interactive shell would ignore it
        t.send(shlex.join(t.v.argv("run", "-it", "--", "sh", "-c", "echo up; exec sleep 1000")), "Enter")
        t.wait(r"^up$")
    else:
        start_shell(t)
    if end == "exit":
        t.send("exit", "Enter")
    else:
        wanted = {"sigterm": "vial", "sigkill_monitor": "vial-monitor", "sigint": "vial"}[end]
        (pid,) = [p for p, (comm, _) in harness.descendants().items() if comm == wanted]
        os.kill(pid, {"sigterm": signal.SIGTERM, "sigkill_monitor": signal.SIGKILL, "sigint": signal.SIGINT}[end])
        if end == "sigint":  # a shell ignores it; it must still be usable
            t.send("echo usable", "Enter")
            t.wait(r"^usable$")
            t.send("exit", "Enter")
    t.wait(r"^host> $")
    assert host_stty(t) == before
    t.send("echo typed", "Enter")
    t.wait(r"^host> echo typed$")  # echo is on again


def test_t_without_a_terminal(vial):
    harness.assert_one_line_error(vial("run", "-t", "--", "true"), "TTY")

