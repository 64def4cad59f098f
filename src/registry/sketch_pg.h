/*
 * sketch_pg.h
 *	  The SQL type millrace.sketch, for the glue of the room.
 */
#ifndef MILLRACE_REGISTRY_SKETCH_PG_H
#define MILLRACE_REGISTRY_SKETCH_PG_H

#include "core/core_pg.h"
#include "learn/sketch.h"

/* The type's OID. */
extern Oid	reg_sketch_type(void);

/* A varlena of type millrace.sketch, in the current context. */
extern struct varlena *reg_sketch_to_datum(lrn_sketch *s);

/* Checked; memory from env.  XX001 if the bytes are damaged. */
extern lrn_sketch *reg_sketch_from_datum(const mr_env *env, Datum d);

/* An empty one; 53200 when there is no memory. */
extern lrn_sketch *reg_sketch_create(const mr_env *env, lrn_sketch_kind kind);

/* Add a text of the database's encoding, cut at a character. */
extern void reg_sketch_add_text(lrn_sketch *s, const char *text, int len);

/* into += other; 22023 if one is of numbers and one of categories. */
extern void reg_sketch_merge(lrn_sketch *into, const lrn_sketch *other);

/* Raise what an mr_code without a status says: memory, or kinds that differ. */
extern void reg_sketch_check(mr_code rc);

#endif							/* MILLRACE_REGISTRY_SKETCH_PG_H */
