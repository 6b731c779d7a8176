// SPDX-License-Identifier: Apache-2.0
// Directory blocks of EROFS [erofs_fs.h: struct erofs_dirent {le64 nid, le16 nameoff, u8 file_type, u8 reserved}].
#include "image/erofs_dir.h"

#include <string.h>

#include "image/erofs.h"

/* entry - one name of the directory and the node it leads to */
struct entry {
	const char *name;
	uint32_t len;
	const struct tree_node *node;
};

static uint8_t file_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 1;
	case S_IFDIR:
		return 2;
	case S_IFCHR:
		return 3;
	case S_IFBLK:
		return 4;
	case S_IFIFO:
		return 5;
	case S_IFSOCK:
		return 6;
	case S_IFLNK:
		return 7;
	default:
		return 0;
	}
}

static uint32_t lower_bound(const struct erofs_dir_iter *it, const char *name, uint32_t len)
{
	uint32_t lo = 0, hi = it->dir->n_children;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct tree_node *c = it->list->v[it->dir->first_child + mid];
		if (tree_name_cmp(c->name, c->name_len, name, len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void erofs_dir_begin(struct erofs_dir_iter *it, const struct tree_list *list, const struct tree_node *dir)
{
	*it = (struct erofs_dir_iter){ .list = list, .dir = dir, .n = dir->n_children + 2 };
	it->dot = lower_bound(it, ".", 1);
	it->dotdot = lower_bound(it, "..", 2) + 1; /* "." stands before it */
}

static struct entry entry_at(const struct erofs_dir_iter *it, uint32_t i)
{
	const struct tree_node *up = it->dir->parent ? it->dir->parent : it->dir;

	if (i == it->dot)
		return (struct entry){ ".", 1, it->dir };
	if (i == it->dotdot)
		return (struct entry){ "..", 2, up };
	uint32_t child = i - (i > it->dot) - (i > it->dotdot);
	const struct tree_node *c = it->list->v[it->dir->first_child + child];
	return (struct entry){ c->name, c->name_len, c };
}

static void put_block(const struct erofs_dir_iter *it, uint32_t first, uint32_t end, uint8_t *buf)
{
	uint32_t name_at = (end - first) * EROFS_DIRENT_SIZE;

	memset(buf, 0, EROFS_BLOCK);
	for (uint32_t i = first; i < end; i++) {
		struct entry e = entry_at(it, i);
		uint8_t *d = buf + (i - first) * EROFS_DIRENT_SIZE;
		erofs_put64(d, e.node->inode->meta_off / EROFS_SLOT);
		erofs_put16(d + 8, (uint16_t)name_at);
		d[10] = file_type(e.node->inode->mode);
		memcpy(buf + name_at, e.name, e.len);
		name_at += e.len;
	}
}

uint32_t erofs_dir_block(struct erofs_dir_iter *it, uint8_t *buf)
{
	uint32_t first = it->next, used = 0;

	while (it->next < it->n) {
		uint32_t more = EROFS_DIRENT_SIZE + entry_at(it, it->next).len;
		if (used + more > EROFS_BLOCK)
			break;
		used += more;
		it->next++;
	}
	if (buf && used)
		put_block(it, first, it->next, buf);
	return used;
}

uint64_t erofs_dir_size(const struct tree_list *list, const struct tree_node *dir)
{
	struct erofs_dir_iter it;
	uint64_t size = 0;
	uint32_t used;

	erofs_dir_begin(&it, list, dir);
	while ((used = erofs_dir_block(&it, NULL)) > 0)
		size = ALIGN_UP(size, (uint64_t)EROFS_BLOCK) + used;
	return size;
}
