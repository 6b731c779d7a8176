/* SPDX-License-Identifier: Apache-2.0 */
/* The state directory: what struct vial is. */
#ifndef BOX_HOME_H
#define BOX_HOME_H

#include <sys/types.h>

#include "base/attr.h"
#include "base/log.h"
#include "engine/host.h"
#include "image/image.h"
#include "vial/vial.h"

/* Root only: each box runs as a uid of its own from here on. Past what systemd gives to containers (to 1879048191) and
 * what SSSD maps domain users to (to 2000200000), and below 2^31. */
#define HOME_UID_BASE  2010000000U
#define HOME_UID_COUNT 65536U

/**
 * struct vial - one state directory and its settings
 * @path:	absolute
 * @fd and the others: directories, open for the handle's life
 * @freezer:	vial-freeze.so, @thaw: vial-thaw; NULL if they are not there; by home_host()
 * @libexec:	directory of the helpers; @assets: of kernel, initramfs parts, base image
 * @kernel, @initrd: asked for, NULL: the installed ones
 * @host:	filled by home_host()
 * @uids_fd:	lock file of the uid range, -1 unless root
 */
struct vial {
	char *path;
	int fd, boxes_fd, templates_fd, cache_fd, images_fd;
	int uids_fd;
	char *libexec;
	char *freezer, *thaw;
	char *assets;
	char *engine;
	char *kernel;
	char *initrd;
	int log_fd;
	enum log_level log_level;
	void (*progress)(void *data, const char *line);
	void *progress_data;
	struct engine_host host;
	bool host_known;
};

int home_open(const struct vial_opts *opts, struct vial **ret, struct vial_err *err);
void home_close(struct vial *v);
DEFINE_CLEANUP(struct vial, home_close)

/* home_host() - probe the host once per handle */
int home_host(struct vial *v, struct vial_err *err);
/* home_engine_why() - after home_host(): why it is this engine, borrowed */
const char *home_engine_why(const struct vial *v);

/* home_helper() - path of a helper program, malloc'ed; VIAL_E_NOT_FOUND with a remedy if it is missing */
int home_helper(const struct vial *v, const char *name, char **ret, struct vial_err *err);
/* home_asset() - open a guest asset; fd, or an error with a remedy */
int home_asset(const struct vial *v, const char *name, char **ret_path, struct vial_err *err);

/**
 * home_uid() - a uid for one box
 * @ret_uid:	(uid_t)-1 unless root
 * @ret_lock:	held (by whoever inherits it) as long as the uid is in use; -1 unless root
 */
int home_uid(struct vial *v, uid_t *ret_uid, int *ret_lock, struct vial_err *err);

/* home_sweep() - remove what boxes that died with their monitor left */
void home_sweep(struct vial *v);

#endif
