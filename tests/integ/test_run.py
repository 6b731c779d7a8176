# SPDX-License-Identifier: Apache-2.0
"""vial run: the command's output, exit code, signals, bytes, environment, resources."""
import hashlib
import os
import random
import shlex
import signal
import subprocess
import time

import pytest

import harness

pytestmark = pytest.mark.rig_fast


def sh(v, script, *flags, **kw):
    return v("run", *flags, "--", "sh", "-c", script, **kw)


def test_kernel_is_the_guests(vial):
    wanted = harness.kernel_release().encode()
    r = vial("run", "--", "uname", "-r", check=True)
    assert r.out.strip() == wanted
    assert r.err == b"", r


@pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 255])
def test_exit_code(vial, code):
    assert sh(vial, f"exit {code}").code == code


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "HUP"])
def test_death_by_signal_is_128_plus_n(vial, name):
    r = sh(vial, f"kill -{name} $$")
    assert r.code == 128 + getattr(signal, "SIG" + name), r


def test_not_found_is_127(vial):
    r = vial("run", "--", "no-such-command")
    assert r.code == 127, r
    assert b"no-such-command" in r.err and r.err.count(b"\n") == 1, r


@pytest.mark.parametrize("path", ["/etc", "/etc/passwd"])
def test_not_executable_is_126(vial, path):
    r = vial("run", "--", path)
    assert r.code == 126, r
    assert path.encode() in r.err and r.err.count(b"\n") == 1, r


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_vial_reaches_the_commands_trap(vial, sig):
    name = sig.name[3:]
    p = vial.popen("run", "--", "sh", "-c", f"trap 'echo caught; exit 9' {name}; echo ready; while :; do sleep 0.1; done")
    harness.wait_output(p, b"ready\n")
    p.send_signal(sig)
    out, err = p.communicate(timeout=30)
    assert (p.returncode, out) == (9, b"caught\n"), (p.returncode, out, err)


def test_signal_without_trap_ends_the_command(vial):
    p = vial.popen("run", "--", "sh", "-c", "echo ready; sleep 1000")
    harness.wait_output(p, b"ready\n")
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=30)
    assert p.returncode == 128 + signal.SIGTERM


def test_all_byte_values_both_ways(vial):
    data = bytes(range(256)) * 64 + b"\r\n\0\x04\x03"
    r = vial("run", "-i", "--", "cat", stdin=data, check=True)
    assert r.out == data
    assert r.err == b""


def test_arguments_and_environment_are_bytes(vial):
    odd = os.fsdecode(b"a b\n\xff\xfe'\"$x")
    r = vial("run", "-e", "ODD=" + odd, "--", "sh", "-c", 'printf "%s|%s|" "$1" "$ODD"; [ -z "$2" ] && echo $#', "sh", odd, "", check=True)
    assert r.out == b"%s|%s|2\n" % (os.fsencode(odd), os.fsencode(odd))


def test_stdin_is_empty_without_i(vial):
    r = vial("run", "--", "sh", "-c", "wc -c", stdin=b"not for the guest", check=True)
    assert r.out.strip() == b"0"


def test_stdin_end_of_file(vial):
    r = vial("run", "-i", "--", "sh", "-c", "cat >/dev/null; echo end", stdin=b"", check=True)
    assert r.out == b"end\n"


def test_command_that_reads_no_stdin(vial):
    """A command that ends without reading must not wait for a writer."""
    p = vial.popen("run", "-i", "--", "true", stdin=subprocess.PIPE)
    assert p.wait(timeout=60) == 0
    p.stdin.close()
    p.stdout.close()
    p.stderr.close()


def test_stdout_and_stderr_are_apart_and_whole(vial):
    script = "(head -c 262144 /dev/zero | tr '\\0' o) & (head -c 262144 /dev/zero | tr '\\0' e >&2); wait"
    r = sh(vial, script, check=True)
    assert r.out == b"o" * 262144
    assert r.err == b"e" * 262144


def test_closed_stdout_ends_the_command(vial):
    p = vial.popen("run", "--", "sh", "-c", "yes")
    p.stdout.read(10)
    p.stdout.close()
    p.stderr.close()
    p.wait(timeout=30)
    assert p.returncode != 0


@pytest.mark.parametrize("closed,code", [("<&-", 3), (">&-", 125), ("2>&-", 3)], ids=["stdin", "stdout", "stderr"])
def test_started_with_a_closed_stream(vial, closed, code):
    """A descriptor of vial's own must not take the number: nothing is read from or written to the wrong file."""
    line = shlex.join(vial.argv("run", "-i", "--", "sh", "-c", "cat; echo out; exit 3"))
    r = subprocess.run(["bash", "-c", f"{line} {closed}"], env=vial.env, cwd=vial.cwd, stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=harness.TIMEOUT_S, check=False)
    assert r.returncode == code, r
    assert r.stdout == (b"" if closed == ">&-" else b"out\n"), r


def test_timeout_is_124_and_kills_the_group(vial):
    start = time.monotonic()
    r = vial("run", "--timeout", "1", "--", "sh", "-c", "sleep 1000 & sleep 1000")
    assert r.code == 124, r
    assert time.monotonic() - start < 20


def test_cpus_and_memory(vial):
    r = sh(vial, "nproc; awk '/MemTotal/ { print $2 }' /proc/meminfo", "--cpus", "1", "--memory", "256M", check=True)
    cpus, kib = map(int, r.out.split())
    assert cpus == 1
    assert 180 * 1024 < kib <= 256 * 1024


def test_workdir_user_hostname(vial):
    r = sh(vial, "pwd; id -u; id -g; hostname", "-w", "/tmp", "-u", "nobody", "--hostname", "inside", check=True)
    assert r.out == b"/tmp\n65534\n65534\ninside\n"


def test_user_by_number(vial):
    r = sh(vial, "id -u; id -g", "-u", "1234:5678", check=True)
    assert r.out == b"1234\n5678\n"


@pytest.mark.parametrize("flags,word", [(["-w", "/no/such/dir"], "/no/such/dir"), (["-u", "no-such-user"], "no-such-user")])
def test_bad_workdir_and_user(vial, flags, word):
    harness.assert_one_line_error(vial("run", *flags, "--", "true"), word)


def test_env_file(vial):
    f = vial.cwd / "env"
    f.write_text("# comment\nONE=1\nTWO=a b=c\n")
    r = sh(vial, 'echo "$ONE|$TWO|$THREE"', "--env-file", f, "-e", "THREE=3", check=True)
    assert r.out == b"1|a b=c|3\n"


def test_host_environment_stays_outside(vial):
    r = vial("run", "--", "env", env={"HOST_SECRET": "x"}, check=True)
    assert b"HOST_SECRET" not in r.out
    assert b"VIAL_HOME" not in r.out
    assert b"PATH=" in r.out


def test_ulimit(vial):
    assert sh(vial, "ulimit -n", "--ulimit", "nofile=77", check=True).out == b"77\n"


def test_entrypoint(vial):
    assert vial("run", "--entrypoint", "echo", "--", "a", "b", check=True).out == b"a b\n"


def test_root_is_writable_and_ephemeral(vial):
    assert sh(vial, "echo x >/etc/new && cat /etc/new && rm /bin/ls", check=True).out == b"x\n"
    assert sh(vial, "ls /etc/new").code != 0
    assert sh(vial, "ls /bin/ls", check=True)


def test_no_network_device(vial):
    r = sh(vial, "ls /sys/class/net", check=True)
    assert r.out.split() == [b"lo"]


def test_orphans_are_reaped(vial):
    """The agent, PID 1, collects what a command leaves behind."""
    r = sh(vial, "(sh -c 'sleep 0.1 & exec true' &) ; sleep 0.6; ps -o stat,comm | grep -c '^Z' || true", check=True)
    assert r.out.strip() == b"0", r


def test_project_file_and_order(vial, tmp_path):
    (tmp_path / "vial.json").write_text('{"command": ["sh", "-c", "echo $A $(hostname)"], "env": {"A": "file"}, "hostname": "fromfile"}')
    os.chmod(tmp_path, 0o755)
    assert vial("run", cwd=tmp_path, check=True).out == b"file fromfile\n"
    assert vial("run", "--hostname", "flag", cwd=tmp_path, check=True).out == b"file flag\n"


def test_python_reads_megabytes(vial, debian_python):
    data = random.Random(1).randbytes(8 << 20)
    prog = "import sys, hashlib; d = sys.stdin.buffer.read(); print(len(d), hashlib.sha256(d).hexdigest())"
    r = vial("run", "--rootfs", debian_python, "-i", "--", "python3", "-c", prog, stdin=data, timeout=300, check=True)
    assert r.out.decode().split() == [str(len(data)), hashlib.sha256(data).hexdigest()]


def test_rootfs_directory(vial, tmp_path):
    """A program from a directory on the host, with its attributes."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", root / "bin/busybox"], check=True)
    os.symlink("busybox", root / "bin/sh")
    (root / "odd name\n").write_text("x")
    os.chmod(root / "odd name\n", 0o4751)
    r = vial("run", "--rootfs", root, "--", "/bin/sh", "-c", "busybox stat -c %a /odd*", check=True)
    assert r.out == b"4751\n"


def memory_kib(pid, what):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(what))


def test_stream_with_pausing_reader_holds_memory(vial):
    """A long stream towards a reader that pauses grows agent, monitor and CLI by at most 16 MiB each.

    VIAL_TEST_SOAK=1 makes it 1 GiB and 10 s.
    """
    total, pause_s = (1 << 30, 10) if os.environ.get("VIAL_TEST_SOAK") else (48 << 20, 3)
    script = f"grep VmRSS /proc/1/status >&2; head -c {total} /dev/zero; grep VmHWM /proc/1/status >&2"
    p = vial.popen("run", "--", "sh", "-c", script)
    seen = len(p.stdout.read(1 << 20))
    ours = {comm: pid for pid, (comm, _) in harness.descendants().items() if comm in ("vial", "vial-monitor")}
    assert set(ours) == {"vial", "vial-monitor"}, ours
    start = {comm: memory_kib(pid, "VmRSS") for comm, pid in ours.items()}
    time.sleep(pause_s)  # the reader's pause is what is tested
    most = {}
    while chunk := p.stdout.read(1 << 20):
        seen += len(chunk)
        if seen < total:  # while the two live for certain
            most = {comm: memory_kib(pid, "VmHWM") for comm, pid in ours.items()}
    agent_start, agent_most = (int(line.split()[1]) for line in p.stderr.read().splitlines())
    p.stdout.close()
    p.stderr.close()
    assert p.wait(timeout=60) == 0
    assert seen == total
    for comm, kib in start.items():
        assert most[comm] - kib <= 16 * 1024, (start, most)
    assert agent_most - agent_start <= 16 * 1024, (agent_start, agent_most)
