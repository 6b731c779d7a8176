# SPDX-License-Identifier: Apache-2.0
"""What goes wrong is told in one clear line, exits 125, and leaves nothing behind."""
import contextlib
import gzip
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest

from harness import GUEST, TOP, assert_one_line_error


def test_no_qemu(vial, tmp_path, engine):
    """A PATH without qemu-system-x86_64: only the qemu engine needs one."""
    r = vial("run", "--", "true", env={"PATH": str(tmp_path)})
    if engine == "kvm":
        assert r.code == 0, r
    else:
        assert_one_line_error(r, "qemu")


def test_no_kernel(vial, tmp_path):
    assert_one_line_error(vial("run", "--kernel", tmp_path / "missing", "--", "true"), "missing", "kernel")


@pytest.mark.parametrize("content", [b"", b"not a kernel\n" * 1000, b"\x7fELF" + bytes(100)], ids=["empty", "text", "elf"])
def test_kernel_file_that_is_no_kernel(vial, tmp_path, content):
    (tmp_path / "vmlinuz").write_bytes(content)
    assert_one_line_error(vial("run", "--kernel", tmp_path / "vmlinuz", "--", "true"), "kernel")


def newc_without(cpio, drop):
    """CPIO (newc) without the entries whose name ends with DROP."""
    out, pos = bytearray(), 0
    while cpio[pos:pos + 6] == b"070701":
        fields = [int(cpio[pos + 6 + 8 * i:pos + 14 + 8 * i], 16) for i in range(13)]
        name = cpio[pos + 110:pos + 110 + fields[11] - 1]
        body = (pos + 110 + fields[11] + 3) & ~3
        end = (body + fields[6] + 3) & ~3
        if not name.endswith(drop):
            out += cpio[pos:end]
        pos = end
    return bytes(out)


def test_kernel_without_erofs(vial, tmp_path):
    """A kernel that cannot read EROFS, here because its module is missing from the initrd: the error names EROFS."""
    stripped = newc_without((GUEST / "modules.cpio").read_bytes(), b"/erofs.ko")
    assert len(stripped) < (GUEST / "modules.cpio").stat().st_size
    (tmp_path / "initrd").write_bytes(stripped)
    assert_one_line_error(vial("run", "--kernel", GUEST / "vmlinuz", "--initrd", tmp_path / "initrd", "--", "true"), "erofs")


def base_tar():
    return (GUEST / "base.tar").read_bytes()


def test_truncated_tar(vial, tmp_path):
    (tmp_path / "t.tar").write_bytes(base_tar()[:1000000])
    assert_one_line_error(vial("run", "--rootfs", tmp_path / "t.tar", "--", "true"), "t.tar")


def test_truncated_gzip(vial, tmp_path):
    (tmp_path / "t.tar.gz").write_bytes(gzip.compress(base_tar(), 1)[:300000])
    assert_one_line_error(vial("run", "--rootfs", tmp_path / "t.tar.gz", "--", "true"), "t.tar.gz")


def hostile_tar(path, entries):
    """base.tar with ENTRIES, (name, type, content or link target), behind it."""
    shutil.copy(GUEST / "base.tar", path)
    with tarfile.open(path, "a") as tar:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                tar.addfile(info)


def test_hostile_tar_is_contained(vial, tmp_path):
    """`../`, absolute names and a symlinked parent: refused in one line or placed inside, never written outside."""
    victim = tmp_path / "victim"
    victim.mkdir()
    mark = b"escaped"
    up = "../" * 20
    cases = {
        "dotdot": [(up + str(victim)[1:] + "/a", tarfile.REGTYPE, mark)],
        "absolute": [(f"{victim}/b", tarfile.REGTYPE, mark)],
        "symlink": [("out", tarfile.SYMTYPE, str(victim)), ("out/c", tarfile.REGTYPE, mark)],
        "relative": [("out", tarfile.SYMTYPE, up + str(victim)[1:]), ("out/d", tarfile.REGTYPE, mark)],
        "hardlink": [("h", tarfile.LNKTYPE, "/etc/shadow")],
    }
    for name, entries in cases.items():
        tar = tmp_path / f"{name}.tar"
        hostile_tar(tar, entries)
        r = vial("run", "--rootfs", tar, "--", "echo", "fine")
        if r.code == 0:
            assert r.out == b"fine\n", (name, r)
        else:
            assert_one_line_error(r, f"{name}.tar")
        assert list(victim.iterdir()) == [], name


def oci_layout(path, damage):
    """An OCI layout of one layer, base.tar and a file of its own; DAMAGE flips a byte of that blob."""
    blobs = path / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": "sha256:" + digest, "size": len(data)}

    # A layer that no other test has imported: one that is stored already is not read again.
    hostile_tar(path / "layer", [("mark", tarfile.REGTYPE, os.fsencode(path))])
    layer = (path / "layer").read_bytes()
    (path / "layer").unlink()
    descriptor = blob(layer)
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {
        "type": "layers", "diff_ids": [descriptor["digest"]]}}).encode())
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **descriptor}]}).encode())
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest}]}))
    if damage:
        f = blobs / descriptor["digest"].split(":")[1]
        data = bytearray(layer)
        data[700000] ^= 1
        f.write_bytes(data)


def test_oci_layout(vial, tmp_path):
    oci_layout(tmp_path / "good", damage=False)
    assert vial("run", "--rootfs", tmp_path / "good", "--", "echo", "fine", check=True).out == b"fine\n"


def test_oci_layout_with_wrong_digest(vial, tmp_path):
    oci_layout(tmp_path / "bad", damage=True)
    assert_one_line_error(vial("run", "--rootfs", tmp_path / "bad", "--", "true"), "digest")


def test_unknown_config_field(vial, tmp_path):
    f = tmp_path / "my.json"
    f.write_text('{\n  "cpus": 1,\n  "memroy": 512\n}\n')
    r = vial("run", "--config", f, "--", "true")
    assert_one_line_error(r, "my.json", "3", "memroy")


def test_ill_typed_config_field(vial, tmp_path):
    f = tmp_path / "my.json"
    f.write_text('{\n  "cpus": "many"\n}\n')
    assert_one_line_error(vial("run", "--config", f, "--", "true"), "my.json", "2", "cpus")


def test_config_that_is_no_json(vial, tmp_path):
    (tmp_path / "my.json").write_text('{\n "cpus": \n')
    assert_one_line_error(vial("run", "--config", tmp_path / "my.json", "--", "true"), "my.json")


@pytest.mark.parametrize("flags", [
    ["--memory", "0"], ["--memory", "100000G"], ["--memory", "lots"], ["--memory", "-1"],
    ["--cpus", "0"], ["--cpus", "100000"], ["--cpus", "two"],
])
def test_bad_resources(vial, flags):
    assert_one_line_error(vial("run", *flags, "--", "true"), flags[0].strip("-"))


def test_unknown_flag(vial):
    assert_one_line_error(vial("run", "--no-such-flag", "--", "true"), "no-such-flag")


@pytest.mark.parametrize("flags", [["--allow-net"], ["-v", "/tmp:/mnt"], ["-p", "80:80"], ["--name", "a"], ["-d"]])
def test_flag_of_what_is_not_built(vial, flags):
    """Never ignored: a box without what was asked for would be a lie."""
    assert_one_line_error(vial("run", *flags, "--", "true"), flags[0].strip("-"))


def test_unwritable_home(user_vial, tmp_path):
    """A state directory that this user cannot make."""
    home = "/proc/vial-home"
    assert_one_line_error(user_vial("run", "--", "true", env={"VIAL_HOME": home}), home)


def test_home_is_a_file(vial, tmp_path):
    (tmp_path / "file").write_text("x")
    assert_one_line_error(vial("run", "--", "true", env={"VIAL_HOME": str(tmp_path / "file")}), "file")
    assert (tmp_path / "file").read_text() == "x"


@contextlib.contextmanager
def small_disk(where, size):
    """A file system of SIZE (mount's notation) at directory WHERE."""
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", where], capture_output=True, check=False)
    if r.returncode != 0:
        pytest.skip("cannot mount a small file system: " + r.stderr.decode().strip())
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.parametrize("size", ["64k", "1m", "8m"])
def test_full_disk(fresh, size):
    """The state directory's file system has room for next to nothing; for an image; for no template."""
    v = fresh()
    v.home.mkdir()
    with small_disk(v.home, size):
        r = v("run", "--", "true", timeout=300)
        assert_one_line_error(r)
        assert b"space" in r.err or b"full" in r.err, r


def test_disk_fills_up_under_a_running_box(vial):
    """The guest gets an I/O error for what the host has no room for, and goes on."""
    with small_disk(vial.home / "boxes", "24m"):
        script = "if dd if=/dev/urandom of=/root/big bs=1M count=32 conv=fsync 2>/dev/null; then echo whole; else echo refused; fi"
        assert vial("run", "--", "sh", "-c", script, check=True).out == b"refused\n"


def test_two_processes_initialise_one_home(fresh):
    v = fresh()
    running = [v.popen("init") for _ in range(2)]
    for p in running:
        out, err = p.communicate(timeout=300)
        assert p.returncode == 0, (out, err)
    assert v("run", "--", "echo", "fine", check=True).out == b"fine\n"


def test_errors_are_not_hidden_by_q(vial):
    r = vial("-q", "run", "--memory", "0", "--", "true")
    assert r.code == 125 and b"memory" in r.err, r


def test_usage_of_other_commands_is_2(vial):
    assert vial("no-such-command").code == 2
    assert vial("version", "--no-such-flag").code == 2


def test_version_matches(vial):
    text = (TOP / "meson.build").read_text()
    version = text.split("version: '")[1].split("'")[0]
    assert version.encode() in vial("version", check=True).out


def test_state_directory_that_others_can_write(vial, tmp_path):
    """What lies there is run: nobody else may be able to put it there."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    assert_one_line_error(vial("run", "--", "true", env={"VIAL_HOME": str(home)}), "chmod go-w", str(home))
    assert list(home.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of somebody else's")
def test_state_directory_of_somebody_else(vial, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65502, 65502)
    assert_one_line_error(vial("run", "--", "true", env={"VIAL_HOME": str(home)}), "65502", str(home))
    assert list(home.iterdir()) == []


def test_what_killed_builders_left_is_removed(fresh):
    """Half-made templates go with the next build, half-made box directories with the next box, unless somebody is making one."""
    v = fresh()
    stale = v.home / "templates" / (".new-" + "0" * 32)
    stale.mkdir(parents=True)
    (stale / "mem").write_bytes(bytes(4096))
    (v.home / "templates" / ("0" * 32 + ".lock")).touch()
    half = v.home / "boxes" / ("." + "a" * 32)
    half.mkdir(parents=True)
    v.home.chmod(0o700)
    making = os.open(half.parent, os.O_RDONLY)
    fcntl.flock(making, fcntl.LOCK_SH)
    v("run", "--", "true", check=True, timeout=300)
    assert (stale.exists(), half.exists()) == (False, True)
    os.close(making)
    v("run", "--", "true", check=True, timeout=300)
    assert not half.exists()
