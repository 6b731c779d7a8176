# SPDX-License-Identifier: Apache-2.0
"""Machines of each kind: kernel, virtual CPUs, memory. Two corners always, all of them with VIAL_SOAK=1."""
import itertools

import pytest

import harness

CORNERS = {("stock", 1, "128M"), ("small", 4, "3G")}
ALL = [("stock", 1, "128M"), ("small", 4, "3G"),
       *(m for m in itertools.product(("stock", "small"), (1, 4), ("128M", "512M", "3G")) if m not in CORNERS)]
FILES = {"stock": ("vmlinuz", "kernel-version"), "small": ("vmlinux-small", "kernel-version-small")}
FILL = 24 << 20

# A program pinned to each CPU tells where it runs; a file in memory is read back.
SCRIPT = f"""
uname -r; nproc; awk '/MemTotal/ {{ print $2 }}' /proc/meminfo; cat /sys/fs/cgroup/*/memory.max
for c in $(seq 0 $(($(nproc) - 1))); do taskset -c $c sh -c 'cut -d" " -f39 /proc/self/stat'; done | tr '\\n' ' '; echo
yes vial | head -c {FILL} > /dev/shm/fill; tr -d 'vial\\n' < /dev/shm/fill | wc -c; wc -c < /dev/shm/fill
"""


def machines():
    for m in ALL:
        mark = pytest.mark.rig_fast if m in CORNERS else pytest.mark.soak
        yield pytest.param(*m, marks=mark, id=f"{m[0]}-{m[1]}cpu-{m[2]}")


def mib(text):
    return int(text[:-1]) * (1024 if text.endswith("G") else 1)


@pytest.mark.parametrize("kernel, cpus, memory", machines())
def test_machine(vial, engine, kernel, cpus, memory):
    """Booted, saved as templates, restored, and all there that was asked for."""
    image, version = (harness.GUEST / name for name in FILES[kernel])
    if not image.exists():
        pytest.skip("the small kernel was not built (make kernel)")
    if kernel == "small" and engine == "qemu":
        pytest.skip("the small kernel is for KVM: under software emulation some boots of it end early (LIMITS.md)")
    r = vial("run", "--kernel", image, "--cpus", cpus, "--memory", memory, "--", "sh", "-c", SCRIPT, timeout=600, check=True)
    release, n, total, limit, ran_on, odd, filled = r.out.decode().splitlines()
    assert release == version.read_text().strip()
    assert int(n) == cpus
    assert ran_on.split() == [str(c) for c in range(cpus)]
    most = int(total) if limit == "max" else min(int(total), int(limit) >> 10)
    assert mib(memory) * 1024 * 0.65 < most <= mib(memory) * 1024, (total, limit)
    assert (odd, filled) == ("0", str(FILL))
    assert r.err == b"", r
