/* SPDX-License-Identifier: Apache-2.0 */
/* Writing ACPI machine language [ACPI 6.4 20.2] into a struct buf; containers take their finished contents. */
#ifndef VMM_X86_AML_H
#define VMM_X86_AML_H

#include <stdint.h>

#include "base/str.h"

/* @name: a NameSeg of four characters everywhere */
void aml_integer(struct buf *b, uint32_t v);
void aml_string(struct buf *b, const char *s);
/* aml_name() - Name (@name, …): the object must follow */
void aml_name(struct buf *b, const char *name);
void aml_name_integer(struct buf *b, const char *name, uint32_t v);
void aml_name_string(struct buf *b, const char *name, const char *s);
/* aml_name_package() - Name (@name, Package () { integers … }) */
void aml_name_package(struct buf *b, const char *name, const uint32_t *v, uint8_t n);
/* aml_name_resources() - Name (@name, ResourceTemplate () { … }); adds the end tag */
void aml_name_resources(struct buf *b, const char *name, const struct buf *resources);
void aml_scope_sb(struct buf *b, const struct buf *contents); /* Scope (\_SB) */
void aml_device(struct buf *b, const char *name, const struct buf *contents);
void aml_method(struct buf *b, const char *name, uint8_t n_args, const struct buf *contents);
void aml_notify(struct buf *b, const char *name, uint8_t value);
/* resources */
void aml_memory(struct buf *b, uint32_t base, uint32_t len);
void aml_interrupt_edge(struct buf *b, uint32_t gsi);
/* aml_eisa_id() - "PNP0C0C" as the integer that _HID may be */
uint32_t aml_eisa_id(const char *id);

#endif
