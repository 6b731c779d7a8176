// SPDX-License-Identifier: Apache-2.0
// An independent reading of EROFS metadata [Linux 6.1 fs/erofs/erofs_fs.h], sharing no code with the writer.
#include "erofs_check.h"

#include <endian.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK 4096u

struct inode {
	uint64_t at, size, body; /* body: where an inline tail begins */
	uint32_t mode, nlink, blkaddr;
	uint8_t layout;
};

struct image {
	const uint8_t *p;
	uint64_t n, total;
	uint64_t names;
	uint32_t *links; /* names seen, by slot */
	const char *wrong;
};

static uint16_t u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
	return u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
	return u32(p) | (uint64_t)u32(p + 4) << 32;
}

static bool fail(struct image *im, const char *why)
{
	if (!im->wrong)
		im->wrong = why;
	return false;
}

static bool check_xattrs(struct image *im, uint64_t at, uint64_t end)
{
	at += 12;
	while (at < end) {
		if (end - at < 4)
			return fail(im, "xattr entry leaves the body");
		uint64_t size = 4 + im->p[at] + u16(im->p + at + 2);
		uint8_t index = im->p[at + 1];
		if (index == 0 || index > 6 || index == 5)
			return fail(im, "unknown xattr index");
		at += (size + 3) & ~3ULL;
	}
	return at == end || fail(im, "xattr value leaves the body");
}

static bool load(struct image *im, uint64_t nid, struct inode *i)
{
	uint64_t at = nid * 32;

	if (nid >= im->n / 32 || at < BLOCK)
		return fail(im, "inode outside the metadata");
	const uint8_t *d = im->p + at;
	uint16_t format = u16(d), xcount = u16(d + 2);
	bool extended = format & 1;
	uint64_t size = extended ? 64 : 32;
	if (at % BLOCK + size > BLOCK || at + size > im->n)
		return fail(im, "inode straddles blocks");
	*i = (struct inode){
		.at = at, .mode = u16(d + 4), .layout = (uint8_t)(format >> 1), .blkaddr = u32(d + 16)
	};
	i->size = extended ? u64(d + 8) : u32(d + 8);
	i->nlink = extended ? u32(d + 44) : u16(d + 6);
	i->body = at + size + (xcount ? 12 + 4 * (uint64_t)(xcount - 1) : 0);
	if (i->body > im->n)
		return fail(im, "xattrs leave the metadata");
	if (extended && u32(d + 40) >= 1000000000)
		return fail(im, "nanoseconds out of range");
	return !xcount || check_xattrs(im, at + size, i->body);
}

static bool check_contents(struct image *im, const struct inode *i, bool in_meta)
{
	uint64_t whole = i->layout == 2 ? i->size / BLOCK : (i->size + BLOCK - 1) / BLOCK;
	uint64_t tail = i->layout == 2 ? i->size % BLOCK : 0;

	if (i->layout != 0 && i->layout != 2)
		return fail(im, "unknown data layout");
	if (i->layout == 2 && tail == 0)
		return fail(im, "inline without a tail");
	if (tail &&
	    (i->body % BLOCK + tail > BLOCK || i->body / BLOCK != i->at / BLOCK || i->body + tail > im->n))
		return fail(im, "inline tail straddles blocks");
	if (whole == 0)
		return true;
	uint64_t end = (uint64_t)i->blkaddr + whole, meta = im->n / BLOCK;
	if (in_meta ? end > meta || i->blkaddr == 0 : i->blkaddr < meta || end > im->total)
		return fail(im, "blocks outside their range");
	return true;
}

static bool check_name(struct image *im, const char *name, size_t len, char *last, size_t *last_len)
{
	if (len == 0 || len > 255 || memchr(name, '/', len))
		return fail(im, "bad name");
	size_t k = len < *last_len ? len : *last_len;
	int c = memcmp(last, name, k);
	if (*last_len && (c > 0 || (c == 0 && *last_len >= len)))
		return fail(im, "names out of order");
	memcpy(last, name, len);
	*last_len = len;
	return true;
}

static bool check_inode(struct image *im, uint64_t nid, uint64_t parent, unsigned int depth,
			uint32_t *ret_mode);

struct dir {
	uint64_t nid, parent;
	unsigned int depth;
	uint32_t subdirs;
	bool dot, dotdot;
	char last[256];
	size_t last_len;
};

static bool check_entry(struct image *im, struct dir *dir, const uint8_t *dirent, const char *name,
			size_t len)
{
	static const uint32_t types[] = { 0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK };
	uint64_t nid = u64(dirent);
	uint32_t mode = 0;

	if (!check_name(im, name, len, dir->last, &dir->last_len))
		return false;
	if (len == 1 && name[0] == '.') {
		dir->dot = true;
		return nid == dir->nid || fail(im, "\".\" leads elsewhere");
	}
	if (len == 2 && name[0] == '.' && name[1] == '.') {
		dir->dotdot = true;
		return nid == dir->parent || fail(im, "\"..\" leads elsewhere");
	}
	if (!check_inode(im, nid, dir->nid, dir->depth + 1, &mode))
		return false;
	dir->subdirs += S_ISDIR(mode);
	if (dirent[10] > 7 || types[dirent[10]] != (mode & S_IFMT))
		return fail(im, "entry's type is not its inode's");
	return true;
}

static bool check_block(struct image *im, struct dir *dir, const uint8_t *b, size_t len)
{
	if (len < 12)
		return fail(im, "directory block too short");
	size_t first = u16(b + 8), count = first / 12;
	if (first % 12 || count == 0 || first > len)
		return fail(im, "bad first name offset");
	for (size_t k = 0; k < count; k++) {
		size_t from = u16(b + k * 12 + 8), to = k + 1 < count ? u16(b + k * 12 + 20) : len;
		if (from > to || to > len)
			return fail(im, "names overlap");
		size_t name_len = k + 1 < count ? to - from : strnlen((const char *)b + from, to - from);
		if (memchr(b + from, 0, name_len))
			return fail(im, "NUL in a name");
		if (!check_entry(im, dir, b + k * 12, (const char *)b + from, name_len))
			return false;
	}
	return true;
}

static bool check_dir(struct image *im, const struct inode *i, uint64_t nid, uint64_t parent,
		      unsigned int depth)
{
	struct dir dir = { .nid = nid, .parent = parent, .depth = depth };

	if (depth > 512)
		return fail(im, "directories nested too deep");
	for (uint64_t at = 0; at < i->size; at += BLOCK) {
		size_t len = i->size - at < BLOCK ? i->size - at : BLOCK;
		bool tail = i->layout == 2 && len < BLOCK;
		const uint8_t *b = im->p + (tail ? i->body : (uint64_t)i->blkaddr * BLOCK + at);
		if (!check_block(im, &dir, b, len))
			return false;
	}
	if (!dir.dot || !dir.dotdot)
		return fail(im, "directory without \".\" or \"..\"");
	return i->nlink == 2 + dir.subdirs || fail(im, "directory's link count");
}

static bool check_inode(struct image *im, uint64_t nid, uint64_t parent, unsigned int depth,
			uint32_t *ret_mode)
{
	struct inode i;

	if (!load(im, nid, &i))
		return false;
	*ret_mode = i.mode;
	im->names++;
	im->links[nid]++;
	switch (i.mode & S_IFMT) {
	case S_IFDIR:
		if (im->links[nid] > 1)
			return fail(im, "directory with two names");
		return check_contents(im, &i, true) && check_dir(im, &i, nid, parent, depth);
	case S_IFREG:
		return check_contents(im, &i, false);
	case S_IFLNK:
		if (i.size == 0 || i.size > 4095)
			return fail(im, "symlink's size");
		return check_contents(im, &i, true);
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return i.size == 0 || fail(im, "special file with a size");
	default:
		return fail(im, "unknown file type");
	}
}

static bool check_links(struct image *im)
{
	struct inode i;

	for (uint64_t nid = 0; nid < im->n / 32; nid++)
		if (im->links[nid] && load(im, nid, &i) && !S_ISDIR(i.mode) && i.nlink != im->links[nid])
			return fail(im, "file's link count");
	return true;
}

static uint32_t crc32c(const uint8_t *p, size_t n, size_t skip_at)
{
	uint32_t c = ~0u;

	for (size_t i = 0; i < n; i++) {
		c ^= i >= skip_at && i < skip_at + 4 ? 0 : p[i];
		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
	}
	return c;
}

const char *erofs_check(const uint8_t *p, size_t n, uint64_t data_bytes, uint64_t *ret_names)
{
	struct image im = { .p = p, .n = n, .total = (n + data_bytes) / BLOCK };
	const uint8_t *s = p + 1024;
	uint32_t mode = 0;

	if (n < 2 * BLOCK || n % BLOCK || data_bytes % BLOCK)
		return "length";
	if (u32(s) != 0xE0F5E1E2 || s[12] != 12 || u32(s + 80) != 0)
		return "superblock";
	if (u32(s + 4) != crc32c(s, BLOCK - 1024, 4))
		return "checksum";
	if (u32(s + 36) != im.total)
		return "block count";
	im.links = calloc(n / 32, sizeof(*im.links));
	if (!im.links)
		return "out of memory";
	uint64_t root = u16(s + 14);
	if (check_inode(&im, root, root, 0, &mode) && check_links(&im) && !S_ISDIR(mode))
		fail(&im, "root is no directory");
	free(im.links);
	if (ret_names)
		*ret_names = im.names;
	return im.wrong;
}
