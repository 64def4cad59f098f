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
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "registry/train_data.h"
#include "registry/train_json.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/plancache.h"

#define FIRST_BATCH		100		/* rows of the first fetch, which tells their width */
#define BATCH_CELLS		500000	/* about so many numbers a later one */
#define MAX_BATCH		2000
#define MAX_CATEGORIES	10000
#define MAX_LABEL		256		/* bytes of a label or category */

typedef struct dictionary_entry
{
	char		text[MAX_LABEL];	/* key, zero-padded */
	int			id;
} dictionary_entry;

static train_dictionary *
dictionary_create(const char *what, int limit)
{
	train_dictionary *d = palloc0(sizeof(train_dictionary));
	HASHCTL		ctl = {0};

	ctl.keysize = MAX_LABEL;
	ctl.entrysize = sizeof(dictionary_entry);
	ctl.hcxt = CurrentMemoryContext;
	d->table = hash_create("millrace labels", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	d->what = what;
	d->limit = limit;
	d->size = 64;
	d->text = palloc(d->size * sizeof(char *));
	return d;
}

/* Number of a text, new ones at the end; in the dictionary's own memory. */
static int
dictionary_id(train_dictionary *d, const char *text)
{
	dictionary_entry *entry;
	bool		found;

	if (strlen(text) >= MAX_LABEL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("value of %s is too long", d->what),
				 errdetail("It has %zu bytes; labels and categories may have %d.", strlen(text), MAX_LABEL - 1)));
	entry = hash_search(d->table, text, HASH_ENTER, &found);
	if (found)
		return entry->id;
	if (d->n == d->limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s has more than %d different values", d->what, d->limit),
				 errhint("Leave it out of the query, or group its values.")));
	if (d->n == d->size)
	{
		d->size *= 2;
		d->text = repalloc_huge(d->text, d->size * sizeof(char *));
	}
	d->text[d->n] = entry->text;
	return entry->id = d->n++;
}

typedef struct order_key
{
	const char *text;
	double		number;
	int			old;
} order_key;

static int
order_by_text(const void *a, const void *b)
{
	return strcmp(((const order_key *) a)->text, ((const order_key *) b)->text);
}

static int
order_by_number(const void *a, const void *b)
{
	double		x = ((const order_key *) a)->number,
				y = ((const order_key *) b)->number;

	return x < y ? -1 : x > y ? 1 : order_by_text(a, b);
}

/* Sort the texts; returns new id by old id, so that row order decides nothing. */
static int32 *
dictionary_sort(train_dictionary *d, bool as_numbers)
{
	order_key  *key = palloc(Max(d->n, 1) * sizeof(order_key));
	int32	   *map = palloc(Max(d->n, 1) * sizeof(int32));

	for (int i = 0; i < d->n; i++)
		key[i] = (order_key) {d->text[i], as_numbers ? strtod(d->text[i], NULL) : 0, i};
	qsort(key, d->n, sizeof(order_key), as_numbers ? order_by_number : order_by_text);
	for (int i = 0; i < d->n; i++)
	{
		map[key[i].old] = i;
		d->text[i] = unconstify(char *, key[i].text);
	}
	pfree(key);
	return map;
}

/* What becomes of a column of this type; false when nothing can. */
static bool
source_of(Oid type, train_source *source)
{
	char		category;
	bool		preferred;

	switch (type)
	{
		case BOOLOID:
			*source = TRAIN_BOOL;
			return true;
		case INT2OID:
			*source = TRAIN_INT2;
			return true;
		case INT4OID:
			*source = TRAIN_INT4;
			return true;
		case INT8OID:
			*source = TRAIN_INT8;
			return true;
		case FLOAT4OID:
			*source = TRAIN_FLOAT4;
			return true;
		case FLOAT8OID:
			*source = TRAIN_FLOAT8;
			return true;
		case NUMERICOID:
			*source = TRAIN_NUMERIC;
			return true;
		case FLOAT4ARRAYOID:
			*source = TRAIN_FLOAT4_ARRAY;
			return true;
		case FLOAT8ARRAYOID:
			*source = TRAIN_FLOAT8_ARRAY;
			return true;
	}
	get_type_category_preferred(type, &category, &preferred);
	*source = TRAIN_CATEGORY;
	return category == TYPCATEGORY_STRING || category == TYPCATEGORY_ENUM;
}

static void
describe_columns(train_data *d, TupleDesc desc, const char *target, bool categories,
				 const char *algorithm)
{
	d->n_columns = desc->natts;
	d->column = palloc0(Max(desc->natts, 1) * sizeof(train_column));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		train_column *c = &d->column[i];
		Oid			type = getBaseType(att->atttypid);
		bool		varlena;

		c->name = pstrdup(NameStr(att->attname));
		for (int other = 0; other < i; other++)
			if (strcmp(d->column[other].name, c->name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_AMBIGUOUS_COLUMN),
						 errmsg("query has more than one column named \"%s\"", c->name)));
		if (target && strcmp(target, c->name) == 0)
		{
			c->source = TRAIN_TARGET;
			c->numeric_order = type == INT2OID || type == INT4OID || type == INT8OID ||
				type == NUMERICOID || type == FLOAT4OID || type == FLOAT8OID;
			d->target = i;
			d->labels = dictionary_create(psprintf("target column \"%s\"", c->name), LRN_MAX_CLASSES);
			getTypeOutputInfo(att->atttypid, &c->out_function, &varlena);
			continue;
		}
		if (!source_of(type, &c->source))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of type %s cannot be a feature", c->name,
							format_type_be(att->atttypid)),
					 errdetail("Features are numeric, boolean, text, real[] or double precision[]."),
					 errhint("Cast it, or turn a date into a number with extract(epoch FROM ...).")));
		c->width = 1;
		if (c->source == TRAIN_FLOAT4_ARRAY || c->source == TRAIN_FLOAT8_ARRAY)
			c->width = -1;
		else if (c->source == TRAIN_CATEGORY)
		{
			if (!categories)
				ereport(ERROR,
						(errcode(ERRCODE_DATATYPE_MISMATCH),
						 errmsg("column \"%s\" of type %s cannot be a feature of %s", c->name,
								format_type_be(att->atttypid), algorithm),
						 errhint("Give one number a category, as in (kind = 'a')::int, or train a random_forest.")));
			c->values = dictionary_create(psprintf("column \"%s\"", c->name), MAX_CATEGORIES);
			getTypeOutputInfo(att->atttypid, &c->out_function, &varlena);
		}
	}
	if (target && d->target < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("query has no column \"%s\" to be the target", target)));
	if (desc->natts - (d->target >= 0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query has no feature column")));
}

/* The matrix while it grows. */
typedef struct builder
{
	train_data *d;
	float	  **col;			/* NULL until the widths are known */
	int			n_features;
	int64		rows;
	int64		size;			/* rows there is room for */
	Size		limit;
} builder;

static void
check_limit(const builder *b, int64 size)
{
	double		cell = sizeof(float);
	/* All vectors, the class ids, and one more vector while it is copied. */
	double		need = (double) size * (b->n_features + 2) * cell + (double) size * sizeof(int32);

	if (need > (double) b->limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("training data exceed millrace.train_memory"),
				 errdetail("More than " INT64_FORMAT " rows of %d features were read; the limit is %zu MB.",
						   b->rows, b->n_features, b->limit >> 20),
				 errhint("Raise millrace.train_memory, or read fewer rows with TABLESAMPLE or LIMIT.")));
}

/* Room for one more row. */
static void
grow(builder *b)
{
	MemoryContext old = MemoryContextSwitchTo(b->d->cxt);
	int64		size = b->size ? b->size * 2 : 4096;

	check_limit(b, size);
	for (int f = 0; f < b->n_features; f++)
		b->col[f] = b->size ? repalloc_huge(b->col[f], size * sizeof(float)) :
			MemoryContextAllocHuge(b->d->cxt, size * sizeof(float));
	if (b->d->target >= 0)
		b->d->y = b->size ? repalloc_huge(b->d->y, size * sizeof(int32)) :
			MemoryContextAllocHuge(b->d->cxt, size * sizeof(int32));
	b->size = size;
	MemoryContextSwitchTo(old);
}

/* Features before the first array of each column is known cannot be placed. */
static void
place_features(builder *b)
{
	train_data *d = b->d;
	int64		n = 0;

	for (int i = 0; i < d->n_columns; i++)
	{
		if (i == d->target)
			continue;
		d->column[i].first = (int) n;
		n += d->column[i].width;
		if (n > LRN_MAX_FEATURES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("query has more than %d features", LRN_MAX_FEATURES)));
	}
	b->n_features = (int) n;
	b->col = MemoryContextAlloc(d->cxt, n * sizeof(float *));
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
	bool		wide = c->source == TRAIN_FLOAT8_ARRAY;
	bits8	   *nulls = ARR_NULLBITMAP(a);
	char	   *p = ARR_DATA_PTR(a);

	if (n != c->width)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" holds arrays of different lengths", c->name),
				 errdetail("Row " INT64_FORMAT " has %d elements, the rows before it have %d.",
						   b->rows + 1, n, c->width)));
	for (int i = 0; i < n; i++)
	{
		float	   *cell = &b->col[c->first + i][b->rows];

		if (nulls && !(nulls[i / 8] & (1 << (i % 8))))
		{
			*cell = NAN;
			continue;
		}
		if (wide)
		{
			float8		v;

			memcpy(&v, p, sizeof(v));
			*cell = (float) v;
			p += sizeof(v);
		}
		else
		{
			memcpy(cell, p, sizeof(float));
			p += sizeof(float);
		}
	}
}

/* A NaN in the data stands for missing, as NULL does. */
static float
scalar(const train_column *c, Datum value)
{
	switch (c->source)
	{
		case TRAIN_BOOL:
			return DatumGetBool(value) ? 1 : 0;
		case TRAIN_INT2:
			return DatumGetInt16(value);
		case TRAIN_INT4:
			return (float) DatumGetInt32(value);
		case TRAIN_INT8:
			return (float) DatumGetInt64(value);
		case TRAIN_FLOAT4:
			return DatumGetFloat4(value);
		case TRAIN_FLOAT8:
			return (float) DatumGetFloat8(value);
		case TRAIN_NUMERIC:
			return (float) DatumGetFloat8(DirectFunctionCall1(numeric_float8, value));
		default:
			return NAN;
	}
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
		if (d->target >= 0 && nulls[d->target])
		{
			d->unlabelled++;
			continue;
		}
		if (b->rows == b->size)
			grow(b);
		for (int i = 0; i < d->n_columns; i++)
		{
			const train_column *c = &d->column[i];

			if (i == d->target)
				d->y[b->rows] = dictionary_id(d->labels, OidOutputFunctionCall(c->out_function, values[i]));
			else if (nulls[i])
				for (int f = 0; f < c->width; f++)
					b->col[c->first + f][b->rows] = NAN;
			else if (c->source == TRAIN_FLOAT4_ARRAY || c->source == TRAIN_FLOAT8_ARRAY)
				put_array(b, c, values[i]);
			else if (c->source == TRAIN_CATEGORY)
				b->col[c->first][b->rows] =
					(float) dictionary_id(c->values, OidOutputFunctionCall(c->out_function, values[i]));
			else
				b->col[c->first][b->rows] = scalar(c, values[i]);
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

	if (d->target >= 0)
	{
		int32	   *map = dictionary_sort(d->labels, d->column[d->target].numeric_order);

		d->label_counts = palloc0(Max(d->labels->n, 1) * sizeof(int64));
		for (int64 i = 0; i < b->rows; i++)
			d->label_counts[d->y[i] = map[d->y[i]]]++;
	}
	names = palloc(Max(b->n_features, 1) * sizeof(char *));
	for (int i = 0; i < d->n_columns; i++)
	{
		const train_column *c = &d->column[i];

		if (i == d->target)
			continue;
		for (int f = 0; f < c->width; f++)
			names[c->first + f] = c->source == TRAIN_FLOAT4_ARRAY || c->source == TRAIN_FLOAT8_ARRAY ?
				psprintf("%s[%d]", c->name, f + 1) : c->name;
		if (c->source == TRAIN_CATEGORY)
		{
			int32	   *map = dictionary_sort(c->values, false);
			float	   *x = b->col[c->first];

			for (int64 r = 0; r < b->rows; r++)
				if (!isnan(x[r]))
					x[r] = (float) map[(int) x[r]];
		}
	}
	d->matrix.rows = b->rows;
	d->matrix.cols = b->n_features;
	d->matrix.col = b->col;
	d->matrix.name = names;
	d->memory = (Size) b->size * ((Size) b->n_features + 1) * sizeof(float);
}

void
train_check_query(SPIPlanPtr plan)
{
	ListCell   *lc;

	if (!SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query must be a single statement that returns rows"),
				 errhint("Write a SELECT.")));
	foreach(lc, SPI_plan_get_plan_sources(plan))
	{
		CachedPlanSource *source = lfirst(lc);
		ListCell   *q;

		foreach(q, source->query_list)
		{
			Query	   *query = lfirst_node(Query, q);

			if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks != NIL)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("query must be a SELECT that neither writes nor locks rows")));
		}
	}
}

train_data *
train_read(const char *query, const char *target, bool categories, Size limit, const char *algorithm)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace training data",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext batch_cxt = AllocSetContextCreate(cxt, "millrace training batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	train_data *d = MemoryContextAllocZero(cxt, sizeof(train_data));
	builder		b = {.d = d, .limit = limit};
	bool		was_read_only = XactReadOnly;

	d->cxt = cxt;
	d->target = -1;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	/* Whatever the query calls may not write either. */
	XactReadOnly = true;
	PG_TRY();
	{
		SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);
		Portal		portal;
		long		fetch = FIRST_BATCH;

		if (plan == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("query cannot be prepared: %s", SPI_result_code_string(SPI_result))));
		train_check_query(plan);
		portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
		MemoryContextSwitchTo(cxt);
		describe_columns(d, portal->tupDesc, target, categories, algorithm);
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
			SPI_freetuptable(SPI_tuptable);
			MemoryContextReset(batch_cxt);
		}
		SPI_cursor_close(portal);
		SPI_freeplan(plan);
	}
	PG_FINALLY();
	{
		XactReadOnly = was_read_only;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	finish(&b);
	SPI_finish();
	MemoryContextDelete(batch_cxt);
	MemoryContextSwitchTo(old);
	if (d->matrix.rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 d->unlabelled ? errmsg("target column \"%s\" is NULL in all rows", target) :
				 errmsg("query returned no rows")));
	return d;
}

void
train_data_free(train_data *data)
{
	MemoryContextDelete(data->cxt);
}

void
train_push_features(const train_data *data, JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < data->n_columns; i++)
	{
		const train_column *c = &data->column[i];

		if (i == data->target)
			continue;
		pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
		json_push_string(state, "name", c->name);
		switch (c->source)
		{
			case TRAIN_BOOL:
				json_push_string(state, "type", "boolean");
				break;
			case TRAIN_CATEGORY:
				json_push_string(state, "type", "category");
				json_push_key(state, "values");
				pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
				for (int k = 0; k < c->values->n; k++)
					json_push_element(state, c->values->text[k]);
				pushJsonbValue(state, WJB_END_ARRAY, NULL);
				break;
			case TRAIN_FLOAT4_ARRAY:
			case TRAIN_FLOAT8_ARRAY:
				json_push_string(state, "type", "array");
				json_push_integer(state, "length", c->width);
				break;
			default:
				json_push_string(state, "type", "number");
				break;
		}
		pushJsonbValue(state, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}
