# SPDX-License-Identifier: Apache-2.0
"""Snapshot files and the qcow2 layers in them, read by an implementation of their own. Format: src/wire/snapshot.h."""
import hashlib
import hmac
import struct
import subprocess

FIELDS = 16
(ARCH, ENGINE, ENGINE_DIGEST, MACHINE, ACCEL, CPU, CPU_DIGEST, BASE_DIGEST, IMAGE, IMAGE_DIGEST, FSTYPE, LAYOUT, PAGE_SIZE,
 VCPUS, CPUS, MEMORY, MEMORY_MAX, UPPER_BYTES, ROOT_BYTES, STATE_BYTES) = range(FIELDS, FIELDS + 20)
LAYER, CHUNK = 2, 3
PART_DISK = 3
CLUSTER = 65536


class Header:
    """The header of a snapshot file, to be read, or changed and signed with the home's key."""

    def __init__(self, path):
        with open(path, "rb") as f:
            first = f.read(96)
            self.n = struct.unpack_from("<I", first, 20)[0]
            self.head = bytearray(first + f.read(self.n - 96))

    def entries(self):
        """(tag, offset, length) of each entry's value."""
        at = 96
        while at < self.n:
            tag, _, n = struct.unpack_from("<HHI", self.head, at)
            yield tag, at + 8, n
            at += 8 + n

    def values(self, tag):
        return [bytes(self.head[at:at + n]) for t, at, n in self.entries() if t == tag]

    def replace(self, tag, change):
        """The value of the first entry with TAG by what CHANGE makes of it, which is as long."""
        at, n = next((at, n) for t, at, n in self.entries() if t == tag)
        new = change(bytes(self.head[at:at + n]))
        assert len(new) == n
        self.head[at:at + n] = new

    def signed(self, key):
        digest = hashlib.sha256(self.head[:32] + self.head[96:]).digest()
        self.head[32:64] = digest
        self.head[64:96] = hmac.new(key, digest, "sha256").digest()
        return bytes(self.head)


class Qcow2:
    """A layer: what it has of the disk, by cluster."""

    def __init__(self, data):
        self.data = data
        magic, version, backing = struct.unpack_from(">IIQ", data, 0)
        assert (magic, version, backing) == (0x514649FB, 3, 0)
        l1_size, l1_at = struct.unpack_from(">IQ", data, 36)
        self.clusters = {}
        for i, entry in enumerate(struct.unpack_from(f">{l1_size}Q", data, l1_at)):
            at = entry & 0x00FFFFFFFFFFFE00
            for j, e in enumerate(struct.unpack_from(f">{CLUSTER // 8}Q", data, at) if at else ()):
                if e & 1:
                    self.clusters[i * (CLUSTER // 8) + j] = bytes(CLUSTER)
                elif e & 0x00FFFFFFFFFFFE00:
                    host = e & 0x00FFFFFFFFFFFE00
                    self.clusters[i * (CLUSTER // 8) + j] = data[host:host + CLUSTER].ljust(CLUSTER, b"\0")


class Snapshot:
    """A whole file, each chunk's digest checked."""

    def __init__(self, path):
        header = Header(path)
        self.layers = [bytearray(struct.unpack("<Q", v)[0]) for v in header.values(LAYER)]
        with open(path, "rb") as f:
            f.seek(header.n)
            for value in header.values(CHUNK):
                part, n, at = struct.unpack_from("<IIQ", value)
                data = f.read(n)
                assert hashlib.sha256(data).digest() == value[16:]
                if part >= PART_DISK:
                    self.layers[part - PART_DISK][at:at + n] = data
            assert not f.read(1)

    def write_disk(self, base, out):
        """The writable disk over BASE, as a raw image."""
        subprocess.run(["cp", "--sparse=always", base, out], check=True)
        with open(out, "r+b") as f:
            for layer in self.layers:
                for n, data in Qcow2(bytes(layer)).clusters.items():
                    f.seek(n * CLUSTER)
                    f.write(data)
