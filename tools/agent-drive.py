#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tries vial-agent alone, in QEMU: boot, set up, run commands, measure.

agent-drive.py --kernel VMLINUZ --modules LIB_MODULES_RELEASE --agent VIAL_AGENT [-k NAME…]
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import agent_cases  # noqa: E402
import agent_link as al  # noqa: E402

BUSYBOX = "/bin/busybox"


def make_disks(d):
    root = os.path.join(d, "tree")
    for sub in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/ann"):
        os.makedirs(os.path.join(root, sub))
    subprocess.run(["cp", BUSYBOX, root + "/bin/busybox"], check=True)
    for name in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            os.symlink("busybox", f"{root}/bin/{name}")
    open(root + "/etc/passwd", "w").write(
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\nbig:x:70000:70001::/:/bin/sh\n")
    open(root + "/etc/group", "w").write("root:x:0:\nann:x:1000:\nwheel:x:10:ann,bob\naudio:x:29:ann\n")
    open(root + "/bin/noexec", "w").write("#!/bin/sh\n")
    open(root + "/bin/badinterp", "w").write("#!/no/such/interpreter\n")
    os.chmod(root + "/bin/badinterp", 0o755)
    open(root + "/bin/badformat", "wb").write(b"\x01\x02\x03\x04 nothing")
    os.chmod(root + "/bin/badformat", 0o755)
    os.chmod(root + "/tmp", 0o1777)
    subprocess.run(["mkfs.erofs", d + "/root.img", root], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    for name, size in (("upper", 1 << 30), ("small", 16 << 20)):
        with open(f"{d}/{name}.img", "wb") as f:
            f.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", f"{d}/{name}.img"], check=True)
        os.truncate(f"{d}/{name}.img", 1 << 30)


class Machine:
    def __init__(self, args, d, name="m", disks=("root.img", "upper.img"), incoming=None, state=None):
        self.dir, self.sock = d, f"{d}/{name}.sock"
        self.qmp_path = f"{d}/{name}.qmp"
        for p in (self.sock, self.qmp_path):
            if os.path.exists(p):
                os.unlink(p)
        self.log = f"{d}/{name}.log"
        share = "off" if incoming else "on"
        mem = ["-object", f"memory-backend-file,id=m,size=512M,mem-path={state},share={share}"] if state else []
        disks = [a for i, f in enumerate(disks) for a in (
            "-blockdev", f"node-name=d{i},read-only={'on' if i == 0 else 'off'}," +
                         (f"driver=raw,file.driver=file,file.filename={d}/{f}" if f else
                          "driver=null-co,size=2199023255552,read-zeroes=on"),
            "-device", f"virtio-blk-pci,drive=d{i},serial=vial-{('root', 'upper')[i]}")]
        cmd = ["qemu-system-x86_64", "-M", "pc-q35-7.2" + (",memory-backend=m" if state else ""),
               "-accel", "tcg,thread=multi,tb-size=64", "-cpu", args.cpu, "-m", "512", "-smp", args.smp,
               "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", *mem,
               "-kernel", args.kernel, "-initrd", d + "/initramfs",
               "-append", "console=ttyS0 quiet panic=-1 " + args.append,
               "-device", "virtio-serial-pci", "-chardev", f"socket,id=c,path={self.sock},server=on,wait=off",
               "-device", "virtserialport,chardev=c,name=vial.agent.0", *disks,
               "-device", "virtio-rng-pci", "-serial", "file:" + self.log, "-no-reboot",
               "-qmp", f"unix:{self.qmp_path},server=on,wait=off"]
        if incoming:
            cmd += ["-incoming", "defer"]
        self.started = time.monotonic()
        self.proc = subprocess.Popen(cmd)
        self.link = None

    def connect(self, key=bytes(16), timeout=60):
        self.link = al.Link(al.connect(self.sock), key)
        self.link.reset(timeout)
        self.control = self.link.open()
        return self.link

    def refresh(self, host="box1", **kw):
        body = (al.field(1, 1) + al.field(2, os.urandom(64)) + al.field(3, time.time_ns()) + al.field(4, host) +
                al.field(5, os.urandom(16).hex()) + al.field(6, kw.get("memory", 0)) + al.field(7, kw.get("cpus", 0)))
        al.control(self.control, "refresh", body)

    def setup(self, size=0, root="vial-root", fstype="erofs", upper="vial-upper"):
        al.control(self.control, "setup", al.field(1, root) + al.field(2, fstype) + al.field(4, upper) +
                   al.field(5, size))

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--kernel", required=True)
    ap.add_argument("--modules", required=True)
    ap.add_argument("--agent", required=True)
    ap.add_argument("-k", action="append", help="only cases whose name contains this")
    ap.add_argument("--cpu", default="max")
    ap.add_argument("--smp", default="2")
    ap.add_argument("--append", default="", help="more words for the kernel's command line")
    ap.add_argument("--template", type=int, metavar="N", help="instead: restore a template N times and measure")
    args = ap.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as d:
        subprocess.run([here + "/agent-initramfs.sh", args.modules, args.agent, d + "/initramfs"], check=True)
        make_disks(d)
        return agent_cases.run_all(args, d, Machine)


if __name__ == "__main__":
    sys.exit(main())
