/*
 * monitor_options_pg.c
 *	  Options and columns of a monitor between jsonb and C, and its windows.
 *
 * Window n begins at first_window + n * window on the clock of the monitor's
 * time zone: a day has 23 or 25 hours where the clock changes, a month begins
 * on the same day.
 */
#include "postgres.h"

#include "registry/monitor.h"
#include "registry/train_json.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

static void
bad_option(const char *name, const char *must)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be %s", name, must)));
}

static char *
get_text(const char *name, const JsonbValue *v)
{
	if (v->type != jbvString || v->val.string.len == 0)
		bad_option(name, "a text");
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static double
get_number(const char *name, const JsonbValue *v, double least, double most)
{
	double		x = 0;

	if (v->type != jbvNumeric)
		bad_option(name, "a number");
	x = DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(v->val.numeric)));
	if (!(x >= least && x <= most))
		bad_option(name, psprintf("a number between %g and %g", least, most));
	return x;
}

static int
get_integer(const char *name, const JsonbValue *v, int least, int most)
{
	double		x = get_number(name, v, least, most);

	if (x != (int) x)
		bad_option(name, "a whole number");
	return (int) x;
}

/* Windows are counted in 32 bits from 2001 on, so they are not shorter than a minute. */
static Interval *
get_interval(const char *name, const JsonbValue *v, bool window)
{
	Interval   *span = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(get_text(name, v)),
															 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));

	if (span->month < 0 || span->day < 0 || span->time < 0 ||
		(window && span->month == 0 && span->day == 0 && span->time < USECS_PER_MINUTE))
		bad_option(name, window ? "an interval of a minute or more" : "an interval of zero or more");
	return span;
}

static TimestampTz
get_time(const char *name, const JsonbValue *v)
{
	TimestampTz t = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(get_text(name, v)),
															ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));

	if (TIMESTAMP_NOT_FINITE(t))
		bad_option(name, "a finite time");
	return t;
}

static List *
get_names(const char *name, const JsonbValue *v)
{
	List	   *list = NIL;
	uint32		n;

	if (v->type == jbvString)
		return list_make1(get_text(name, v));
	if (v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data) || JsonContainerSize(v->val.binary.data) == 0)
		bad_option(name, "an array of column names");
	n = JsonContainerSize(v->val.binary.data);
	for (uint32 i = 0; i < n; i++)
		list = lappend(list, get_text(name, getIthJsonbValueFromContainer(v->val.binary.data, i)));
	return list;
}

/* Call each() for every member of an object. */
typedef void (*member) (mon_options *o, const char *name, const JsonbValue *v);

static void
each_member(const char *what, JsonbContainer *object, member each, mon_options *o)
{
	JsonbIterator *it;
	JsonbValue	v;

	if (!JsonContainerIsObject(object))
		bad_option(what, "a JSON object");
	it = JsonbIteratorInit(object);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);

		(void) JsonbIteratorNext(&it, &v, true);
		each(o, name, &v);
	}
}

static void
set_reference(mon_options *o, const char *name, const JsonbValue *v)
{
	if (strcmp(name, "windows") == 0)
	{
		o->reference = MON_WINDOWS;
		o->reference_windows = get_integer("reference.windows", v, 1, 1000);
	}
	else if (strcmp(name, "restart") == 0)
	{
		if (v->type != jbvBool)
			bad_option("reference.restart", "true or false");
		o->restart = v->val.boolean;
	}
	else if (strcmp(name, "from") == 0 || strcmp(name, "to") == 0)
	{
		o->reference = MON_PERIOD;
		*(name[0] == 'f' ? &o->from : &o->to) = get_time(name, v);
	}
	else if (strcmp(name, "query") == 0 || strcmp(name, "model") == 0)
	{
		o->reference = name[0] == 'q' ? MON_QUERY : MON_MODEL;
		o->reference_query = get_text(name, v);
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"reference\" has no member \"%s\"", name),
				 errhint("It is one of {\"windows\": n, \"restart\": boolean}, {\"from\": time, \"to\": time}, {\"query\": text}, {\"model\": text}.")));
}

static void
set_threshold(mon_options *o, const char *name, const JsonbValue *v)
{
	const struct
	{
		const char *name;
		double	   *value;
	}			known[] = {
		{"psi", &o->least.psi}, {"ks", &o->least.ks}, {"shift", &o->least.shift},
		{"missing", &o->least.missing}, {"new", &o->least.fresh}, {"performance", &o->least.performance}
	};

	for (int i = 0; i < (int) lengthof(known); i++)
		if (strcmp(name, known[i].name) == 0)
		{
			*known[i].value = get_number(name, v, 0, 1e9);
			return;
		}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"thresholds\" has no member \"%s\"", name),
			 errhint("Known thresholds: psi, ks, shift, missing, new, performance.")));
}

static void
set_correction(mon_options *o, const JsonbValue *v)
{
	char	   *text = get_text("correction", v);

	if (strcmp(text, "holm") == 0)
		o->correction = LRN_CORRECT_HOLM;
	else if (strcmp(text, "bh") == 0)
		o->correction = LRN_CORRECT_BH;
	else if (strcmp(text, "none") == 0)
		o->correction = LRN_CORRECT_NONE;
	else
		bad_option("correction", "holm, bh or none");
}

static void
set_option(mon_options *o, const char *name, const JsonbValue *v)
{
	if (strcmp(name, "time") == 0)
		o->time = get_text(name, v);
	else if (strcmp(name, "window") == 0)
		o->window = get_interval(name, v, true);
	else if (strcmp(name, "lateness") == 0)
		o->lateness = get_interval(name, v, false);
	else if (strcmp(name, "timezone") == 0)
		o->timezone = get_text(name, v);
	else if (strcmp(name, "start") == 0)
	{
		o->start = get_time(name, v);
		o->has_start = true;
	}
	else if (strcmp(name, "reference") == 0)
	{
		if (v->type != jbvBinary)
			bad_option(name, "a JSON object");
		each_member(name, v->val.binary.data, set_reference, o);
	}
	else if (strcmp(name, "thresholds") == 0)
	{
		if (v->type != jbvBinary)
			bad_option(name, "a JSON object");
		each_member(name, v->val.binary.data, set_threshold, o);
	}
	else if (strcmp(name, "columns") == 0)
		o->columns = get_names(name, v);
	else if (strcmp(name, "prediction") == 0)
		o->prediction = get_names(name, v);
	else if (strcmp(name, "key") == 0)
		o->key = get_text(name, v);
	else if (strcmp(name, "label") == 0)
		o->label = get_text(name, v);
	else if (strcmp(name, "label_query") == 0)
		o->label_query = get_text(name, v);
	else if (strcmp(name, "label_delay") == 0)
		o->label_delay = get_interval(name, v, false);
	else if (strcmp(name, "min_rows") == 0)
		o->min_rows = get_integer(name, v, 2, 1000000000);
	else if (strcmp(name, "bins") == 0)
		o->bins = get_integer(name, v, 2, LRN_MAX_BINS);
	else if (strcmp(name, "alpha") == 0)
		o->alpha = get_number(name, v, 1e-12, 0.5);
	else if (strcmp(name, "correction") == 0)
		set_correction(o, v);
	else if (strcmp(name, "scheduled") == 0)
	{
		if (v->type != jbvBool)
			bad_option(name, "true or false");
		o->scheduled = v->val.boolean;
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("create_monitor() has no option \"%s\"", name),
				 errhint("Known options: time, window, start, timezone, lateness, reference, columns, prediction, key, label, "
						 "label_query, label_delay, min_rows, bins, alpha, correction, thresholds, scheduled.")));
}

void
mon_parse_options(Jsonb *json, mon_options *o)
{
	*o = (mon_options) {
		.timezone = "UTC", .reference = MON_WINDOWS, .reference_windows = 4, .restart = true,
		.from = DT_NOBEGIN, .to = DT_NOEND, .label = "label", .min_rows = 100, .bins = LRN_DRIFT_BINS,
		.alpha = 0.001, .correction = LRN_CORRECT_HOLM, .scheduled = true,
		.least = {.psi = 0.1, .ks = 0.1, .shift = 0.1, .missing = 0.02, .fresh = 0.01, .performance = 0.02}
	};
	o->window = palloc0(sizeof(Interval));
	o->window->day = 7;
	o->lateness = palloc0(sizeof(Interval));
	o->label_delay = palloc0(sizeof(Interval));
	o->label_delay->day = 28;
	each_member("options", &json->root, set_option, o);
	if (o->time == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"time\" is missing"),
				 errhint("Name the column that says when a row happened: {\"time\": \"created_at\"}.")));
	if (o->reference == MON_PERIOD && (TIMESTAMP_NOT_FINITE(o->from) || TIMESTAMP_NOT_FINITE(o->to) || o->from >= o->to))
		bad_option("reference", "a period with \"from\" before \"to\"");
	if (o->label_query && (o->key == NULL || o->prediction == NIL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"label_query\" needs the options \"key\" and \"prediction\""),
				 errhint("key is the column of both queries that joins a row with its label.")));
	/* An unknown zone is found now. */
	(void) mon_later(o, 0, o->window);
}

/* ---- columns ---- */

static const char *const kind_name[] = {"number", "category", "array"};

Jsonb *
mon_columns_json(const monitor *m)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < m->n_columns; i++)
	{
		const mon_column *c = &m->column[i];

		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		json_push_string(&state, "name", c->name);
		json_push_string(&state, "kind", kind_name[c->kind]);
		json_push_integer(&state, "width", c->width);
		json_push_bool(&state, "prediction", c->prediction);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

static JsonbValue *
column_member(JsonbContainer *column, const char *name, enum jbvType type)
{
	JsonbValue *v = getKeyJsonValueFromContainer(column, name, strlen(name), NULL);

	if (v == NULL || v->type != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("millrace.monitors has columns that create_monitor() did not write")));
	return v;
}

void
mon_parse_columns(monitor *m, Jsonb *json)
{
	m->n_columns = JB_ROOT_COUNT(json);
	m->column = palloc0(Max(m->n_columns, 1) * sizeof(mon_column));
	for (int i = 0; i < m->n_columns; i++)
	{
		mon_column *c = &m->column[i];
		JsonbValue *v = getIthJsonbValueFromContainer(&json->root, i);
		JsonbContainer *object = v->val.binary.data;
		char	   *kind;

		v = column_member(object, "name", jbvString);
		c->name = pnstrdup(v->val.string.val, v->val.string.len);
		v = column_member(object, "kind", jbvString);
		kind = pnstrdup(v->val.string.val, v->val.string.len);
		while (c->kind < MON_ARRAY && strcmp(kind, kind_name[c->kind]) != 0)
			c->kind++;
		c->width = DatumGetInt32(DirectFunctionCall1(numeric_int4,
													 NumericGetDatum(column_member(object, "width", jbvNumeric)->val.numeric)));
		c->prediction = column_member(object, "prediction", jbvBool)->val.boolean;
	}
	mon_unroll(m);
}

/* Features of the columns. */
void
mon_unroll(monitor *m)
{
	int			n = 0;

	for (int i = 0; i < m->n_columns; i++)
	{
		n += m->column[i].width;
		if (n > MON_MAX_FEATURES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("query has more than %d columns to watch", MON_MAX_FEATURES),
					 errhint("Name some of them in option \"columns\".")));
	}
	m->feature = palloc0(Max(n, 1) * sizeof(mon_feature));
	m->n_features = 0;
	for (int i = 0; i < m->n_columns; i++)
	{
		const mon_column *c = &m->column[i];

		for (int k = 0; k < c->width; k++)
		{
			mon_feature *f = &m->feature[m->n_features++];

			f->name = c->kind == MON_ARRAY ? psprintf("%s_%d", c->name, k + 1) : c->name;
			f->kind = c->kind == MON_CATEGORY ? LRN_SKETCH_CATEGORY : LRN_SKETCH_NUMBER;
			f->prediction = c->prediction;
		}
	}
}

/* ---- windows ---- */

TimestampTz
mon_later(const mon_options *o, TimestampTz t, const Interval *by)
{
	Datum		zone = CStringGetTextDatum(o->timezone);
	Datum		local = DirectFunctionCall2(timestamptz_zone, zone, TimestampTzGetDatum(t));

	local = DirectFunctionCall2(timestamp_pl_interval, local, IntervalPGetDatum(by));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, zone, local));
}

TimestampTz
mon_window(const monitor *m, int n)
{
	Interval   *span = DatumGetIntervalP(DirectFunctionCall2(interval_mul, IntervalPGetDatum(m->options.window),
															 Float8GetDatum(n)));

	return mon_later(&m->options, m->first_window, span);
}

/* By doubling and halving from Monday, 1 January 2001. */
TimestampTz
mon_align(const mon_options *o, TimestampTz t)
{
	monitor		m = {.options = *o};
	int			lo,
				hi = 1,
				side;

	m.first_window = DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, CStringGetTextDatum(o->timezone),
															 DirectFunctionCall3(timestamp_in, CStringGetDatum("2001-01-01"),
																				 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
	side = t < m.first_window ? -1 : 1;
	while (hi < 1 << 29 && (side > 0 ? mon_window(&m, hi) <= t : mon_window(&m, -hi) > t))
		hi *= 2;
	/* lo at or before t, hi after it */
	lo = side > 0 ? 0 : -hi;
	hi = side > 0 ? hi : 0;
	while (hi - lo > 1)
	{
		int			mid = lo + (hi - lo) / 2;

		if (mon_window(&m, mid) <= t)
			lo = mid;
		else
			hi = mid;
	}
	return mon_window(&m, lo);
}
