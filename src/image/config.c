// SPDX-License-Identifier: Apache-2.0
// struct image_config as a TLV list. The list comes from vial-unpack, so it is hostile if that was taken over.
#include "image/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/tlv.h"

enum { TAG_ENTRYPOINT = 1, TAG_CMD, TAG_ENV, TAG_USER, TAG_WORKDIR, TAG_STOP_SIGNAL };

void config_done(struct image_config *c)
{
	strv_done(&c->entrypoint);
	strv_done(&c->cmd);
	strv_done(&c->env);
	free(c->user);
	free(c->workdir);
	free(c->stop_signal);
	*c = (struct image_config){ 0 };
}

static void put_strv(struct buf *out, uint16_t tag, const struct strv *s)
{
	for (size_t i = 0; i < s->n; i++)
		tlv_put_str(out, tag, s->v[i]);
}

void config_encode(const struct image_config *c, struct buf *out)
{
	put_strv(out, TAG_ENTRYPOINT, &c->entrypoint);
	put_strv(out, TAG_CMD, &c->cmd);
	put_strv(out, TAG_ENV, &c->env);
	tlv_put_str(out, TAG_USER, c->user);
	tlv_put_str(out, TAG_WORKDIR, c->workdir);
	tlv_put_str(out, TAG_STOP_SIGNAL, c->stop_signal);
}

static int get_vec(const struct tlv *t, struct strv *s)
{
	_cleanup_free_ char *str = NULL;
	int r;

	if (s->n >= CONFIG_STRINGS_MAX)
		return -E2BIG;
	r = tlv_str(t, CONFIG_STRING_MAX, &str);
	return r < 0 ? r : strv_add(s, str);
}

static int get_one(const struct tlv *t, char **s)
{
	if (*s)
		return -EBADMSG;
	return tlv_str(t, CONFIG_STRING_MAX, s);
}

int config_decode(const void *p, size_t n, struct image_config *ret)
{
	struct tlv_in in = { p, n };
	struct tlv t;
	int r;

	*ret = (struct image_config){ 0 };
	while ((r = tlv_next(&in, &t)) > 0) {
		switch (t.tag) {
		case TAG_ENTRYPOINT:
			r = get_vec(&t, &ret->entrypoint);
			break;
		case TAG_CMD:
			r = get_vec(&t, &ret->cmd);
			break;
		case TAG_ENV:
			r = get_vec(&t, &ret->env);
			break;
		case TAG_USER:
			r = get_one(&t, &ret->user);
			break;
		case TAG_WORKDIR:
			r = get_one(&t, &ret->workdir);
			break;
		case TAG_STOP_SIGNAL:
			r = get_one(&t, &ret->stop_signal);
			break;
		}
		if (r < 0)
			return r;
	}
	return r;
}
