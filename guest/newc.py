# SPDX-License-Identifier: Apache-2.0
"""Writer of cpio archives in the "newc" format that Linux unpacks as its initramfs.

Written here so that device nodes need no root and the result depends on its input only: every entry belongs to
root, has mtime 0, and keeps the order in which it was added. Format: Documentation/driver-api/early-userspace/buffer-format.rst
of Linux. The kernel accepts several archives one after the other when each starts at a multiple of four bytes;
save() pads to 512, as cpio itself does.
"""
import stat

MAGIC = b"070701"
BLOCK = 512


class Archive:
    def __init__(self):
        self.data = bytearray()
        self.ino = 0
        self.dirs = set()

    def _pad(self, align):
        self.data += b"\0" * (-len(self.data) % align)

    def _entry(self, name, mode, body=b"", rdev=(0, 0), nlink=1):
        raw = name.encode() + b"\0"
        fields = (self.ino, mode, 0, 0, nlink, 0, len(body), 0, 0, *rdev, len(raw), 0)
        self.ino += 1
        self.data += MAGIC + b"".join(b"%08x" % f for f in fields) + raw
        self._pad(4)
        self.data += body
        self._pad(4)

    def add_dir(self, name, perm=0o755):
        """Add directory NAME (no leading slash) and its parents, once."""
        parent = name.rpartition("/")[0]
        if parent:
            self.add_dir(parent)
        if name not in self.dirs:
            self.dirs.add(name)
            self._entry(name, stat.S_IFDIR | perm, nlink=2)

    def add_file(self, name, body, perm=0o644):
        parent = name.rpartition("/")[0]
        if parent:
            self.add_dir(parent)
        self._entry(name, stat.S_IFREG | perm, body)

    def add_char(self, name, major, minor, perm=0o600):
        parent = name.rpartition("/")[0]
        if parent:
            self.add_dir(parent)
        self._entry(name, stat.S_IFCHR | perm, rdev=(major, minor))

    def save(self, path):
        self.ino = 0
        self._entry("TRAILER!!!", 0)
        self._pad(BLOCK)
        with open(path, "wb") as f:
            f.write(self.data)
