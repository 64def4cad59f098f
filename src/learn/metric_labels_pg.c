/*
 * metric_labels_pg.c
 *	  Aggregates over (true label, predicted label): accuracy, precision,
 *	  recall, F1, kappa, correlation, the confusion matrix.
 *
 * All of them share one state, so that any number of them over the same two
 * columns counts once: the labels, numbered as they come, and a table of the
 * pairs that occur.  Memory follows the labels and pairs, not the rows.  The
 * state lives in the aggregate's context; partial states of parallel workers
 * are added together.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "core/compat.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "learn/learn.h"
#include "learn/metrics.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"

#define MAX_LABEL	255			/* bytes, as in training */
#define MAX_PAIRS	2000000		/* 64 MB */
#define MAX_MATRIX	1000		/* labels of a confusion matrix in jsonb */

typedef struct label_key
{
	const char *text;
	int			len;
} label_key;

typedef struct label_entry
{
	label_key	key;
	int			id;
	char		status;
} label_entry;

#define SH_PREFIX		labels
#define SH_ELEMENT_TYPE	label_entry
#define SH_KEY_TYPE		label_key
#define SH_KEY			key
#define SH_HASH_KEY(tb, k)	hash_bytes((const unsigned char *) (k).text, (k).len)
#define SH_EQUAL(tb, a, b)	((a).len == (b).len && memcmp((a).text, (b).text, (a).len) == 0)
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Which mean of the classes' figures. */
typedef enum average
{
	AVERAGE_MACRO,
	AVERAGE_MICRO,
	AVERAGE_WEIGHTED,
	AVERAGE_BINARY				/* of one class, named */
} average;

static const char *const average_names[] = {"macro", "micro", "weighted", "binary"};

typedef struct label_state
{
	MemoryContext cxt;
	mr_env		env;
	labels_hash *table;
	label_key  *label;			/* by id */
	int			n;
	int			size;
	lrn_confusion pairs;
	average		average;
	char	   *of;				/* AVERAGE_BINARY: the class */
} label_state;

PG_FUNCTION_INFO_V1(millrace_labels_accum);
PG_FUNCTION_INFO_V1(millrace_labels_combine);
PG_FUNCTION_INFO_V1(millrace_labels_serialize);
PG_FUNCTION_INFO_V1(millrace_labels_deserialize);
PG_FUNCTION_INFO_V1(millrace_confusion_matrix);

static label_state *
make_state(FunctionCallInfo fcinfo)
{
	MemoryContext cxt;
	label_state *s;

	if (!AggCheckCallContext(fcinfo, &cxt))
		elog(ERROR, "aggregate function called outside of an aggregate");
	s = MemoryContextAllocZero(cxt, sizeof(label_state));
	s->cxt = cxt;
	s->env = mr_pg_env(cxt);
	s->pairs.env = &s->env;
	s->pairs.limit = MAX_PAIRS;
	s->table = labels_create(cxt, 16, NULL);
	return s;
}

static int
label_id(label_state *s, const char *text, int len)
{
	label_entry *e;
	bool		found;
	char	   *copy;

	e = labels_lookup(s->table, (label_key) {text, len});
	if (e)
		return e->id;
	if (len > MAX_LABEL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("label is too long"),
				 errdetail("It has %d bytes; labels may have %d.", len, MAX_LABEL)));
	if (s->n == LRN_MAX_CLASSES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d different labels", LRN_MAX_CLASSES)));
	if (s->n == s->size)
	{
		s->size = s->size ? s->size * 2 : 16;
		s->label = s->label ? repalloc(s->label, s->size * sizeof(label_key)) :
			MemoryContextAlloc(s->cxt, s->size * sizeof(label_key));
	}
	copy = MemoryContextAlloc(s->cxt, len + 1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	e = labels_insert(s->table, (label_key) {copy, len}, &found);
	s->label[s->n] = e->key;
	return e->id = s->n++;
}

static void
count_pair(label_state *s, int truth, int predicted, int64 n)
{
	mr_status	st = {0};

	if (lrn_confusion_add(&s->pairs, truth, predicted, n, &st) != MR_OK)
		mr_pg_raise(&st);
}

/* The arguments behind the two labels: average, and label for 'binary'. */
static void
read_average(FunctionCallInfo fcinfo, bool first, label_state *s)
{
	char	   *name = PG_ARGISNULL(3) ? pstrdup("macro") : text_to_cstring(PG_GETARG_TEXT_PP(3));
	char	   *of = PG_NARGS() > 4 && !PG_ARGISNULL(4) ? text_to_cstring(PG_GETARG_TEXT_PP(4)) : NULL;
	int			a = 0;

	while (a < (int) lengthof(average_names) && strcmp(name, average_names[a]) != 0)
		a++;
	if (a == lengthof(average_names))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("average \"%s\" does not exist", name),
				 errhint("Known averages: macro, micro, weighted, binary.")));
	if ((a == AVERAGE_BINARY) != (of != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 of ? errmsg("average \"%s\" takes no label", name) : errmsg("average \"binary\" needs a label"),
				 errhint("Write ('binary', 'label') for the figure of one class.")));
	if (first)
	{
		s->average = a;
		s->of = of ? MemoryContextStrdup(s->cxt, of) : NULL;
	}
	else if (s->average != (average) a || (of && strcmp(of, s->of) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("average and label must be the same in all rows")));
	pfree(name);
	if (of)
		pfree(of);
}

/* (state, truth text, predicted text [, average text [, label text]]) */
Datum
millrace_labels_accum(PG_FUNCTION_ARGS)
{
	label_state *s = PG_ARGISNULL(0) ? NULL : (label_state *) PG_GETARG_POINTER(0);
	bool		first = s == NULL;
	text	   *truth,
			   *predicted;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
	{
		if (s == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(s);
	}
	if (s == NULL)
		s = make_state(fcinfo);
	if (PG_NARGS() > 3)
		read_average(fcinfo, first, s);
	truth = PG_GETARG_TEXT_PP(1);
	predicted = PG_GETARG_TEXT_PP(2);
	count_pair(s, label_id(s, VARDATA_ANY(truth), VARSIZE_ANY_EXHDR(truth)),
			   label_id(s, VARDATA_ANY(predicted), VARSIZE_ANY_EXHDR(predicted)), 1);
	PG_RETURN_POINTER(s);
}

static void
merge(label_state *s, const label_state *o)
{
	int		   *id = palloc(Max(o->n, 1) * sizeof(int));

	for (int i = 0; i < o->n; i++)
		id[i] = label_id(s, o->label[i].text, o->label[i].len);
	for (size_t i = 0; i < o->pairs.size; i++)
		if (o->pairs.cell[i].count > 0)
			count_pair(s, id[o->pairs.cell[i].truth], id[o->pairs.cell[i].predicted], o->pairs.cell[i].count);
	s->average = o->average;
	if (o->of && s->of == NULL)
		s->of = MemoryContextStrdup(s->cxt, o->of);
	pfree(id);
}

Datum
millrace_labels_combine(PG_FUNCTION_ARGS)
{
	label_state *s = PG_ARGISNULL(0) ? NULL : (label_state *) PG_GETARG_POINTER(0);

	if (PG_ARGISNULL(1))
	{
		if (s == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(s);
	}
	if (s == NULL)
		s = make_state(fcinfo);
	merge(s, (label_state *) PG_GETARG_POINTER(1));
	PG_RETURN_POINTER(s);
}

Datum
millrace_labels_serialize(PG_FUNCTION_ARGS)
{
	const label_state *s = (label_state *) PG_GETARG_POINTER(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbyte(&buf, s->average);
	pq_sendstring(&buf, s->of ? s->of : "");
	pq_sendint32(&buf, s->n);
	for (int i = 0; i < s->n; i++)
	{
		pq_sendint32(&buf, s->label[i].len);
		pq_sendbytes(&buf, s->label[i].text, s->label[i].len);
	}
	pq_sendint64(&buf, s->pairs.used);
	for (size_t i = 0; i < s->pairs.size; i++)
		if (s->pairs.cell[i].count > 0)
		{
			pq_sendint32(&buf, s->pairs.cell[i].truth);
			pq_sendint32(&buf, s->pairs.cell[i].predicted);
			pq_sendint64(&buf, s->pairs.cell[i].count);
		}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

Datum
millrace_labels_deserialize(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	label_state *s = make_state(fcinfo);
	StringInfoData buf;
	const char *of;
	int			n;
	int64		pairs;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	s->average = pq_getmsgbyte(&buf);
	of = pq_getmsgstring(&buf);
	s->of = s->average == AVERAGE_BINARY ? MemoryContextStrdup(s->cxt, of) : NULL;
	n = pq_getmsgint(&buf, 4);
	for (int i = 0; i < n; i++)
	{
		int			len = pq_getmsgint(&buf, 4);

		(void) label_id(s, pq_getmsgbytes(&buf, len), len);
	}
	pairs = pq_getmsgint64(&buf);
	for (int64 i = 0; i < pairs; i++)
	{
		int			truth = pq_getmsgint(&buf, 4);
		int			predicted = pq_getmsgint(&buf, 4);

		count_pair(s, truth, predicted, pq_getmsgint64(&buf));
	}
	pq_getmsgend(&buf);
	PG_RETURN_POINTER(s);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(((const label_key *) a)->text, ((const label_key *) b)->text);
}

/* The state with labels in order, so that the order of the rows decides nothing. */
static label_state *
in_order(FunctionCallInfo fcinfo)
{
	label_state *s = (label_state *) PG_GETARG_POINTER(0);
	label_state *out = palloc0(sizeof(label_state));
	label_key  *label = palloc(s->n * sizeof(label_key));

	memcpy(label, s->label, s->n * sizeof(label_key));
	qsort(label, s->n, sizeof(label_key), by_text);
	out->cxt = CurrentMemoryContext;
	out->env = mr_pg_env(out->cxt);
	out->pairs.env = &out->env;
	out->table = labels_create(out->cxt, s->n, NULL);
	for (int i = 0; i < s->n; i++)
		(void) label_id(out, label[i].text, label[i].len);
	merge(out, s);
	return out;
}

static lrn_class_metrics *
figures_of(const label_state *s, lrn_metrics *f)
{
	lrn_class_metrics *per_class = palloc(s->n * sizeof(lrn_class_metrics));

	lrn_metrics_of(&s->pairs, s->n, f, per_class);
	return per_class;
}

/* Final functions of aggregates that have one figure. */
#define FIGURE(name, figure) \
PG_FUNCTION_INFO_V1(millrace_labels_##name); \
Datum \
millrace_labels_##name(PG_FUNCTION_ARGS) \
{ \
	lrn_metrics f; \
\
	if (PG_ARGISNULL(0)) \
		PG_RETURN_NULL(); \
	(void) figures_of(in_order(fcinfo), &f); \
	if (isnan(figure)) \
		PG_RETURN_NULL(); \
	PG_RETURN_FLOAT8(figure); \
}

FIGURE(accuracy, f.accuracy)
FIGURE(balanced_accuracy, f.balanced_accuracy)
FIGURE(cohen_kappa, f.kappa)
FIGURE(mcc, f.mcc)

/* Final functions of those that average over classes.  A class that occurs
 * nowhere has figure 0, as where a denominator is 0. */
#define AVERAGED(name) \
PG_FUNCTION_INFO_V1(millrace_labels_##name); \
Datum \
millrace_labels_##name(PG_FUNCTION_ARGS) \
{ \
	label_state *s; \
	lrn_metrics f; \
	lrn_class_metrics *per_class; \
	label_entry *e; \
\
	if (PG_ARGISNULL(0)) \
		PG_RETURN_NULL(); \
	s = in_order(fcinfo); \
	per_class = figures_of(s, &f); \
	switch (s->average) \
	{ \
		case AVERAGE_MACRO: \
			PG_RETURN_FLOAT8(f.name##_macro); \
		case AVERAGE_MICRO: \
			PG_RETURN_FLOAT8(f.accuracy); \
		case AVERAGE_WEIGHTED: \
			PG_RETURN_FLOAT8(f.name##_weighted); \
		case AVERAGE_BINARY: \
			break; \
	} \
	e = labels_lookup(s->table, (label_key) {s->of, strlen(s->of)}); \
	PG_RETURN_FLOAT8(e ? per_class[e->id].name : 0); \
}

AVERAGED(precision)
AVERAGED(recall)
AVERAGED(f1)

/* {"labels": [...], "counts": [[...], ...]}: true label by row, predicted by column. */
Datum
millrace_confusion_matrix(PG_FUNCTION_ARGS)
{
	label_state *s;
	int64	   *count;
	StringInfoData buf;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	s = in_order(fcinfo);
	if (s->n > MAX_MATRIX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a confusion matrix of %d labels is too large", s->n),
				 errdetail("It may have %d.", MAX_MATRIX),
				 errhint("Count the pairs instead: SELECT truth, predicted, count(*) ... GROUP BY 1, 2.")));
	count = palloc0((Size) s->n * s->n * sizeof(int64));
	for (size_t i = 0; i < s->pairs.size; i++)
		if (s->pairs.cell[i].count > 0)
			count[(Size) s->pairs.cell[i].truth * s->n + s->pairs.cell[i].predicted] = s->pairs.cell[i].count;
	initStringInfo(&buf);
	appendStringInfoString(&buf, "{\"labels\": [");
	for (int i = 0; i < s->n; i++)
	{
		appendStringInfoString(&buf, i ? ", " : "");
		escape_json(&buf, s->label[i].text);
	}
	appendStringInfoString(&buf, "], \"counts\": [");
	for (int i = 0; i < s->n; i++)
	{
		appendStringInfoString(&buf, i ? ", [" : "[");
		for (int j = 0; j < s->n; j++)
			appendStringInfo(&buf, j ? ", " INT64_FORMAT : INT64_FORMAT, count[(Size) i * s->n + j]);
		appendStringInfoChar(&buf, ']');
	}
	appendStringInfoString(&buf, "]}");
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data)));
}
