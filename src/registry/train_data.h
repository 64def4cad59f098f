/*
 * train_data.h
 *	  A query's result as a columnar matrix, with what stands beside it: class
 *	  ids or values to learn, weights, keys, groups and order of the rows.
 */
#ifndef MILLRACE_REGISTRY_TRAIN_DATA_H
#define MILLRACE_REGISTRY_TRAIN_DATA_H

#include "access/tupdesc.h"
#include "executor/spi.h"
#include "learn/learn.h"
#include "learn/split.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/palloc.h"

/* How one column of the query becomes features. */
typedef enum train_source
{
	/* not features: one column each at most */
	TRAIN_TARGET,				/* labels, numbered */
	TRAIN_VALUE,				/* the target of a regression */
	TRAIN_WEIGHT,
	TRAIN_ID,
	TRAIN_GROUP,
	TRAIN_ORDER,
	/* features, and what those above but labels, ids and groups are read as */
	TRAIN_BOOL,
	TRAIN_INT2,
	TRAIN_INT4,
	TRAIN_INT8,
	TRAIN_FLOAT4,
	TRAIN_FLOAT8,
	TRAIN_NUMERIC,
	TRAIN_FLOAT4_ARRAY,			/* unrolled: one feature an element */
	TRAIN_FLOAT8_ARRAY,
	TRAIN_DATE,					/* TRAIN_ORDER only: days, microseconds */
	TRAIN_TIMESTAMP,
	TRAIN_IMAGE,				/* bytea: a network's answer to it */
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
	train_source number;		/* TRAIN_VALUE, TRAIN_WEIGHT, TRAIN_ORDER: its type */
	int			first;			/* its first feature */
	int			width;			/* features; -1 until an array has been seen */
	train_dictionary *values;	/* TRAIN_CATEGORY */
	Oid			out_function;	/* TRAIN_CATEGORY, TRAIN_TARGET, TRAIN_ID, TRAIN_GROUP */
	bool		numeric_order;	/* labels sort as numbers */
	bool		one_hot;		/* TRAIN_CATEGORY: spread over columns of 0 and 1 */
} train_column;

static inline bool
train_is_feature(const train_column *c)
{
	return c->source >= TRAIN_BOOL;
}

/* What is to be read.  Column names: NULL = there is none. */
typedef struct train_request
{
	const char *query;
	const char *target;			/* labels, or numbers if regression */
	bool		regression;
	const char *weight;			/* numbers of at least 0 */
	const char *id;				/* key of a row, any type */
	const char *group;			/* rows that must stay together, any type */
	const char *order;			/* number, date or timestamp */
	bool		categories;		/* whether text columns may be features */
	Size		limit;			/* bytes: 54000 past it */
	const char *algorithm;		/* for messages */
	const struct reg_model *images; /* the network that answers a column of
								 * images, which must be the only feature; or NULL */
} train_request;

/* A text of each row, one after the other. */
typedef struct train_texts
{
	char	   *bytes;
	Size		len;
	Size		size;
	uint64	   *at;				/* begin of each row's, zero-terminated */
} train_texts;

typedef struct train_data
{
	MemoryContext cxt;			/* everything below; deleted by train_data_free */
	train_column *column;
	int			n_columns;
	int			target;			/* index in column, or -1 */
	lrn_matrix	matrix;
	int32	   *y;				/* class ids, sorted labels; NULL: a regression */
	train_dictionary *labels;
	float	   *value;			/* of a regression */
	float	   *weight;			/* NULL, as those below, where not asked for */
	uint64	   *group;			/* a hash of the group's text */
	double	   *order;			/* time in seconds, or the number */
	train_texts id;
	bool		images;			/* the matrix is a network's answers */
	int64	   *label_counts;
	int64		unlabelled;		/* rows left out: their target was NULL */
	Size		memory;			/* bytes of all of it */
} train_data;

/*
 * Run the query as the current user, in a read-only cursor, and read it all.
 * Raises: 22023 for what the query may not be and for weights and values that
 * are none, 42703 for a column that is not there, 42804 for a type that cannot
 * be what it should, 54000 past limit bytes.
 */
extern train_data *train_read(const train_request *request);
extern void train_data_free(train_data *data);

/* ---- train_columns_pg.c ---- */

/* What becomes of a column of this type; false when nothing can. */
extern bool train_source_of(Oid type, train_source *source);

/* "the target" and so on: what TRAIN_TARGET .. TRAIN_ORDER are called in messages. */
extern const char *train_role_name(train_source role);

/* The columns of the query, by the names that the request gives: d->column,
 * target, labels, images; in the current context.  Raises as train_read(). */
extern void train_describe_columns(train_data *d, TupleDesc desc, const train_request *request);

/* A value of a TRAIN_BOOL .. TRAIN_NUMERIC column; NaN stands for missing, as
 * NULL does.  And the elements of a real[] or double precision[]. */
extern float train_scalar(train_source source, Datum value);
/* The same in double, and of dates and timestamps in seconds; NaN only for NaN. */
extern double train_number(train_source source, Datum value);
extern void train_array(ArrayType *a, train_source source, float *out);

/* ---- train_query_pg.c ---- */

/* One SELECT that neither writes nor locks rows, else 22023 is raised; and a
 * read-only cursor over it.  Between SPI_connect() and SPI_finish(). */
extern SPIPlanPtr train_prepare(const char *query, int nargs, const Oid *types);
extern Portal train_open(const char *query);

/* The same for rows that a model is trained or evaluated with: 0A000 where they
 * are read of a data set in a way that would not notice its blocking findings. */
extern Portal train_open_data(const char *query);
extern void train_refuse_data_sets(List *queries);	/* train_sets_pg.c */

/*
 * While such a query runs, whatever it calls may not write either, and is told
 * so.  An error between the two ends that with its (sub)transaction.
 */
typedef struct train_guard
{
	bool		was_read_only;
	ErrorContextCallback told;
} train_guard;
extern void train_guard_begin(train_guard *guard);
extern void train_guard_end(train_guard *guard);

/* ---- train_dictionary_pg.c ---- */

/* Empty, in the current memory context; at most limit texts of 255 bytes. */
extern train_dictionary *train_dictionary_create(const char *what, int limit);

/* Number of a text, new ones at the end; raises 54000. */
extern int	train_dictionary_id(train_dictionary *d, const char *text);

/* Sort the texts; returns new number by old. */
extern int32 *train_dictionary_sort(train_dictionary *d, bool as_numbers);

/* The features as jsonb, for the model's spec: [{"name","type",...}, ...]. */
extern void train_push_features(const train_data *data, JsonbParseState **state);

#endif							/* MILLRACE_REGISTRY_TRAIN_DATA_H */
