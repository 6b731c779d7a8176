/* SPDX-License-Identifier: Apache-2.0 */
/* Directory blocks of EROFS: dirents, then their names, in order of bytes over the whole directory. */
#ifndef IMAGE_EROFS_DIR_H
#define IMAGE_EROFS_DIR_H

#include <stdint.h>

#include "image/tree.h"

/* struct erofs_dir_iter - blocks of one directory, one after the other; "." and ".." are in their sorted places */
struct erofs_dir_iter {
	const struct tree_list *list;
	const struct tree_node *dir;
	uint32_t next; /* entry that begins the next block */
	uint32_t n;    /* entries, with "." and ".." */
	uint32_t dot, dotdot;
};

void erofs_dir_begin(struct erofs_dir_iter *it, const struct tree_list *list, const struct tree_node *dir);
/**
 * erofs_dir_block() - next block into @buf (EROFS_BLOCK bytes, zeroed behind the used part); NULL: only measure
 * Return: bytes used, 0 after the last block.
 */
uint32_t erofs_dir_block(struct erofs_dir_iter *it, uint8_t *buf);
/* erofs_dir_size() - i_size of the directory: all blocks are whole but the last */
uint64_t erofs_dir_size(const struct tree_list *list, const struct tree_node *dir);

#endif
