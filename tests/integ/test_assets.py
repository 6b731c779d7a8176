# SPDX-License-Identifier: Apache-2.0
"""What a guest boots from: complete, consistent, small, the same bytes at every build."""
import os
import subprocess
import tarfile

import pytest

from harness import GUEST, TOP


def entries(path):
    """{name: (mode, body)} of a newc archive."""
    data, pos, found = path.read_bytes(), 0, {}
    while data[pos:pos + 6] == b"070701":
        fields = [int(data[pos + 6 + 8 * i:pos + 14 + 8 * i], 16) for i in range(13)]
        name = data[pos + 110:pos + 110 + fields[11] - 1].decode()
        body = (pos + 110 + fields[11] + 3) & ~3
        if name == "TRAILER!!!":
            assert not data[body:].strip(b"\0")
            return found
        found[name] = (fields[1], data[body:body + fields[6]])
        pos = (body + fields[6] + 3) & ~3
    raise AssertionError(f"{path}: no trailer")


@pytest.mark.parametrize("name", ["modules.cpio", "agent.cpio"])
def test_archives_can_be_concatenated(name):
    assert (GUEST / name).stat().st_size % 4 == 0
    assert entries(GUEST / name)


def test_agent_archive():
    e = entries(GUEST / "agent.cpio")
    assert e["init"][0] == 0o100755 and e["init"][1][:4] == b"\x7fELF"
    assert len(e["init"][1]) < 1 << 20
    assert e["dev/console"][0] == 0o020600
    assert {"dev", "proc", "sys"} <= set(e)


def test_modules_are_closed_under_dependencies():
    """Every line of modules.dep names files that are there, and stands after the lines it depends on."""
    version = (GUEST / "kernel-version").read_text().strip()
    e = entries(GUEST / "modules.cpio")
    root = f"lib/modules/{version}/"
    seen = set()
    for line in e[root + "modules.dep"][1].decode().splitlines():
        name, deps = line.split(":")
        assert root + name in e
        assert set(deps.split()) <= seen, line
        seen.add(name)
    names = {os.path.basename(s) for s in seen}
    assert {"erofs.ko", "overlay.ko", "fuse.ko", "virtio_blk.ko", "virtio_console.ko", "virtio-rng.ko", "virtio_pci.ko"} <= names
    assert len(seen) == sum(n.endswith(".ko") for n in e)


def test_upper_disk():
    st = (GUEST / "upper.ext4").stat()
    assert st.st_size == 4 << 30
    assert st.st_blocks * 512 < 2 << 20
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    subprocess.run(["e2fsck", "-fn", GUEST / "upper.ext4"], env=env, check=True, capture_output=True)
    ls = subprocess.run(["debugfs", "-R", "ls -l /", GUEST / "upper.ext4"], env=env, check=True, capture_output=True).stdout
    for name, mode in ((b"upper", b"40755"), (b"work", b"40700")):
        line = next(x.split() for x in ls.splitlines() if x.split()[-1] == name)
        assert (line[1], line[3], line[4]) == (mode, b"0", b"0"), line


def test_base_image():
    with tarfile.open(GUEST / "base.tar") as tar:
        members = {m.name: m for m in tar.getmembers()}
        assert "/bin/sh" in tar.extractfile("etc/passwd").read().decode()
    assert members["tmp"].mode == 0o1777
    assert members["bin/sh"].linkname == "/bin/busybox"
    assert all((m.uid, m.gid, m.mtime) == (0, 0, 0) for m in members.values())


@pytest.mark.parametrize("tool,args,name", [
    ("make-base", ["/bin/busybox"], "base.tar"), ("make-upper", [], "upper.ext4"),
])
def test_same_bytes_again(tmp_path, tool, args, name):
    out = tmp_path / name
    subprocess.run([TOP / "guest" / tool, *args, out], check=True)
    subprocess.run(["cmp", out, GUEST / name], check=True)
