# SPDX-License-Identifier: Apache-2.0
"""PID 1 of L1: makes the machine ready, waits to be saved, then runs one command for the host and tells how it ended.

Channels are virtio-serial ports: rig.ctl carries JSON lines (here "up" and "exit", from the host one "run"), rig.out and
rig.err the command's output, rig.results what the command itself wants to report (its path is in $RIG_RESULTS). "exit" says how many
bytes of output were sent, since ports do not end. Everything here is ours; the host trusts it no further than any test program.
"""
import json
import os
import pathlib
import subprocess
import threading
import time

TRACING = pathlib.Path("/sys/kernel/tracing")
KVM_EXIT = TRACING / "events/kvm/kvm_exit"
PUMP = 65536
DRAIN_S = 5  # a process left behind may hold a pipe open
PAYLOAD_DEV = "vdc"


def sh(*argv, check=True):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, check=check).returncode


def ports():
    """{name: path} of the virtio-serial ports."""
    found = {}
    for p in pathlib.Path("/sys/class/virtio-ports").iterdir():
        found[(p / "name").read_text().strip()] = f"/dev/{p.name}"
    return found


def prepare():
    os.environ.clear()
    os.environ.update(PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME="/root", LANG="C.UTF-8")
    for kind, where, options in (("devpts", "/dev/pts", "ptmxmode=0666,mode=0620,gid=5"), ("tmpfs", "/dev/shm", "mode=1777"),
                                 ("tmpfs", "/run", "mode=0755"), ("cgroup2", "/sys/fs/cgroup", "nsdelegate"),
                                 ("tracefs", "/sys/kernel/tracing", "mode=0755"), ("debugfs", "/sys/kernel/debug", "mode=0755")):
        os.makedirs(where, exist_ok=True)
        sh("mount", "-t", kind, "-o", options, kind, where)
    for where in ("/tmp", "/var/tmp"):
        os.makedirs(where, exist_ok=True)
        os.chmod(where, 0o1777)
    for name, to in (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):
        if not os.path.lexists(f"/dev/{name}"):
            os.symlink(to, f"/dev/{name}")
    sh("hostname", "l1")
    sh("ip", "link", "set", "lo", "up")
    for module in ("kvm_amd", "fuse", "loop"):
        sh("modprobe", module)
    os.chmod("/dev/kvm", 0o666)  # tests as an ordinary user use it too
    # VM exits by thread: what proves that KVM ran, and what the benchmark counts.
    (KVM_EXIT / "trigger").write_text("hist:keys=common_pid.execname:size=65536")


def take_payload():
    """The payload disk is another file than when this machine was saved: bind the driver anew, mount it under an overlay."""
    device = os.path.basename(os.path.realpath(f"/sys/block/{PAYLOAD_DEV}/device"))
    driver = pathlib.Path("/sys/bus/virtio/drivers/virtio_blk")
    (driver / "unbind").write_text(device)
    (driver / "bind").write_text(device)
    for where in ("/run/payload", "/scratch/rig-upper", "/scratch/rig-work", "/rig"):
        os.makedirs(where, exist_ok=True)
    sh("mount", "-t", "erofs", "-o", "ro", f"/dev/{PAYLOAD_DEV}", "/run/payload")
    sh("mount", "-t", "overlay", "-o", "lowerdir=/run/payload,upperdir=/scratch/rig-upper,workdir=/scratch/rig-work", "work", "/rig")
    if os.path.exists("/rig/.sparse.tar"):
        sh("tar", "-C", "/rig", "-xSf", "/rig/.sparse.tar")


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


class Pump(threading.Thread):
    """Copies a pipe to a port until the pipe ends."""

    def __init__(self, source, port):
        super().__init__(daemon=True)
        self.source, self.port, self.sent = source, port, 0
        self.start()

    def run(self):
        while chunk := os.read(self.source, PUMP):
            write_all(self.port, chunk)
            self.sent += len(chunk)


def run(request, ports_by_name, out, err):
    time.clock_settime(time.CLOCK_REALTIME, request["time"])
    env = {**os.environ, "RIG_RESULTS": ports_by_name["rig.results"], **request["env"]}
    started = time.monotonic()
    child = subprocess.Popen(request["argv"], env=env, cwd=request["cwd"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, start_new_session=True)
    pumps = [Pump(child.stdout.fileno(), out), Pump(child.stderr.fileno(), err)]
    pid = status = None
    while pid != child.pid:  # the first process of a machine reaps whatever is left to it
        pid, status = os.wait()
    for p in pumps:
        p.join(DRAIN_S)
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - started, "sent": [p.sent for p in pumps]}


def main():
    prepare()
    named = ports()
    ctl = open(named["rig.ctl"], "r+b", buffering=0)
    out, err = (os.open(named[f"rig.{n}"], os.O_WRONLY) for n in ("out", "err"))
    say = lambda **m: write_all(ctl.fileno(), json.dumps(m).encode() + b"\n")  # noqa: E731
    say(event="up")
    line = b""
    while not line.endswith(b"\n"):
        line += ctl.read(1)
    request = json.loads(line)
    try:
        if request["payload"]:
            take_payload()
        result = run(request, named, out, err)
    except (OSError, subprocess.CalledProcessError) as e:
        result = {"error": str(e)}
    say(event="exit", **result)
    while True:
        time.sleep(3600)  # the host ends the machine


main()
