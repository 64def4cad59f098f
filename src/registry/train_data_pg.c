/*
 * train_data_pg.c
 *	  Read a query through a cursor into a columnar float32 matrix.
 *
 * The query runs as the caller, in a read-only cursor: one statement, one
 * snapshot, no writing, not even by a function it calls.  Memory: 4 bytes a
 * cell in vectors that double; a vector's old half stays while it is copied,
 * so that reading needs less than the limit at any moment or raises.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "core/core_pg.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "registry/progress.h"
#include "registry/registry.h"
#include "registry/train_data.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define FIRST_BATCH		100		/* rows of the first fetch, which tells their width */
#define BATCH_CELLS		500000	/* about so many numbers a later one */
#define MAX_BATCH		2000

/* The matrix while it grows. */
typedef struct builder
{
	train_data *d;
	float	  **col;			/* NULL until the widths are known */
	int			n_features;
	int64		rows;
	int64		size;			/* rows there is room for */
	const train_request *q;
} builder;

/* Bytes of a row beside its features. */
static Size
row_bytes(const train_data *d)
{
	Size		bytes = 0;

	for (int i = 0; i < d->n_columns; i++)
		switch (d->column[i].source)
		{
			case TRAIN_TARGET:
			case TRAIN_VALUE:
			case TRAIN_WEIGHT:
				bytes += 4;
				break;
			case TRAIN_ID:
			case TRAIN_GROUP:
			case TRAIN_ORDER:
				bytes += 8;
				break;
			default:
				break;
		}
	return bytes;
}

/* size: rows there is to be room for. */
static void
check_limit(const builder *b, int64 size)
{
	/* All vectors, and one more while it is copied. */
	double		need = (double) size * ((double) row_bytes(b->d) + (double) (b->n_features + 2) * sizeof(float)) +
		(double) b->d->id.size * 1.5;

	if (need > (double) b->q->limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("training data exceed millrace.train_memory"),
				 errdetail("More than " INT64_FORMAT " rows of %d features were read; the limit is %zu MB.",
						   b->rows, b->n_features, b->q->limit >> 20),
				 errhint("Raise millrace.train_memory, or read fewer rows with TABLESAMPLE or LIMIT.")));
}

static void *
grow_vector(builder *b, void *vector, int64 size, Size width)
{
	return vector ? repalloc_huge(vector, size * width) : MemoryContextAllocHuge(b->d->cxt, size * width);
}

/* Room for one more row. */
static void
grow(builder *b)
{
	train_data *d = b->d;
	int64		size = b->size ? b->size * 2 : 4096;

	check_limit(b, size);
	for (int f = 0; f < b->n_features; f++)
	{
		CHECK_FOR_INTERRUPTS();	/* copying them all takes long */
		b->col[f] = grow_vector(b, b->col[f], size, sizeof(float));
	}
	for (int i = 0; i < d->n_columns; i++)
		switch (d->column[i].source)
		{
			case TRAIN_TARGET:
				d->y = grow_vector(b, d->y, size, sizeof(int32));
				break;
			case TRAIN_VALUE:
				d->value = grow_vector(b, d->value, size, sizeof(float));
				break;
			case TRAIN_WEIGHT:
				d->weight = grow_vector(b, d->weight, size, sizeof(float));
				break;
			case TRAIN_ID:
				d->id.at = grow_vector(b, d->id.at, size, sizeof(uint64));
				break;
			case TRAIN_GROUP:
				d->group = grow_vector(b, d->group, size, sizeof(uint64));
				break;
			case TRAIN_ORDER:
				d->order = grow_vector(b, d->order, size, sizeof(double));
				break;
			default:
				break;
		}
	b->size = size;
}

/* Features before the first array of each column is known cannot be placed. */
static void
place_features(builder *b)
{
	train_data *d = b->d;
	int64		n = 0;

	for (int i = 0; i < d->n_columns; i++)
	{
		if (!train_is_feature(&d->column[i]))
			continue;
		d->column[i].first = (int) n;
		n += d->column[i].width;
		if (n > LRN_MAX_FEATURES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("query has more than %d features", LRN_MAX_FEATURES),
					 errhint("Select fewer columns, or a part of the array.")));
	}
	b->n_features = (int) n;
	b->col = MemoryContextAllocZero(d->cxt, n * sizeof(float *));
}

/* Numbers of a one-dimensional array; an empty one is told from a width of 0. */
static int
elements_of(const train_column *c, ArrayType *a)
{
	if (ARR_NDIM(a) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" holds an array of %d dimensions", c->name, ARR_NDIM(a)),
				 errdetail("Only arrays of one dimension are unrolled into features.")));
	return ARR_NDIM(a) == 0 ? 0 : ARR_DIMS(a)[0];
}

static void
put_array(builder *b, const train_column *c, Datum value)
{
	ArrayType  *a = DatumGetArrayTypeP(value);
	int			n = elements_of(c, a);
	float	   *row;

	if (n != c->width)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" holds arrays of different lengths", c->name),
				 errdetail("Row " INT64_FORMAT " has %d elements, the rows before it have %d.",
						   b->rows + 1, n, c->width),
				 errhint("Leave out such rows: WHERE cardinality(%s) = %d.", quote_identifier(c->name), c->width)));
	row = palloc(Max(n, 1) * sizeof(float));	/* of the batch's memory */
	train_array(a, c->source, row);
	for (int i = 0; i < n; i++)
		b->col[c->first + i][b->rows] = row[i];
	pfree(row);
}

static void
put_image(builder *b, const train_column *c, Datum value)
{
	bytea	   *image = DatumGetByteaPP(value);
	float	   *answer = palloc(c->width * sizeof(float));
	mr_status	st = {0};

	if (reg_extract(b->q->images, (const uint8 *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), answer, &st) != MR_OK)
	{
		if (st.code != MR_CANCELED && st.detail[0] == '\0')
			mr_detail(&st, "This is row " INT64_FORMAT " of the query.", b->rows + 1);
		mr_pg_raise(&st);
	}
	for (int i = 0; i < c->width; i++)
		b->col[c->first + i][b->rows] = answer[i];
}

static void
put_id(builder *b, const char *text)
{
	train_texts *t = &b->d->id;
	Size		n = strlen(text) + 1;

	if (t->len + n > t->size)
	{
		t->size = Max(t->size * 2, Max(t->len + n, 65536));
		check_limit(b, b->size);
		t->bytes = grow_vector(b, t->bytes, t->size, 1);
	}
	memcpy(t->bytes + t->len, text, n);
	t->at[b->rows] = t->len;
	t->len += n;
}

/* Whatever the row says that is no feature.  False: it has no target. */
static bool
put_role(builder *b, const train_column *c, Datum value, bool isnull)
{
	train_data *d = b->d;
	double		x;

	switch (c->source)
	{
		case TRAIN_TARGET:
			if (!isnull)
				d->y[b->rows] = train_dictionary_id(d->labels, OidOutputFunctionCall(c->out_function, value));
			return !isnull;
		case TRAIN_ID:
			put_id(b, isnull ? "" : OidOutputFunctionCall(c->out_function, value));
			return true;
		case TRAIN_GROUP:
			{
				char	   *text;

				if (isnull)
					break;
				text = OidOutputFunctionCall(c->out_function, value);
				d->group[b->rows] = lrn_hash(text, strlen(text), 0);
				return true;
			}
		case TRAIN_VALUE:
			x = isnull ? NAN : train_number(c->number, value);
			if (isnan(x))
				return false;
			d->value[b->rows] = (float) x;
			if (isinf(d->value[b->rows]))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("target column \"%s\" holds infinity", c->name),
						 errdetail("Row " INT64_FORMAT " is infinite or too large for real.", b->rows + 1)));
			return true;
		case TRAIN_WEIGHT:
			x = isnull ? NAN : train_number(c->number, value);
			if (!(x >= 0) || isinf((float) x))
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("weight of row " INT64_FORMAT " in column \"%s\" is not a number of at least 0", b->rows + 1, c->name)));
			d->weight[b->rows] = (float) x;
			return true;
		default:
			x = isnull ? NAN : train_number(c->number, value);
			if (isnan(x))
				break;
			d->order[b->rows] = x;
			return true;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("row " INT64_FORMAT " is NULL in column \"%s\", which is %s", b->rows + 1, c->name, train_role_name(c->source)),
			 errhint("Leave out such rows: WHERE %s IS NOT NULL.", quote_identifier(c->name))));
}

/* Widths of array columns from the first rows that are not NULL. */
static void
find_widths(train_data *d, SPITupleTable *table, uint64 n)
{
	for (int i = 0; i < d->n_columns; i++)
	{
		train_column *c = &d->column[i];

		for (uint64 r = 0; r < n && c->width < 0; r++)
		{
			bool		isnull;
			Datum		v = SPI_getbinval(table->vals[r], table->tupdesc, i + 1, &isnull);

			if (!isnull)
				c->width = elements_of(c, DatumGetArrayTypeP(v));
		}
		if (c->width < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("column \"%s\" is NULL in the first %llu rows", c->name, (unsigned long long) n),
					 errdetail("The number of its elements cannot be known."),
					 errhint("Leave out the rows without it: WHERE %s IS NOT NULL.", quote_identifier(c->name))));
	}
}

static void
read_batch(builder *b, SPITupleTable *table, uint64 n)
{
	train_data *d = b->d;
	TupleDesc	desc = table->tupdesc;
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

	for (uint64 r = 0; r < n; r++)
	{
		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(table->vals[r], desc, values, nulls);
		if (b->rows == b->size)
			grow(b);
		if (d->target >= 0 && !put_role(b, &d->column[d->target], values[d->target], nulls[d->target]))
		{
			d->unlabelled++;
			continue;
		}
		for (int i = 0; i < d->n_columns; i++)
		{
			const train_column *c = &d->column[i];

			if (!train_is_feature(c))
			{
				if (i != d->target)
					(void) put_role(b, c, values[i], nulls[i]);
			}
			else if (nulls[i])
				for (int f = 0; f < c->width; f++)
					b->col[c->first + f][b->rows] = NAN;
			else if (c->source == TRAIN_FLOAT4_ARRAY || c->source == TRAIN_FLOAT8_ARRAY)
				put_array(b, c, values[i]);
			else if (c->source == TRAIN_IMAGE)
				put_image(b, c, values[i]);
			else if (c->source == TRAIN_CATEGORY)
				b->col[c->first][b->rows] =
					(float) train_dictionary_id(c->values, OidOutputFunctionCall(c->out_function, values[i]));
			else
				b->col[c->first][b->rows] = train_scalar(c->source, values[i]);
		}
		b->rows++;
	}
}

/* Ids in order of the sorted texts; names of features for messages. */
static void
finish(builder *b)
{
	train_data *d = b->d;
	const char **names;
	int32	   *n_categories;

	if (d->labels)
	{
		int32	   *map = train_dictionary_sort(d->labels, d->column[d->target].numeric_order);

		d->label_counts = palloc0(Max(d->labels->n, 1) * sizeof(int64));
		for (int64 i = 0; i < b->rows; i++)
			d->label_counts[d->y[i] = map[d->y[i]]]++;
	}
	names = palloc(Max(b->n_features, 1) * sizeof(char *));
	n_categories = palloc0(Max(b->n_features, 1) * sizeof(int32));
	for (int i = 0; i < d->n_columns; i++)
	{
		const train_column *c = &d->column[i];

		if (!train_is_feature(c))
			continue;
		for (int f = 0; f < c->width; f++)
			names[c->first + f] = c->source == TRAIN_FLOAT4_ARRAY || c->source == TRAIN_FLOAT8_ARRAY ?
				psprintf("%s[%d]", c->name, f + 1) : c->name;
		if (c->source == TRAIN_CATEGORY)
		{
			int32	   *map = train_dictionary_sort(c->values, false);
			float	   *x = b->col[c->first];

			n_categories[c->first] = c->values->n;
			d->matrix.n_categories = n_categories;
			for (int64 r = 0; r < b->rows; r++)
				if (!isnan(x[r]))
					x[r] = (float) map[(int) x[r]];
		}
	}
	d->matrix.rows = b->rows;
	d->matrix.cols = b->n_features;
	d->matrix.col = b->col;
	d->matrix.name = names;
	d->memory = (Size) b->size * ((Size) b->n_features * sizeof(float) + row_bytes(d)) + d->id.size;
}

train_data *
train_read(const train_request *q)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace training data",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext batch_cxt = AllocSetContextCreate(cxt, "millrace training batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	train_data *d = MemoryContextAllocZero(cxt, sizeof(train_data));
	builder		b = {.d = d, .q = q};
	long		fetch = FIRST_BATCH;
	Portal		portal;
	train_guard guard;

	d->cxt = cxt;
	d->target = -1;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	train_guard_begin(&guard);
	portal = train_open_data(q->query);
	MemoryContextSwitchTo(cxt);
	train_describe_columns(d, portal->tupDesc, q);
	for (;;)
	{
		uint64		n;

		MemoryContextSwitchTo(batch_cxt);
		SPI_cursor_fetch(portal, true, fetch);
		n = SPI_processed;
		if (n == 0)
			break;
		if (b.col == NULL)
		{
			find_widths(d, SPI_tuptable, n);
			place_features(&b);
			fetch = Min(MAX_BATCH, Max(1, BATCH_CELLS / Max(b.n_features, 1)));
		}
		read_batch(&b, SPI_tuptable, n);
		reg_progress_rows(b.rows);
		SPI_freetuptable(SPI_tuptable);
		MemoryContextReset(batch_cxt);
	}
	SPI_cursor_close(portal);
	train_guard_end(&guard);
	if (b.rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 d->unlabelled ? errmsg("target column \"%s\" is NULL in all rows", q->target) :
				 errmsg("query returned no rows"),
				 d->unlabelled ? errhint("Rows without a target are left out, and then there is none.") :
				 errhint("Run it by itself, and see what its conditions leave.")));
	MemoryContextSwitchTo(cxt);
	finish(&b);
	SPI_finish();
	MemoryContextDelete(batch_cxt);
	MemoryContextSwitchTo(old);
	return d;
}

void
train_data_free(train_data *data)
{
	MemoryContextDelete(data->cxt);
}
