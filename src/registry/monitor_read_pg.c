/*
 * monitor_read_pg.c
 *	  Running a monitor's queries, and rows into sketches.
 *
 * Rows never become SPI tuples: the executor hands its slots to a receiver,
 * which puts numbers into one buffer a feature and adds them to the sketches
 * in blocks.  A block belongs to one window; it is added early when a row of
 * another window comes, so rows in about the order of time are cheapest.  No
 * parallel plans: their order of rows is another each time, and beyond 1,024
 * values a sketch depends on it.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "registry/monitor.h"
#include "registry/sketch_pg.h"
#include "registry/train_data.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

/* ---- whose query, and what it may do ---- */

static void
name_monitor(void *arg)
{
	errcontext("monitor \"%s\"", ((const monitor *) arg)->name);
}

void
mon_become_owner(mon_user *save, const monitor *m)
{
	GetUserIdAndSecContext(&save->user, &save->context);
	save->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(m->owner, save->context | SECURITY_RESTRICTED_OPERATION | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", m->search_path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	/* Rows come in the order of the table, so that two runs make the same sketches. */
	(void) set_config_option("synchronize_seqscans", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	save->error = (ErrorContextCallback) {error_context_stack, name_monitor, unconstify(monitor *, m)};
	error_context_stack = &save->error;
}

void
mon_become_caller(const mon_user *save)
{
	error_context_stack = save->error.previous;
	SPI_finish();
	AtEOXact_GUC(false, save->guc_level);
	SetUserIdAndSecContext(save->user, save->context);
}

char *
mon_from_item(const char *query)
{
	int			len = strlen(query);
	bool		one_word = true;

	while (len > 0 && (isspace((unsigned char) query[len - 1]) || query[len - 1] == ';'))
		len--;
	for (int i = 0; i < len; i++)
		one_word = one_word && !isspace((unsigned char) query[i]) && query[i] != '(';
	/* The line break ends a comment that the query may end with. */
	return psprintf("(%s%.*s\n) AS q", one_word ? "TABLE " : "", len, query);
}

/* With a snapshot of now, and without writing, whatever the query calls. */
static void
execute(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls, DestReceiver *dest)
{
	SPIPlanPtr	plan = train_prepare(sql, nargs, types);
	SPIExecuteOptions options = {.read_only = true, .dest = dest};
	int			rc;
	train_guard guard;

	if (nargs > 0)
	{
		options.params = makeParamList(nargs);
		for (int i = 0; i < nargs; i++)
			options.params->params[i] = (ParamExternData) {
			.value = values[i], .isnull = nulls && nulls[i] == 'n', .pflags = PARAM_FLAG_CONST, .ptype = types[i]
		};
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	train_guard_begin(&guard);
	rc = SPI_execute_plan_extended(plan, &options);
	train_guard_end(&guard);
	PopActiveSnapshot();
	SPI_freeplan(plan);
	if (rc != SPI_OK_SELECT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query did not return rows: %s", SPI_result_code_string(rc))));
}

void
mon_select(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	execute(sql, nargs, types, values, nulls, NULL);
}

Oid
mon_time_type(const monitor *m)
{
	SPIPlanPtr	plan = train_prepare(psprintf("SELECT q.%s FROM %s", quote_identifier(m->options.time), mon_from_item(m->query)),
									 0, NULL);
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
	Oid			type = getBaseType(TupleDescAttr(source->resultDesc, 0)->atttypid);

	SPI_freeplan(plan);
	if (type != TIMESTAMPTZOID && type != TIMESTAMPOID && type != DATEOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of type %s cannot be the time of rows", m->options.time, format_type_be(type)),
				 errdetail("It must be timestamp with or without time zone, or date.")));
	return type;
}

Datum
mon_bound(const monitor *m, Oid time_type, TimestampTz t, Oid *type)
{
	*type = time_type == TIMESTAMPTZOID ? TIMESTAMPTZOID : TIMESTAMPOID;
	if (time_type == TIMESTAMPTZOID)
		return TimestampTzGetDatum(t);
	return DirectFunctionCall2(timestamptz_zone, CStringGetTextDatum(m->options.timezone), TimestampTzGetDatum(t));
}

/* ---- rows into sketches ---- */

typedef struct reader
{
	DestReceiver pub;
	const monitor *m;
	train_source *source;		/* a column */
	FmgrInfo   *output;			/* of a category; fn_oid 0: the value is its text */
	bool		date;			/* the time is a date */
	const int64 *bound;			/* n_windows + 1 in the time's own type, or NULL */
	int			n_windows;
	int			window;			/* of the rows in the buffer */
	int			n;				/* rows in the buffer */
	double	   *buffer;			/* LRN_SKETCH_BLOCK a feature */
	lrn_sketch **sketch;		/* n_windows x n_features */
	const mr_env *env;
	MemoryContext row_cxt;		/* of detoasted values, for a block */
} reader;

static void
flush(reader *r)
{
	for (int f = 0; f < r->m->n_features && r->n > 0; f++)
		if (r->m->feature[f].kind == LRN_SKETCH_NUMBER)
			reg_sketch_check(lrn_sketch_add(r->sketch[r->window * r->m->n_features + f],
											r->buffer + (size_t) f * LRN_SKETCH_BLOCK, r->n));
	r->n = 0;
	MemoryContextReset(r->row_cxt);
	CHECK_FOR_INTERRUPTS();
}

/* Window of a row; the query gave no row outside all of them. */
static void
find_window(reader *r, int64 t)
{
	int			lo = 0,
				hi = r->n_windows;

	if (t >= r->bound[r->window] && t < r->bound[r->window + 1])
		return;
	flush(r);
	while (hi - lo > 1)
	{
		int			mid = (lo + hi) / 2;

		if (r->bound[mid] <= t)
			lo = mid;
		else
			hi = mid;
	}
	r->window = lo;
}

static void
put_array(reader *r, const mon_column *c, bool wide, ArrayType *a, double *cell)
{
	int			n = ARR_NDIM(a) == 0 ? 0 : ARR_DIMS(a)[0];
	bits8	   *nulls = ARR_NULLBITMAP(a);
	char	   *p = ARR_DATA_PTR(a);

	if (ARR_NDIM(a) > 1 || n != c->width)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" of monitor \"%s\" holds an array of %d elements in %d dimensions",
						c->name, r->m->name, n, ARR_NDIM(a)),
				 errdetail("When the monitor was created it had %d in one.", c->width)));
	for (int i = 0; i < n; i++, cell += LRN_SKETCH_BLOCK)
	{
		float4		single;

		*cell = NAN;
		if (nulls && !(nulls[i / 8] & (1 << (i % 8))))
			continue;
		if (wide)
			memcpy(cell, p, sizeof(double));
		else
		{
			memcpy(&single, p, sizeof(single));
			*cell = single;
		}
		p += wide ? sizeof(double) : sizeof(float);
	}
}

static void
put_category(reader *r, int column, int feature, Datum value, bool isnull)
{
	lrn_sketch *s = r->sketch[r->window * r->m->n_features + feature];

	if (isnull)
		reg_sketch_check(lrn_sketch_add_text(s, NULL, 0, 1));
	else if (r->source[column] == TRAIN_BOOL)
		reg_sketch_check(lrn_sketch_add_text(s, DatumGetBool(value) ? "true" : "false", DatumGetBool(value) ? 4 : 5, 1));
	else if (!OidIsValid(r->output[column].fn_oid))
	{
		text	   *t = DatumGetTextPP(value);

		reg_sketch_add_text(s, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
	}
	else
	{
		char	   *t = OutputFunctionCall(&r->output[column], value);

		reg_sketch_add_text(s, t, strlen(t));
	}
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	reader	   *r = (reader *) self;
	const monitor *m = r->m;
	int			feature = 0;
	MemoryContext old;

	slot_getallattrs(slot);
	if (r->bound)
		find_window(r, r->date ? date2timestamp_opt_overflow(DatumGetDateADT(slot->tts_values[m->n_columns]), NULL) :
					DatumGetInt64(slot->tts_values[m->n_columns]));
	old = MemoryContextSwitchTo(r->row_cxt);
	for (int i = 0; i < m->n_columns; i++)
	{
		const mon_column *c = &m->column[i];
		Datum		v = slot->tts_values[i];
		double	   *cell = r->buffer + (size_t) feature * LRN_SKETCH_BLOCK + r->n;

		if (c->kind == MON_CATEGORY)
			put_category(r, i, feature, v, slot->tts_isnull[i]);
		else if (slot->tts_isnull[i])
			for (int k = 0; k < c->width; k++)
				cell[(size_t) k * LRN_SKETCH_BLOCK] = NAN;
		else
			switch (r->source[i])
			{
				case TRAIN_FLOAT4_ARRAY:
				case TRAIN_FLOAT8_ARRAY:
					put_array(r, c, r->source[i] == TRAIN_FLOAT8_ARRAY, DatumGetArrayTypeP(v), cell);
					break;
				case TRAIN_NUMERIC:	/* beyond a double it is infinite, no error */
					*cell = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, v));
					break;
				default:
					*cell = train_number(r->source[i], v);
			}
		feature += c->width;
	}
	MemoryContextSwitchTo(old);
	if (++r->n == LRN_SKETCH_BLOCK)
		flush(r);
	return true;
}

/* What a type gives; false: nothing that can be watched. */
static bool
source_of(Oid type, train_source *source, mon_kind *kind)
{
	bool		known = train_source_of(type, source);

	if (*source == TRAIN_FLOAT4_ARRAY || *source == TRAIN_FLOAT8_ARRAY)
		*kind = MON_ARRAY;
	else
		*kind = *source == TRAIN_BOOL || *source == TRAIN_CATEGORY ? MON_CATEGORY : MON_NUMBER;
	return known;
}

/* The columns must still be what they were. */
static void
startup(DestReceiver *self, int operation, TupleDesc desc)
{
	reader	   *r = (reader *) self;

	for (int i = 0; i < r->m->n_columns; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;
		Oid			base = getBaseType(type);
		mon_kind	kind;

		if (!source_of(base, &r->source[i], &kind) || kind != r->m->column[i].kind)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of monitor \"%s\" has become %s", r->m->column[i].name, r->m->name, format_type_be(type)),
					 errhint("Cast it in the query, or drop the monitor and create it anew.")));
		if (r->source[i] == TRAIN_CATEGORY && base != TEXTOID && base != VARCHAROID)
		{
			Oid			function;
			bool		varlena;

			getTypeOutputInfo(type, &function, &varlena);
			fmgr_info(function, &r->output[i]);
		}
	}
	r->date = r->bound && getBaseType(TupleDescAttr(desc, r->m->n_columns)->atttypid) == DATEOID;
}

static void
nothing(DestReceiver *self)
{
}

void
mon_sketch_rows(const monitor *m, const char *from, const TimestampTz *bound, int n,
				const mr_env *env, lrn_sketch **sketch)
{
	reader		r = {
		.pub = {receive, startup, nothing, nothing, DestTuplestore},	/* SPI only asks whether it is its own */
		.m = m, .n_windows = n, .sketch = sketch, .env = env
	};
	StringInfoData sql;
	Oid			types[2];
	Datum		values[2];

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < m->n_columns; i++)
		appendStringInfo(&sql, "%sq.%s", i ? ", " : "", quote_identifier(m->column[i].name));
	if (bound)
	{
		const char *time = quote_identifier(m->options.time);
		Oid			time_type = mon_time_type(m);
		int64	   *own = palloc((n + 1) * sizeof(int64));

		for (int i = 0; i <= n; i++)
			own[i] = DatumGetInt64(mon_bound(m, time_type, bound[i], &types[0]));
		r.bound = own;
		types[1] = types[0];
		values[0] = Int64GetDatum(own[0]);
		values[1] = Int64GetDatum(own[n]);
		appendStringInfo(&sql, ", q.%s FROM %s WHERE q.%s >= $1 AND q.%s < $2", time, from, time, time);
	}
	else
		appendStringInfo(&sql, " FROM %s", from);
	r.source = palloc0(m->n_columns * sizeof(train_source));
	r.output = palloc0(m->n_columns * sizeof(FmgrInfo));
	r.buffer = palloc_extended((Size) m->n_features * LRN_SKETCH_BLOCK * sizeof(double), MCXT_ALLOC_HUGE);
	r.row_cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace monitor rows", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < n * m->n_features; i++)
		sketch[i] = reg_sketch_create(env, m->feature[i % m->n_features].kind);
	execute(sql.data, bound ? 2 : 0, types, values, NULL, &r.pub);
	flush(&r);
	MemoryContextDelete(r.row_cxt);
	pfree(r.buffer);
}

/* ---- what can be watched ---- */

static bool
in_list(const List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	return false;
}

/* Elements of an array column, from its first row. */
static int
array_width(const monitor *m, const char *name)
{
	const char *column = quote_identifier(name);
	bool		isnull = true;
	int			width = 0;

	mon_select(psprintf("SELECT pg_catalog.cardinality(q.%s) FROM %s WHERE q.%s IS NOT NULL LIMIT 1", column,
						mon_from_item(m->query), column), 0, NULL, NULL, NULL);
	if (SPI_processed > 0)
		width = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (isnull || width == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" has no array in any row", name),
				 errdetail("The number of its elements cannot be known."),
				 errhint("Create the monitor once there are rows, or leave the column out of option \"columns\".")));
	return width;
}

void
mon_find_columns(monitor *m)
{
	const mon_options *o = &m->options;
	MemoryContext cxt = GetMemoryChunkContext(m);
	SPIPlanPtr	plan = train_prepare(psprintf("SELECT * FROM %s", mon_from_item(m->query)), 0, NULL);
	TupleDesc	desc = CreateTupleDescCopy(((CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan)))->resultDesc);
	ListCell   *lc;

	SPI_freeplan(plan);
	m->column = MemoryContextAllocZero(cxt, Max(desc->natts, 1) * sizeof(mon_column));
	m->n_columns = 0;
	for (int i = 0; i < desc->natts; i++)
	{
		char	   *name = NameStr(TupleDescAttr(desc, i)->attname);
		mon_column *c = &m->column[m->n_columns];
		bool		prediction = in_list(o->prediction, name);
		bool		asked = prediction || in_list(o->columns, name);
		train_source source;

		if (!asked && (o->columns || strcmp(name, o->time) == 0 || (o->key && strcmp(name, o->key) == 0)))
			continue;
		for (int other = 0; other < m->n_columns; other++)
			if (strcmp(m->column[other].name, name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_AMBIGUOUS_COLUMN),
						 errmsg("query has more than one column named \"%s\"", name)));
		if (!source_of(getBaseType(TupleDescAttr(desc, i)->atttypid), &source, &c->kind))
		{
			if (asked)
				ereport(ERROR,
						(errcode(ERRCODE_DATATYPE_MISMATCH),
						 errmsg("column \"%s\" of type %s cannot be watched", name,
								format_type_be(TupleDescAttr(desc, i)->atttypid)),
						 errdetail("Columns are numeric, boolean, text, enum, real[] or double precision[]."),
						 errhint("Cast it in the query.")));
			continue;
		}
		c->name = MemoryContextStrdup(cxt, name);
		c->prediction = prediction;
		c->width = c->kind == MON_ARRAY ? array_width(m, name) : 1;
		m->n_columns++;
	}
	foreach(lc, list_concat_copy(o->columns, o->prediction))
	{
		bool		found = false;

		for (int i = 0; i < m->n_columns; i++)
			found = found || strcmp(m->column[i].name, lfirst(lc)) == 0;
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("query has no column \"%s\"", (char *) lfirst(lc))));
	}
	if (m->n_columns == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query has no column that can be watched")));
}
