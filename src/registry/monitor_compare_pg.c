/*
 * monitor_compare_pg.c
 *	  A window's sketches against the reference's: figures, alarms, rows.
 *
 * All tests of a window are one family: each p is corrected for all of them,
 * and an alarm needs besides an effect that is worth one.  Small windows raise
 * none: below min_rows the figures are kept, and the reason says so.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "miscadmin.h"
#include "registry/monitor.h"
#include "registry/sketch_pg.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define TESTS		3			/* of a feature: distribution, shift or new categories, missing */
#define MOST_NEW	20			/* new categories that are named */

/* A feature in a window. */
typedef struct comparison
{
	lrn_drift	d;
	const double *adjusted;		/* its TESTS in the family */
	double		p,
				least_adjusted;
	bool		alarm;
	char	   *reason;
} comparison;

void
mon_store_sketches(const monitor *m, int window, lrn_sketch *const *sketch)
{
	Oid			types[] = {TEXTOID, INT4OID, TEXTOID, reg_sketch_type()};
	Datum		values[lengthof(types)] = {CStringGetTextDatum(m->name), Int32GetDatum(window)};

	for (int f = 0; f < m->n_features; f++)
	{
		struct varlena *bytes = reg_sketch_to_datum(sketch[f]);

		values[2] = CStringGetTextDatum(m->feature[f].name);
		values[3] = PointerGetDatum(bytes);
		reg_execute("INSERT INTO millrace.monitor_sketches (monitor, window_no, column_name, sketch) VALUES ($1, $2, $3, $4)",
					4, types, values, NULL, SPI_OK_INSERT);
		pfree(bytes);
	}
}

/* ---- the reference ---- */

typedef struct by_name
{
	const char *name;
	int			feature;
} by_name;

static int
compare_names(const void *a, const void *b)
{
	return strcmp(((const by_name *) a)->name, ((const by_name *) b)->name);
}

/* Windows that are the reference of this one; *first > *last: there are none. */
static void
reference_windows(const monitor *m, int window, int *first, int *last)
{
	static const Oid types[] = {TEXTOID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(m->name), Int32GetDatum(window)};
	bool		isnull;
	int			alarmed;

	*first = *last = -1;
	if (m->options.reference != MON_WINDOWS)
		return;
	*first = Max(window - m->options.reference_windows, 0);
	*last = window - 1;
	if (!m->options.restart)
		return;
	/* What an alarm has told is the new normal: later windows are held against it. */
	reg_execute("SELECT pg_catalog.max(window_no) FROM millrace.drift WHERE monitor = $1 AND window_no < $2 AND alarm",
				2, types, values, NULL, SPI_OK_SELECT);
	alarmed = DatumGetInt32(reg_result(0, 1, &isnull));
	if (!isnull)
		*first = Max(*first, alarmed);
}

/* Its sketches merged, one a feature; an empty one where there is nothing. */
static lrn_sketch **
read_reference(const monitor *m, int window, const mr_env *env)
{
	static const Oid types[] = {TEXTOID, INT4OID, INT4OID};
	Datum		values[3] = {CStringGetTextDatum(m->name)};
	lrn_sketch **sketch = palloc(m->n_features * sizeof(lrn_sketch *));
	by_name    *order = palloc(m->n_features * sizeof(by_name));
	uint64		rows;
	int			first,
				last;

	for (int f = 0; f < m->n_features; f++)
	{
		sketch[f] = reg_sketch_create(env, m->feature[f].kind);
		order[f] = (by_name) {m->feature[f].name, f};
	}
	qsort(order, m->n_features, sizeof(by_name), compare_names);
	reference_windows(m, window, &first, &last);
	values[1] = Int32GetDatum(first);
	values[2] = Int32GetDatum(last);
	rows = reg_execute("SELECT column_name, sketch FROM millrace.monitor_sketches WHERE monitor = $1 AND window_no BETWEEN $2 AND $3 "
					   "ORDER BY window_no, column_name", 3, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < rows; i++)
	{
		bool		isnull;
		by_name		key = {TextDatumGetCString(reg_result(i, 1, &isnull)), 0};
		by_name    *found = bsearch(&key, order, m->n_features, sizeof(by_name), compare_names);
		lrn_sketch *part;

		if (found == NULL)
			continue;
		part = reg_sketch_from_datum(env, reg_result(i, 2, &isnull));
		reg_sketch_merge(sketch[found->feature], part);
		lrn_sketch_free(part);
	}
	SPI_freetuptable(SPI_tuptable);
	return sketch;
}

/* ---- alarms ---- */

typedef struct fresh
{
	const char *text;
	int			len;
	int64		count;
} fresh;

static int
by_count(const void *a, const void *b)
{
	const fresh *x = a,
			   *y = b;

	return x->count > y->count ? -1 : x->count < y->count;
}

/* The most frequent categories that the reference lacks, as text[]; 0: none. */
static Datum
new_categories(const lrn_sketch *reference, const lrn_sketch *current, int *n)
{
	fresh	   *list;
	Datum		texts[MOST_NEW];
	lrn_sketch_info info;
	fresh		c;

	*n = 0;
	lrn_sketch_describe(current, &info);
	list = palloc((info.distinct + 1) * sizeof(fresh));
	for (int i = 0; lrn_sketch_category(current, i, &c.text, &c.len, &c.count); i++)
		if (lrn_drift_is_new(reference, c.text, c.len))
			list[(*n)++] = c;
	if (*n == 0)
		return (Datum) 0;
	qsort(list, *n, sizeof(fresh), by_count);
	*n = Min(*n, MOST_NEW);
	for (int i = 0; i < *n; i++)
		texts[i] = PointerGetDatum(cstring_to_text_with_len(list[i].text, list[i].len));
	return PointerGetDatum(construct_array(texts, *n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
add_reason(StringInfo reason, const char *fmt,...) MR_PRINTF(2, 3);

static void
add_reason(StringInfo reason, const char *fmt,...)
{
	char		text[256];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	appendStringInfo(reason, "%s%s", reason->len ? "; " : "", text);
}

static void
judge(const monitor *m, const mon_feature *f, comparison *c)
{
	const mon_options *o = &m->options;
	const lrn_drift *d = &c->d;
	const double *p = c->adjusted;
	StringInfoData reason;

	/* Comparisons with NaN are false: what was not measured raises no alarm. */
	initStringInfo(&reason);
	if (f->kind == LRN_SKETCH_NUMBER)
	{
		if ((p[0] <= o->alpha || p[1] <= o->alpha) &&
			(d->psi >= o->least.psi || d->ks >= o->least.ks || fabs(d->shift) >= o->least.shift))
			add_reason(&reason, "distribution: PSI %.2f, KS %.2f, shift %.2f sd (p %.1e)", d->psi, d->ks, d->shift, fmin(p[0], p[1]));
	}
	else
	{
		if (p[0] <= o->alpha && d->psi >= o->least.psi)
			add_reason(&reason, "distribution: PSI %.2f (p %.1e)", d->psi, p[0]);
		if (p[1] <= o->alpha && d->new_share >= o->least.fresh)
			add_reason(&reason, "new categories: %.1f %% of values (p %.1e)", d->new_share * 100, p[1]);
	}
	if (p[2] <= o->alpha && fabs(d->missing[1] - d->missing[0]) >= o->least.missing)
		add_reason(&reason, "missing: %.1f %% after %.1f %% (p %.1e)", d->missing[1] * 100, d->missing[0] * 100, p[2]);
	c->alarm = reason.len > 0;
	if (d->rows[1] == 0)
		add_reason(&reason, "no rows");
	else if (d->rows[0] == 0)
		add_reason(&reason, "no reference yet");
	else if (d->rows[1] < o->min_rows || d->rows[0] < o->min_rows)
	{
		bool		window = d->rows[1] < o->min_rows;

		c->alarm = false;
		resetStringInfo(&reason);
		add_reason(&reason, "%s has " INT64_FORMAT " rows, fewer than min_rows " INT64_FORMAT,
				   window ? "window" : "reference", d->rows[window], o->min_rows);
	}
	c->reason = reason.len ? reason.data : NULL;
}

/* ---- rows ---- */

/* A parameter list that grows. */
typedef struct parameters
{
	int			n;
	Oid			types[32];
	Datum		values[32];
	char		nulls[32];
} parameters;

static void
put(parameters *p, Oid type, Datum value, bool isnull)
{
	p->types[p->n] = type;
	p->values[p->n] = value;
	p->nulls[p->n++] = isnull ? 'n' : ' ';
}

static void
put_number(parameters *p, double x)
{
	put(p, FLOAT8OID, Float8GetDatum(x), isnan(x));
}

static void
write_row(const monitor *m, int window, const mon_feature *f, const comparison *c, Datum new_ones)
{
	const lrn_drift *d = &c->d;
	const double figures[] = {d->psi, d->js, d->ks, d->ks_p, d->shift, d->shift_p, d->mean_shift, d->sd_ratio, d->chi2,
	d->chi2_p, d->missing[1], d->missing[0], d->missing_p, d->new_share, d->new_p, c->p, c->least_adjusted};
	parameters	p = {0};

	put(&p, TEXTOID, CStringGetTextDatum(m->name), false);
	put(&p, INT4OID, Int32GetDatum(window), false);
	put(&p, TEXTOID, CStringGetTextDatum(f->name), false);
	put(&p, TIMESTAMPTZOID, TimestampTzGetDatum(mon_window(m, window)), false);
	put(&p, TIMESTAMPTZOID, TimestampTzGetDatum(mon_window(m, window + 1)), false);
	put(&p, TEXTOID, CStringGetTextDatum(f->prediction ? "prediction" : "feature"), false);
	put(&p, TEXTOID, CStringGetTextDatum(f->kind == LRN_SKETCH_NUMBER ? "number" : "category"), false);
	put(&p, INT8OID, Int64GetDatum(d->rows[1]), false);
	put(&p, INT8OID, Int64GetDatum(d->rows[0]), false);
	for (int i = 0; i < (int) lengthof(figures); i++)
		put_number(&p, figures[i]);
	put(&p, BOOLOID, BoolGetDatum(c->alarm), false);
	put(&p, TEXTOID, c->reason ? CStringGetTextDatum(c->reason) : (Datum) 0, c->reason == NULL);
	put(&p, TEXTARRAYOID, new_ones, new_ones == (Datum) 0);
	reg_execute("INSERT INTO millrace.drift (monitor, window_no, column_name, window_start, window_end, role, kind, rows, "
				"reference_rows, psi, jensen_shannon, ks, ks_p, shift, shift_p, mean_shift, sd_ratio, chi2, chi2_p, missing, "
				"reference_missing, missing_p, new_share, new_p, p, adjusted_p, alarm, reason, new_categories) VALUES ($1, $2, "
				"$3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, "
				"$26, $27, $28, $29)", p.n, p.types, p.values, p.nulls, SPI_OK_INSERT);
}

void
mon_compare(const monitor *m, int window, lrn_sketch *const *current)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace monitor window", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	mr_env		env = mr_pg_env(cxt);
	comparison *c = palloc0(m->n_features * sizeof(comparison));
	double	   *p = palloc(m->n_features * TESTS * sizeof(double)),
			   *adjusted = palloc(m->n_features * TESTS * sizeof(double));
	lrn_sketch **reference = read_reference(m, window, &env);
	mr_status	st;

	MemoryContextSwitchTo(cxt);
	for (int f = 0; f < m->n_features; f++)
	{
		lrn_drift  *d = &c[f].d;

		CHECK_FOR_INTERRUPTS();
		if (lrn_drift_compare(&env, reference[f], current[f], m->options.bins, d, &st) != MR_OK)
			mr_pg_raise(&st);
		p[f * TESTS] = m->feature[f].kind == LRN_SKETCH_NUMBER ? d->ks_p : d->chi2_p;
		p[f * TESTS + 1] = m->feature[f].kind == LRN_SKETCH_NUMBER ? d->shift_p : d->new_p;
		p[f * TESTS + 2] = d->missing_p;
	}
	reg_sketch_check(lrn_adjust_p(&env, m->options.correction, p, m->n_features * TESTS, adjusted));
	for (int f = 0; f < m->n_features; f++)
	{
		int			n;
		Datum		new_ones = new_categories(reference[f], current[f], &n);

		c[f].adjusted = adjusted + f * TESTS;
		c[f].p = c[f].least_adjusted = NAN;
		for (int t = 0; t < TESTS; t++)
		{
			c[f].p = fmin(c[f].p, p[f * TESTS + t]);
			c[f].least_adjusted = fmin(c[f].least_adjusted, c[f].adjusted[t]);
		}
		judge(m, &m->feature[f], &c[f]);
		write_row(m, window, &m->feature[f], &c[f], c[f].d.rows[0] > 0 ? new_ones : (Datum) 0);
		MemoryContextSwitchTo(cxt); /* SPI leaves its own */
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}
