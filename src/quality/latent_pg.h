/*
 * latent_pg.h
 *	  What the SQL functions of latent space share: their arguments and how they work.
 */
#ifndef MILLRACE_QUALITY_LATENT_PG_H
#define MILLRACE_QUALITY_LATENT_PG_H

#include "postgres.h"

#include "core/core_pg.h"
#include "quality/latent.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/* The work of one call: its memory is a context of its own, held to millrace.train_memory, by the set millrace.isa names. */
typedef struct qlt_call
{
	MemoryContext context;
	mr_env		env;
	qlt_work	w;
	mr_status	st;
} qlt_call;

extern void qlt_call_begin(qlt_call *call);
extern void qlt_call_end(qlt_call *call);

/* Numbers one after the other, n x dims, or an array of arrays; an ERROR where they do not divide. */
extern qlt_vectors qlt_vectors_of(ArrayType *array, int32 dims, const char *name);
/* Whole numbers, one a vector (n of them). */
extern const int32 *qlt_labels_of(ArrayType *array, int64 n);
/* An array of one dimension that the caller fills. */
extern ArrayType *qlt_new_array(int64 n, Oid type, int width);

#endif							/* MILLRACE_QUALITY_LATENT_PG_H */
