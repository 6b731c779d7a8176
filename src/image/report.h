/* SPDX-License-Identifier: Apache-2.0 */
/* What vial-unpack tells the library, as a TLV list on its standard output; hostile once the helper is taken over. */
#ifndef IMAGE_REPORT_H
#define IMAGE_REPORT_H

/* Descriptors a vial-unpack has: input, report, data or metadata out, tree out; trees of layers from UNPACK_FD_LAYER on. */
enum { UNPACK_FD_IN = 0, UNPACK_FD_REPORT = 1, UNPACK_FD_OUT = 3, UNPACK_FD_TREE = 4, UNPACK_FD_LAYER = 10 };

enum report_tag {
	REPORT_DONE = 1,	  /* empty; last of a list: without it the helper died */
	REPORT_ERROR_CODE = 2,	  /* u32, a VIAL_E_* negated */
	REPORT_ERROR_MSG = 3,	  /* string */
	REPORT_PLAIN_DIGEST = 4,  /* 32 bytes: of the unpacked input, a layer's diff-id */
	REPORT_RAW_DIGEST = 5,	  /* 32 bytes: of the input as it was */
	REPORT_DATA_BYTES = 6,	  /* u64: length of the data written */
	REPORT_KIND = 7,	  /* u32, enum report_kind */
	REPORT_CONFIG = 8,	  /* list of image/config.h */
	REPORT_LAYER = 9,	  /* list of report_layer_tag, bottom layer first */
	REPORT_NEED = 10,	  /* string: digest of a blob to run again with */
	REPORT_IMAGE_DIGEST = 11, /* 32 bytes: of the manifest or, in a docker-archive, the config */
};

enum report_layer_tag {
	LAYER_DIFF_ID = 1, /* 32 bytes, expected */
	LAYER_BLOB = 2,	   /* 32 bytes, expected; absent if unknown */
	LAYER_OFFSET = 3,  /* u64: in the input, an archive */
	LAYER_BYTES = 4,   /* u64 */
};

enum report_kind { KIND_ROOTFS = 1, KIND_IMAGE = 2, KIND_COMPRESSED_IMAGE = 3 };

#endif
