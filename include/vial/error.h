/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as the library reports them: a value the caller owns, never a global. */
#ifndef VIAL_ERROR_H
#define VIAL_ERROR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * enum vial_error_code - what went wrong, stable across releases
 *
 * Functions that take a struct vial_err return 0 (or a documented count) or one
 * of these. They are far from -errno on purpose: one cannot be taken for the other.
 */
enum vial_error_code {
	VIAL_OK = 0,
	VIAL_E_INVALID = -1001,	    /* a value given by the caller is wrong */
	VIAL_E_NOT_FOUND = -1002,   /* the named thing does not exist */
	VIAL_E_EXISTS = -1003,	    /* the named thing exists already */
	VIAL_E_DENIED = -1004,	    /* the system refused: permission */
	VIAL_E_NO_SPACE = -1005,    /* disk or quota is full */
	VIAL_E_NO_MEMORY = -1006,   /* out of memory, host or guest */
	VIAL_E_UNSUPPORTED = -1007, /* this build, host or guest cannot do it */
	VIAL_E_TIMEOUT = -1008,	    /* a time limit ran out */
	VIAL_E_STATE = -1009,	    /* not now: not running, already started, … */
	VIAL_E_CORRUPT = -1010,	    /* stored or received data fails its check */
	VIAL_E_PROTOCOL = -1011,    /* a peer broke its protocol */
	VIAL_E_ENGINE = -1012,	    /* the virtual machine could not start or died */
	VIAL_E_IO = -1013,	    /* any other failure of a system call */
	VIAL_E_LIMIT = -1014,	    /* a named limit was reached */
	/* Why a command could not be started in the guest: */
	VIAL_E_CMD_NOT_FOUND = -1030,	   /* no such program */
	VIAL_E_CMD_NOT_EXECUTABLE = -1031, /* a directory, no x bit, wrong format */
	VIAL_E_CMD_BAD_CWD = -1032,	   /* working directory cannot be entered */
	VIAL_E_CMD_BAD_USER = -1033,	   /* no such user or group */
	VIAL_E_CMD_TOO_LONG = -1034,	   /* argument list too long */
};

#define VIAL_ERR_MSG_SIZE 500

/**
 * struct vial_err - one error, by value
 * @size:	sizeof(struct vial_err); set by VIAL_ERR_INIT
 * @code:	enum vial_error_code; 0 while there is no error
 * @sys_errno:	errno of the system call that failed, 0 if none did
 * @msg:	one line for people, with context, NUL-terminated UTF-8 or ASCII
 *
 * Nothing to free. Functions accept NULL where the caller does not care.
 */
struct vial_err {
	uint32_t size;
	int32_t code;
	int32_t sys_errno;
	char msg[VIAL_ERR_MSG_SIZE];
};

#define VIAL_ERR_INIT                          \
	{                                      \
		sizeof(struct vial_err), 0, 0, \
		{                              \
			0                      \
		}                              \
	}

/**
 * vial_error_name() - stable short name of a code ("not-found"), for logs and JSON
 * @code:	any number
 *
 * Return: static string; "unknown" for a code this library does not know.
 */
const char *vial_error_name(int code);

#ifdef __cplusplus
}
#endif
#endif
