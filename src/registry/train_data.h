/*
 * train_data.h
 *	  A query's result as a columnar matrix with class ids.
 */
#ifndef MILLRACE_REGISTRY_TRAIN_DATA_H
#define MILLRACE_REGISTRY_TRAIN_DATA_H

#include "learn/learn.h"
#include "utils/jsonb.h"
#include "utils/palloc.h"

/* How one column of the query becomes features. */
typedef enum train_source
{
	TRAIN_TARGET,
	TRAIN_BOOL,
	TRAIN_INT2,
	TRAIN_INT4,
	TRAIN_INT8,
	TRAIN_FLOAT4,
	TRAIN_FLOAT8,
	TRAIN_NUMERIC,
	TRAIN_FLOAT4_ARRAY,			/* unrolled: one feature an element */
	TRAIN_FLOAT8_ARRAY,
	TRAIN_CATEGORY				/* text: the number of its value */
} train_source;

struct HTAB;

/* Distinct texts, numbered in order of appearance and sorted at the end. */
typedef struct train_dictionary
{
	struct HTAB *table;
	char	  **text;
	int			n;
	int			size;
	int			limit;
	const char *what;			/* for messages: column "x" */
} train_dictionary;

typedef struct train_column
{
	char	   *name;
	train_source source;
	int			first;			/* its first feature */
	int			width;			/* features; -1 until an array has been seen */
	train_dictionary *values;	/* TRAIN_CATEGORY */
	Oid			out_function;	/* TRAIN_CATEGORY, TRAIN_TARGET */
	bool		numeric_order;	/* labels sort as numbers */
} train_column;

typedef struct train_data
{
	MemoryContext cxt;			/* everything below; deleted by train_data_free */
	train_column *column;
	int			n_columns;
	int			target;			/* index in column, or -1 */
	lrn_matrix	matrix;
	int32	   *y;				/* class ids, sorted labels */
	train_dictionary *labels;
	int64	   *label_counts;
	int64		unlabelled;		/* rows left out: their target was NULL */
	Size		memory;			/* bytes of matrix and class ids */
} train_data;

/*
 * Run query as the current user, in a read-only cursor, and read it all.
 * target NULL: no target column.  categories: whether text columns may be
 * features.  Raises: 22023 for what the query may not be, 42703 for a target
 * that is not there, 42804 for a type that is no feature, 54000 past limit
 * bytes.
 */
extern train_data *train_read(const char *query, const char *target, bool categories,
							  Size limit, const char *algorithm);
extern void train_data_free(train_data *data);

/* One SELECT that neither writes nor locks rows?  Raises 22023 if not. */
struct _SPI_plan;
extern void train_check_query(struct _SPI_plan *plan);

/* The features as jsonb, for the model's spec: [{"name","type",...}, ...]. */
extern void train_push_features(const train_data *data, JsonbParseState **state);

#endif							/* MILLRACE_REGISTRY_TRAIN_DATA_H */
