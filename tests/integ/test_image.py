# SPDX-License-Identifier: Apache-2.0
"""Root disks from images: what goes in comes out, hostile sources are refused or contained, the store survives."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import stat
import struct
import subprocess
import tarfile
import time

import pytest

BUILD = pathlib.Path(os.environ.get("VIAL_BUILD", pathlib.Path(__file__).resolve().parent.parent.parent / "build"))
TOOL = BUILD / "tests/integ/image-tool"
UNPACK = BUILD / "src/vial-unpack"
ROOT = os.geteuid() == 0
EPOCH = 1700000000


class Result:
    def __init__(self, proc, disk):
        self.code, self.err, self.disk = proc.returncode, proc.stderr.strip(), disk
        self.info = {}
        for line in proc.stdout.splitlines():
            key, _, value = line.partition("=")
            self.info.setdefault(key, []).append(value)


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


class Box:
    """A store of its own, and image_open() on it."""

    def __init__(self, tmp):
        self.tmp = tmp
        self.store = tmp / "store dir"
        self.store.mkdir()
        self.base = tmp / "base.tar"
        self.n = 0

    def command(self, ref, disk):
        return [str(TOOL), str(self.store), str(UNPACK), str(self.base), str(ref), str(disk)]

    def open(self, ref, **env):
        self.n += 1
        disk = self.tmp / f"disk{self.n}"
        proc = subprocess.run(self.command(ref, disk), capture_output=True, env={**os.environ, **env}, check=False,
                              text=True, errors="surrogateescape", timeout=120)
        return Result(proc, disk)

    def good(self, ref, **env):
        r = self.open(ref, **env)
        assert r.code == 0, r.err
        if r.info["fstype"] == ["erofs"]:
            fsck = subprocess.run(["fsck.erofs", r.disk], capture_output=True, text=True, check=False)
            assert fsck.returncode == 0, fsck.stdout + fsck.stderr
        return r

    def bad(self, ref, *words, **env):
        """An error of one line with all of WORDS, and nothing half-done in the store."""
        r = self.open(ref, **env)
        assert r.code == 1
        assert "\n" not in r.err
        for word in words:
            assert word in r.err, r.err
        assert not list((self.store).glob("tmp/*"))
        assert not list((self.store).glob("sources/*"))
        return r


def can_mount():
    return ROOT and "erofs" in pathlib.Path("/proc/filesystems").read_text() and os.path.exists("/dev/loop-control")


class Mounted:
    def __init__(self, disk, tmp):
        self.disk, self.dir = disk, tmp / f"mnt-{disk.name}"

    def __enter__(self):
        self.dir.mkdir()
        subprocess.run(["mount", "-t", "erofs", "-o", "loop,ro", self.disk, self.dir], check=True)
        return self.dir

    def __exit__(self, *_):
        subprocess.run(["umount", self.dir], check=True)


needs_mount = pytest.mark.skipif(not can_mount(), reason="mounting EROFS needs root, loop devices and a kernel with it")


class Tar:
    """A tar being made; entries are also kept as what the root must list."""

    def __init__(self, path, fmt=tarfile.PAX_FORMAT, mode="w"):
        self.path = path
        self.tar = tarfile.open(path, mode, format=fmt, errors="surrogateescape")

    def add(self, name, data=b"", **kw):
        t = tarfile.TarInfo(name)
        t.size, t.mode, t.mtime = len(data), kw.pop("mode", 0o644), kw.pop("mtime", EPOCH)
        for key, value in kw.items():
            setattr(t, key, value)
        self.tar.addfile(t, io.BytesIO(data))
        return self

    def dir(self, name, **kw):
        return self.add(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **kw})

    def link(self, name, to):
        return self.add(name, type=tarfile.LNKTYPE, linkname=to)

    def sym(self, name, to, **kw):
        return self.add(name, type=tarfile.SYMTYPE, linkname=to, mode=0o777, **kw)

    def close(self):
        self.tar.close()
        return self.path


def listing(top):
    """Everything a stat, a read and the xattrs show, by path; inodes as numbers of their first name."""
    out, first = {}, {}
    top = os.fsencode(top)
    for base, dirs, files in os.walk(top):
        dirs.sort()
        for name in [b""] * (base == top) + dirs + files:
            path = os.path.join(base, name) if name else base
            rel = os.path.relpath(path, top)
            st = os.lstat(path)
            entry = {"mode": stat.filemode(st.st_mode), "owner": (st.st_uid, st.st_gid), "mtime": st.st_mtime_ns}
            if not stat.S_ISDIR(st.st_mode):
                entry["nlink"] = st.st_nlink
                if st.st_nlink > 1:
                    entry["same"] = first.setdefault((st.st_dev, st.st_ino), rel)
            if stat.S_ISREG(st.st_mode):
                entry["data"] = hashlib.sha256(pathlib.Path(os.fsdecode(path)).read_bytes()).hexdigest()
                entry["size"] = st.st_size
            elif stat.S_ISLNK(st.st_mode):
                entry["to"] = os.readlink(path)
            elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                entry["rdev"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
            xattrs = {x: os.getxattr(path, x, follow_symlinks=False) for x in os.listxattr(path, follow_symlinks=False)}
            if xattrs:
                entry["xattrs"] = xattrs
            out[rel] = entry
    # Which of several names comes first in a walk depends on the file system.
    for rel, e in out.items():
        if "same" in e:
            e["same"] = min(r for r, o in out.items() if o.get("same") == e["same"])
    return out


CAP = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in
                                      [(1, 6, 0xffffffff), (2, 4, 1000), (4, 4, 0xffffffff), (16, 4, 0xffffffff),
                                       (32, 4, 0xffffffff)])


def make_rich_tree(top):
    """One of each kind of file, on the host's own file system."""
    top.mkdir()
    big = bytes(range(256)) * 700
    for size in (0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 8192 + 100, len(big)):
        (top / f"size-{size}").write_bytes(big[:size])
    (top / "suid").write_bytes(b"x")
    os.chown(top / "suid", 70000, 4000000000)
    (top / "suid").chmod(0o6755)
    (top / "sticky").mkdir()
    (top / "sticky").chmod(0o1777)
    os.link(top / "size-4097", top / "hard1")
    os.link(top / "size-4097", top / "sticky/hard2")
    for dev, kind, num in (("chr", stat.S_IFCHR, (1, 3)), ("blk", stat.S_IFBLK, (259, 70000))):
        os.mknod(top / dev, kind | 0o640, os.makedev(*num))
    os.mkfifo(top / "fifo", 0o600)
    os.mknod(top / "sock", stat.S_IFSOCK | 0o755)
    os.symlink("a" * 4000, top / "long-symlink")
    os.symlink("../size-1", top / "sticky/up")
    os.symlink(b"\xff\xfe bytes", os.fsencode(top / "odd-symlink"))
    for name in (b"n" * 255, b"\x01\xff\n\\ ", b"-dash", b"!bang", b"..a", b".-b", b".hidden", "grün".encode(), b".wh.kept"):
        pathlib.Path(os.fsdecode(os.path.join(os.fsencode(top), name))).write_bytes(name)
    many = top / "many"
    many.mkdir()
    for i in range(1500):
        (many / f"entry-{i:05}").write_bytes(b"%d" % i)
    deep = top / "/".join(["deep"] * 40)
    deep.mkdir(parents=True)
    (deep / "end").write_bytes(b"end")
    os.setxattr(top / "size-1", "user.note", b"\x00binary\xff")
    os.setxattr(top / "size-8292", "user.large", b"v" * 3000)
    os.setxattr(top / "size-2048", "security.capability", CAP)
    os.setxattr(top / "size-4096", "system.posix_acl_access", ACL)
    os.setxattr(top / "sticky", "trusted.t", b"t")
    paths = sorted(os.path.join(base, n) for base, dirs, files in os.walk(os.fsencode(top)) for n in dirs + files)
    for i, path in enumerate(paths):
        os.utime(path, ns=(0, (EPOCH + i % 7) * 10**9 + (i * 1234567) % 10**9), follow_symlinks=False)
    os.utime(top, ns=(0, EPOCH * 10**9 + 5))
    return top


def same_listing(got, want):
    assert sorted(got) == sorted(want)
    for path in want:
        assert got[path] == want[path], path


@needs_mount
def test_directory_keeps_everything(box, tmp_path):
    src = make_rich_tree(tmp_path / "tree")
    r = box.good(src)
    with Mounted(r.disk, tmp_path) as top:
        same_listing(listing(top), listing(src))


@needs_mount
@pytest.mark.parametrize("fmt", ["pax", "gnu"])
def test_tar_keeps_everything(box, tmp_path, fmt):
    src = make_rich_tree(tmp_path / "tree")
    want = listing(src)
    flags = ["--format=pax", "--xattrs", "--xattrs-include=*"] if fmt == "pax" else ["--format=gnu"]
    subprocess.run(["tar", "-C", src, "-cf", tmp_path / "t.tar", *flags, "."], check=True, stderr=subprocess.DEVNULL)
    del want[b"sock"]  # tar leaves sockets out
    if fmt == "gnu":
        for e in want.values():
            e.pop("xattrs", None)
            e["mtime"] -= e["mtime"] % 10**9
    r = box.good(tmp_path / "t.tar")
    with Mounted(r.disk, tmp_path) as top:
        got = listing(top)
        want[b"size-4096"]["mode"] = got[b"size-4096"]["mode"]  # the ACL's mask, with and without ACL
        same_listing(got, want)


@needs_mount
def test_tar_pax_by_hand(box, tmp_path):
    t = Tar(tmp_path / "t.tar").dir("./", mode=0o711, uid=100000)
    t.add("frac", b"data", mtime=EPOCH + 0.25, uid=100000, gid=2**31)
    t.add("cap", b"x" * 5000, pax_headers={"SCHILY.xattr.security.capability": CAP.decode("latin-1"),
                                           "SCHILY.xattr.user.a": "b"})
    t.add("/abs/olute", b"1").add("x/./y//z", b"2")
    t.add("neg", b"", mtime=-5.5)
    r = box.good(t.close())
    with Mounted(r.disk, tmp_path) as top:
        got = listing(top)
    assert got[b"."]["mode"] == "drwx--x--x" and got[b"."]["owner"] == (100000, 0)
    assert got[b"frac"]["mtime"] == EPOCH * 10**9 + 250000000 and got[b"frac"]["owner"] == (100000, 2**31)
    assert got[b"cap"]["xattrs"]["user.a"] == b"b"
    assert set(got) == {b".", b"frac", b"cap", b"abs", b"abs/olute", b"x", b"x/y", b"x/y/z", b"neg"}


@needs_mount
@pytest.mark.parametrize("packer", ["gzip", "zstd", "members"])
def test_compressed_tars_have_the_same_contents(box, tmp_path, packer):
    t = Tar(tmp_path / "t.tar")
    for i in range(50):
        t.add(f"f{i}", os.urandom(3000 * i))
    plain = t.close().read_bytes()
    packed = tmp_path / "t.packed"
    if packer == "gzip":
        packed.write_bytes(gzip.compress(plain))
    elif packer == "members":
        packed.write_bytes(b"".join(gzip.compress(plain[i:i + 100000]) for i in range(0, len(plain), 100000)))
    else:
        packed.write_bytes(subprocess.run(["zstd", "-c"], input=plain, check=True, capture_output=True).stdout)
    box.good(packed)
    box.good(tmp_path / "t.tar")
    for kind in ("data", "tree"):
        files = list(box.store.glob(f"layers/*.{kind}"))
        assert (len(files), len({p.read_bytes() for p in files})) == (2, 1)


@needs_mount
def test_later_entries_replace_and_links_are_shared(box, tmp_path):
    t = Tar(tmp_path / "t.tar").add("f", b"old").add("f", b"new").dir("d").add("d/in", b"1").dir("d", mode=0o700)
    t.add("was-dir/x", b"1").add("was-dir", b"file").link("h", "f").link("./h2", "/h").sym("s", "d").link("hs", "s")
    t.add("s/through", b"2").add("forward-target", b"3")
    r = box.good(t.close())
    with Mounted(r.disk, tmp_path) as top:
        got = listing(top)
        assert (top / "h2").read_bytes() == b"new" and got[b"h"]["nlink"] == 3
        assert got[b"d"]["mode"] == "drwx------" and (top / "d/in").exists() and (top / "d/through").read_bytes() == b"2"
        assert (top / "was-dir").read_bytes() == b"file" and got[b"hs"]["to"] == b"d" and got[b"hs"]["nlink"] == 2


HOSTILE = {
    "dotdot": (lambda t: t.add("../evil", b"x"), "'../evil'", "'..'"),
    "inner dotdot": (lambda t: t.add("a/../../evil", b"x"), "'..'"),
    "link dotdot": (lambda t: t.add("a", b"x").link("b", "../../etc/passwd"), "'..'"),
    "link to nothing": (lambda t: t.link("b", "nothing"), "'nothing'", "does not exist"),
    "link loop": (lambda t: t.link("b", "a").link("a", "b"), "does not exist"),
    "symlink loop": (lambda t: t.sym("a", "b").sym("b", "a").add("a/x", b""), "too many symbolic links"),
    "file as parent": (lambda t: t.add("f", b"x").add("f/x", b"x"), "not a directory"),
    "long name": (lambda t: t.add("n" * 256, b"x"), "longer than 255"),
    "long path": (lambda t: t.add("/".join(["dd"] * 1500), b"x"), "longer than 4096"),
    "deep": (lambda t: t.add("/".join(["d"] * 300), b"x"), "nested deeper"),
    "hard link to directory": (lambda t: t.dir("d").link("l", "d"), "directory"),
    "long target": (lambda t: t.sym("s", "t" * 4096), "longer than 4095"),
    "device number": (lambda t: t.add("c", type=tarfile.CHRTYPE, devmajor=5000, devminor=1), "5000:1"),
    "root as file": (lambda t: t.add("./", b"x"), "root"),
    "huge xattr": (lambda t: t.add("x", pax_headers={"SCHILY.xattr.user.x": "v" * 70000}), "user.x", "65535"),
    "negative owner": (lambda t: t.add("x", uid=-5), "out of range"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tars_are_refused(box, tmp_path, case):
    make, *words = HOSTILE[case]
    t = Tar(tmp_path / "x.tar", fmt=tarfile.GNU_FORMAT if case == "negative owner" else tarfile.PAX_FORMAT)
    make(t)
    box.bad(t.close(), "x.tar", *words)


@needs_mount
def test_symlinked_parents_stay_inside(box, tmp_path):
    t = Tar(tmp_path / "t.tar").sym("out", "/../../../../../tmp").add("out/escaped-vial", b"x").sym("up", "../..")
    t.add("up/also", b"y")
    r = box.good(t.close())
    assert not os.path.exists("/tmp/escaped-vial")
    with Mounted(r.disk, tmp_path) as top:
        assert (top / "tmp/escaped-vial").read_bytes() == b"x" and (top / "also").read_bytes() == b"y"


@pytest.mark.parametrize("packer", ["plain", "gzip", "zstd"])
def test_truncated_archives(box, tmp_path, packer):
    t = Tar(tmp_path / "whole.tar")
    for i in range(20):
        t.add(f"f{i}", os.urandom(5000))
    data = t.close().read_bytes()
    if packer == "gzip":
        data = gzip.compress(data)
    elif packer == "zstd":
        data = subprocess.run(["zstd", "-c"], input=data, check=True, capture_output=True).stdout
    for part in (0.99, 0.7, 0.31):
        cut = tmp_path / "x.tar"
        cut.write_bytes(data[:int(len(data) * part) if packer != "plain" else int(110000 * part)])
        box.bad(cut, "x.tar", "truncated")


def test_cut_at_an_entry(box, tmp_path):
    path = Tar(tmp_path / "x.tar").add("a", b"1").add("b", b"2").close()
    path.write_bytes(path.read_bytes()[:2048])
    box.bad(path, "truncated")


@pytest.mark.parametrize("data,words", [
    (b"", ["empty"]),
    (b"not a tar at all, only some text\n" * 100, ["not a tar archive"]),
    (b"QFI\xfb" + bytes(4096), ["qcow2"]),
    (b"hsqs" + bytes(4096), ["squashfs"]),
    (b"\xfd7zXZ\0" + bytes(4096), ["xz"]),
    (b"BZh9" + bytes(4096), ["bzip2"]),
    (b"\x1f\x8b\x08\x00" + bytes(100), ["gzip"]),
])
def test_other_formats_are_named(box, tmp_path, data, words):
    (tmp_path / "x.img").write_bytes(data)
    box.bad(tmp_path / "x.img", "x.img", *words)


def test_references(box, tmp_path):
    box.bad("debian", "registries", "./debian")
    box.bad(tmp_path / "missing", "No such file")
    os.mkfifo(tmp_path / "fifo")
    box.bad(tmp_path / "fifo", "neither a file nor a directory")
    box.bad("base", "No such file")
    Tar(box.base).add("b", b"1").close()
    assert box.good("base").info["fstype"] == ["erofs"]


def test_ext4_disk(box, tmp_path):
    disk = tmp_path / "d.img"
    with open(disk, "wb") as f:
        f.truncate(4 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", disk], check=True)
    (tmp_path / "vmlinuz-6.1").write_bytes(b"k")
    r = box.good(disk)
    assert r.info["fstype"] == ["ext4"] and r.info["kernel"] == [str(tmp_path / "vmlinuz-6.1")]
    assert "initrd" not in r.info and r.disk.read_bytes() == disk.read_bytes()
    with open(disk, "ab") as f:
        f.write(b"x")
    box.bad(disk, "multiple of 4096")


def test_second_open_is_quick_and_changes_are_seen(box, tmp_path):
    path = Tar(tmp_path / "t.tar").add("a", b"1").close()
    first = box.good(path).info["digest"]
    time.sleep(0)
    old = time.time() - 100
    os.utime(path, (old, old))
    # ctime cannot be set back: wait until it has settled, then the entry is kept.
    while time.time_ns() - path.stat().st_ctime_ns < 60_000_000:
        os.sched_yield()
    box.good(path)
    times = [int(box.good(path).info["open_us"][0]) for _ in range(5)]
    assert min(times) < 1000, times
    Tar(path).add("a", b"2").close()
    os.utime(path, (old, old))
    assert box.good(path).info["digest"] != first


def test_changed_directory_is_seen(box, tmp_path):
    src = tmp_path / "d"
    (src / "sub").mkdir(parents=True)
    (src / "sub/f").write_bytes(b"1")
    one = box.good(src).info["digest"]
    assert box.good(src).info["digest"] == one
    (src / "sub/f").write_bytes(b"2")
    assert box.good(src).info["digest"] != one


# -- OCI layouts and docker-archives


def blob(layout, data):
    name = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (layout / "blobs/sha256" / name).write_bytes(data)
    return {"digest": f"sha256:{name}", "size": len(data)}


def layer_tar(make):
    f = io.BytesIO()
    t = Tar.__new__(Tar)
    t.path, t.tar = None, tarfile.open(fileobj=f, mode="w", format=tarfile.PAX_FORMAT)
    make(t)
    t.tar.close()
    return f.getvalue()


CONFIG = {"Entrypoint": ["/bin/e", "-x"], "Cmd": ["c d"], "Env": ["PATH=/bin", "E="], "User": "1000:50",
          "WorkingDir": "/w", "StopSignal": "SIGINT"}


def make_layout(path, layers, pack=lambda data: data, arch="amd64", **change):
    path.mkdir()
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    tars = [layer_tar(make) for make in layers]
    config = {"architecture": arch, "os": "linux", "config": CONFIG,
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(t).hexdigest() for t in tars]}}
    config.update(change.get("config", {}))
    kind = "application/vnd.oci.image."
    manifest = {"schemaVersion": 2,
                "config": {"mediaType": kind + "config.v1+json", **blob(path, json.dumps(config).encode())},
                "layers": [{"mediaType": kind + "layer.v1.tar", **blob(path, pack(t))} for t in tars]}
    index = {"schemaVersion": 2,
             "manifests": [{"mediaType": kind + "manifest.v1+json", **blob(path, json.dumps(manifest).encode())}]}
    (path / "index.json").write_text(json.dumps(index))
    return path


def three_layers():
    def one(t):
        t.dir("etc").add("etc/a", b"a1").add("etc/b", b"b1").dir("opq").add("opq/old", b"o").dir("gone").add("gone/x", b"x")
        t.dir("usr").dir("usr/lib").sym("lib", "usr/lib").add("was-file", b"f").dir("was-dir").add("was-dir/x", b"")
        t.add("target", b"link me").dir("kept", mode=0o700).add("both/x", b"1")

    def two(t):
        t.add("etc/.wh.a").add("opq/.wh..wh..opq").add("opq/new", b"n").add(".wh.gone").add("lib/through", b"t")
        t.dir("was-file").add("was-file/in", b"i").add("was-dir", b"now a file").link("linked", "target")
        t.add("kept/more", b"m").add(".wh.both").add("both/y", b"2").add(".wh..wh.plnk", b"")

    def three(t):
        t.add("etc/b", b"b3", mode=0o600).dir("gone", mode=0o711).add("etc/.wh.nothing")

    return [one, two, three]


def check_three(top):
    names = {os.fsdecode(n) for n in listing(top)}
    assert names == {".", "etc", "etc/b", "opq", "opq/new", "gone", "usr", "usr/lib", "usr/lib/through", "lib", "was-file",
                     "was-file/in", "was-dir", "target", "linked", "kept", "kept/more", "both", "both/y"}
    assert (top / "etc/b").read_bytes() == b"b3" and stat.S_IMODE((top / "etc/b").stat().st_mode) == 0o600
    assert (top / "linked").stat().st_ino == (top / "target").stat().st_ino
    assert stat.S_IMODE((top / "kept").stat().st_mode) == 0o700 and (top / "was-dir").read_bytes() == b"now a file"
    assert stat.S_IMODE((top / "gone").stat().st_mode) == 0o711


def check_config(info):
    assert info["entrypoint"] == ["/bin/e", "-x"] and info["cmd"] == ["c d"] and info["env"] == ["PATH=/bin", "E="]
    assert info["user"] == ["1000:50"] and info["workdir"] == ["/w"] and info["stop_signal"] == ["SIGINT"]


@needs_mount
@pytest.mark.parametrize("shape", ["dir", "dir.gz", "tar", "tar.gz"])
def test_oci_layout(box, tmp_path, shape):
    layout = make_layout(tmp_path / "layout", three_layers(), gzip.compress if shape == "dir.gz" else lambda d: d)
    ref = layout
    if shape.startswith("tar"):
        ref = tmp_path / ("l." + shape)
        subprocess.run(["tar", "-C", layout, "-caf", ref, "."], check=True)
    r = box.good(ref)
    check_config(r.info)
    with Mounted(r.disk, tmp_path) as top:
        check_three(top)
    again = box.good(ref)
    assert again.info["digest"] == r.info["digest"]
    check_config(again.info)


@needs_mount
def test_docker_archive(box, tmp_path):
    if not shutil.which("skopeo"):
        pytest.skip("no skopeo to make a docker-archive with")
    layout = make_layout(tmp_path / "layout", three_layers())
    subprocess.run(["skopeo", "copy", "--insecure-policy", f"oci:{layout}", f"docker-archive:{tmp_path}/d.tar:x:1"],
                   check=True, capture_output=True)
    r = box.good(tmp_path / "d.tar")
    check_config(r.info)
    with Mounted(r.disk, tmp_path) as top:
        check_three(top)
    assert r.info["digest"] == box.good(layout).info["digest"]


def old_docker_archive(path, layers, config_name=None):
    tars = [layer_tar(make) for make in layers]
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": CONFIG, "rootfs": {
        "diff_ids": ["sha256:" + hashlib.sha256(t).hexdigest() for t in tars]}}).encode()
    name = config_name or hashlib.sha256(config).hexdigest() + ".json"
    ids = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(len(tars))]
    t = Tar(path)
    for i, data in enumerate(tars):
        t.dir(ids[i]).add(f"{ids[i]}/VERSION", b"1.0")
        same = tars.index(data)
        if same < i:  # docker save stores equal layers once
            t.sym(f"{ids[i]}/layer.tar", f"../{ids[same]}/layer.tar")
        else:
            t.add(f"{ids[i]}/layer.tar", data)
    t.add(name, config)
    t.add("manifest.json", json.dumps([{"Config": name, "RepoTags": None, "Layers": [f"{i}/layer.tar" for i in ids]}]).encode())
    return t.close()


@needs_mount
def test_old_docker_archive_with_symlinked_layer(box, tmp_path):
    layers = three_layers()
    r = box.good(old_docker_archive(tmp_path / "d.tar", layers + [layers[2]]))
    check_config(r.info)
    with Mounted(r.disk, tmp_path) as top:
        check_three(top)


def test_layers_are_stored_once(box, tmp_path):
    a, b, c = three_layers()
    box.good(make_layout(tmp_path / "l1", [a, b]))
    box.good(make_layout(tmp_path / "l2", [a, c]))
    assert len(list(box.store.glob("layers/*.data"))) == 3
    assert len(list(box.store.glob("roots/*.meta"))) == 2


def test_layers_are_known_by_the_bytes_of_their_source(box, tmp_path):
    """What the helper says about a layer names nothing: it may have been taken over by the image it reads."""
    tar = layer_tar(three_layers()[0])
    packed = [tar, gzip.compress(tar)]
    for i, data in enumerate(packed):
        box.good(make_layout(tmp_path / f"l{i}", [three_layers()[0]], lambda _, data=data: data))
    want = {hashlib.sha256(b"vial layer\n" + hashlib.sha256(data).digest()).hexdigest() for data in packed}
    assert {p.stem for p in box.store.glob("layers/*.data")} == want


def spoil(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_layouts(box, tmp_path):
    layout = make_layout(tmp_path / "l", three_layers())
    blobs = {p: p.read_bytes() for p in (layout / "blobs/sha256").iterdir()}
    for path, data in blobs.items():
        spoil(path)
        box.bad(layout, path.name[:12], "digest")
        path.unlink()
        box.bad(layout, path.name[:12], "No such file")
        path.write_bytes(data)
        path.write_bytes(data[:-1])
        box.bad(layout, path.name[:12])
        path.write_bytes(data)
    box.good(layout)


@pytest.mark.parametrize("change,words", [
    ({"arch": "s390x"}, ["linux/s390x"]),
    ({"config": {"rootfs": {"diff_ids": []}}}, ["diff_ids"]),
    ({"config": {"config": {"Env": "no list"}}}, ["'Env'"]),
    ({"config": {"rootfs": {"diff_ids": ["sha256:" + "0" * 64] * 3}}}, ["diff-id"]),
    ({"config": {"os": "windows"}}, ["windows"]),
])
def test_odd_configs(box, tmp_path, change, words):
    box.bad(make_layout(tmp_path / "l", three_layers(), **change), *words)


def test_odd_indexes(box, tmp_path):
    layout = make_layout(tmp_path / "l", three_layers())
    index = json.loads((layout / "index.json").read_text())
    for text, words in [
        ("{", ["index.json", "line 1"]), ("[]", ["not a JSON object"]), ("{}", ["no image for linux/"]),
        ('{"manifests": [{"digest": "sha512:00"}]}', ["sha512:00"]),
        ('{"manifests": [{"digest": "sha256:../../../../etc/passwd"}]}', ["form"]),
        (json.dumps({"manifests": index["manifests"] + [{"digest": "sha256:" + "1" * 64}]}), ["several images"]),
        ('{"a": ' * 3000, ["index.json"]),
    ]:
        (layout / "index.json").write_text(text)
        box.bad(layout, *words)


# -- the store under stress


def test_concurrent_imports_do_the_work_once(box, tmp_path):
    t = Tar(tmp_path / "t.tar")
    for i in range(200):
        t.add(f"f{i}", os.urandom(20000))
    path = t.close()
    while time.time_ns() - path.stat().st_ctime_ns < 60_000_000:
        os.sched_yield()
    procs = [subprocess.Popen(box.command(path, tmp_path / f"disk-{i}"), stdout=subprocess.PIPE, text=True)
             for i in range(6)]
    out = [p.communicate(timeout=120)[0] for p in procs]
    assert all(p.returncode == 0 for p in procs)
    assert len({(tmp_path / f"disk-{i}").read_bytes() for i in range(6)}) == 1
    assert len({[x for x in o.splitlines() if x.startswith("digest")][0] for o in out}) == 1
    assert len(list(box.store.glob("layers/*.data"))) == 1 and not list(box.store.glob("tmp/*"))


def helpers_of(store):
    """Processes called vial-unpack that hold a file of STORE open."""
    found = []
    for proc in pathlib.Path("/proc").iterdir():
        try:
            if proc.name.isdigit() and (proc / "comm").read_text() == "vial-unpack\n" and any(
                    str(store) in os.readlink(f) for f in (proc / "fd").iterdir()):
                found.append(int(proc.name))
        except OSError:
            pass
    return found


def test_killed_imports_leave_a_usable_store(box, tmp_path):
    t = Tar(tmp_path / "t.tar")
    for i in range(100):
        t.add(f"f{i}", os.urandom(100000))
    path = t.close()
    for i in range(12):
        p = subprocess.Popen(box.command(path, tmp_path / "x"), stdout=subprocess.DEVNULL)
        try:
            p.wait(timeout=0.004 * (i + 1))
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGKILL)
            p.wait()
        deadline = time.monotonic() + 10
        while helpers_of(box.store):
            assert time.monotonic() < deadline, "a helper outlived its parent"
    box.good(path)
    assert not list(box.store.glob("tmp/*"))


@pytest.mark.skipif(not ROOT, reason="dropping to another user needs root")
def test_helper_of_root_is_another_user(box, tmp_path):
    src = make_rich_tree(tmp_path / "tree")
    (src / "size-1").chmod(0o600)
    assert box.good(src, IMAGE_TOOL_UID="65533").info["fstype"] == ["erofs"]
    t = Tar(tmp_path / "t.tar").add("x", b"1")
    box.good(t.close(), IMAGE_TOOL_UID="65533")


def test_full_store(box, tmp_path):
    if not ROOT:
        pytest.skip("mounting a small tmpfs needs root")
    t = Tar(tmp_path / "t.tar").add("big", os.urandom(4 << 20))
    path = t.close()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", box.store], check=True)
    try:
        box.bad(path, "No space left")
    finally:
        subprocess.run(["umount", box.store], check=True)
