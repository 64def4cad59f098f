/*
 * monitor_labels_pg.c
 *	  How right predictions were, once labels arrive.
 *
 * A window is measured again in every run until all its predictions have a
 * label or label_delay is over; only such windows are read.  The baseline is
 * the accuracy of the reference, if it is a period and has labels enough, else
 * of all final windows before that raised no alarm, taken together.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "learn/metrics.h"
#include "miscadmin.h"
#include "registry/monitor.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MOST_PAIRS	1000000		/* of a predicted and a true label */

typedef struct measured
{
	int64		rows;			/* with a prediction */
	int64		labelled;
	double		accuracy,
				f1;
} measured;

typedef struct pair
{
	char	   *predicted;
	char	   *truth;
	int64		rows;
} pair;

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Figures of the pairs, by a confusion matrix of the labels that occur. */
static void
figures(const pair *pairs, int n, measured *out)
{
	char	  **label = palloc(Max(2 * n, 1) * sizeof(char *));
	int			n_labels = 0;
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	lrn_confusion confusion = {.env = &env};
	lrn_metrics f;
	mr_status	st;

	for (int i = 0; i < n; i++)
	{
		label[2 * i] = pairs[i].predicted;
		label[2 * i + 1] = pairs[i].truth;
	}
	qsort(label, 2 * n, sizeof(char *), by_text);
	for (int i = 0; i < 2 * n; i++)
		if (n_labels == 0 || strcmp(label[n_labels - 1], label[i]) != 0)
			label[n_labels++] = label[i];
	for (int i = 0; i < n; i++)
	{
		char	  **truth = bsearch(&pairs[i].truth, label, n_labels, sizeof(char *), by_text),
				  **predicted = bsearch(&pairs[i].predicted, label, n_labels, sizeof(char *), by_text);

		if (lrn_confusion_add(&confusion, truth - label, predicted - label, pairs[i].rows, &st) != MR_OK)
			mr_pg_raise(&st);
	}
	lrn_metrics_of(&confusion, n_labels, &f, palloc_extended(Max(n_labels, 1) * sizeof(lrn_class_metrics), MCXT_ALLOC_HUGE));
	out->labelled = f.rows;
	out->accuracy = f.accuracy;
	out->f1 = f.f1_macro;
}

/* Join predictions and labels of a window, or of the reference's period (-1). */
static void
measure(const monitor *m, int window, measured *out)
{
	const mon_options *o = &m->options;
	const char *key = quote_identifier(o->key),
			   *time = quote_identifier(o->time),
			   *predicted = quote_identifier(linitial(o->prediction)),
			   *label = quote_identifier(o->label);
	MemoryContext cxt = CurrentMemoryContext;
	Oid			type,
				types[2];
	Datum		bound[2];
	pair	   *pairs;
	int			n = 0;
	mon_user	save;

	memset(out, 0, sizeof(*out));
	mon_become_owner(&save, m);
	type = mon_time_type(m);
	bound[0] = mon_bound(m, type, window < 0 ? o->from : mon_window(m, window), &types[0]);
	bound[1] = mon_bound(m, type, window < 0 ? o->to : mon_window(m, window + 1), &types[1]);
	/* Rows that have no label yet are counted with a null one. */
	mon_select(psprintf("SELECT q.%s::pg_catalog.text, l.label::pg_catalog.text, pg_catalog.count(*) FROM %s "
						"LEFT JOIN (SELECT q.%s AS key, q.%s AS label FROM %s) AS l ON l.key = q.%s "
						"WHERE q.%s >= $1 AND q.%s < $2 AND q.%s IS NOT NULL GROUP BY 1, 2 LIMIT %d",
						predicted, mon_from_item(m->query), key, label, mon_from_item(o->label_query), key,
						time, time, predicted, MOST_PAIRS), 2, types, bound, NULL);
	MemoryContextSwitchTo(cxt);
	pairs = palloc_extended((SPI_processed + 1) * sizeof(pair), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int64		rows = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		Datum		truth = SPI_getbinval(row, desc, 2, &isnull);

		out->rows += rows;
		if (isnull)
			continue;
		pairs[n++] = (pair) {
			TextDatumGetCString(SPI_getbinval(row, desc, 1, &isnull)), TextDatumGetCString(truth), rows
		};
	}
	mon_become_caller(&save);
	figures(pairs, n, out);
}

/* Right predictions and labels of what this window is held against; 0 labels: nothing. */
static void
baseline(const monitor *m, int window, double *right, double *labelled)
{
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(m->name), Int32GetDatum(window), Int64GetDatum(m->options.min_rows)};
	bool		isnull;

	reg_execute("SELECT pg_catalog.sum(accuracy * labelled), pg_catalog.sum(labelled)::double precision "
				"FROM millrace.monitor_performance WHERE monitor = $1 AND window_no < $2 AND labelled > 0 AND NOT alarm AND "
				"(window_no = -1 OR (final AND NOT EXISTS (SELECT FROM millrace.monitor_performance r "
				"WHERE r.monitor = $1 AND r.window_no = -1 AND r.labelled >= $3)))",
				3, types, values, NULL, SPI_OK_SELECT);
	*right = DatumGetFloat8(reg_result(0, 1, &isnull));
	*labelled = DatumGetFloat8(reg_result(0, 2, &isnull));
	if (isnull)
		*right = *labelled = 0;
}

static void
write_measured(const monitor *m, int window, const measured *f, bool final)
{
	static const Oid types[] = {TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, FLOAT8OID, FLOAT8OID,
	FLOAT8OID, FLOAT8OID, BOOLOID, TEXTOID, BOOLOID};
	const mon_options *o = &m->options;
	char		nulls[] = "             ";
	Datum		values[lengthof(types)];
	double		right,
				labelled,
				base = NAN,
				p = NAN;
	char	   *reason = NULL;
	bool		alarm = false;
	reg_write	w;

	reg_write_begin(&w, "run_monitor()");
	baseline(m, window, &right, &labelled);
	if (window >= 0 && f->labelled < o->min_rows)
		reason = psprintf(INT64_FORMAT " labels, fewer than min_rows " INT64_FORMAT, f->labelled, o->min_rows);
	else if (window >= 0 && labelled < o->min_rows)
		reason = "no baseline yet";
	else if (window >= 0)
	{
		double		pooled = (right + f->accuracy * f->labelled) / (labelled + f->labelled);
		double		sd = sqrt(pooled * (1 - pooled) * (1 / labelled + 1.0 / f->labelled));

		base = right / labelled;
		p = sd > 0 ? lrn_normal_two_sided((f->accuracy - base) / sd) / 2 : 0.5;
		p = f->accuracy > base ? 1 - p : p;
		alarm = p <= o->alpha && base - f->accuracy >= o->least.performance;
		if (alarm)
			reason = psprintf("accuracy %.3f after %.3f (p %.1e)", f->accuracy, base, p);
	}
	values[0] = CStringGetTextDatum(m->name);
	values[1] = Int32GetDatum(window);
	values[2] = TimestampTzGetDatum(window < 0 ? 0 : mon_window(m, window));
	values[3] = TimestampTzGetDatum(window < 0 ? 0 : mon_window(m, window + 1));
	nulls[2] = nulls[3] = window < 0 ? 'n' : ' ';
	values[4] = Int64GetDatum(f->rows);
	values[5] = Int64GetDatum(f->labelled);
	values[6] = Float8GetDatum(f->accuracy);
	values[7] = Float8GetDatum(f->f1);
	nulls[6] = nulls[7] = f->labelled ? ' ' : 'n';
	values[8] = Float8GetDatum(base);
	nulls[8] = isnan(base) ? 'n' : ' ';
	values[9] = Float8GetDatum(p);
	nulls[9] = isnan(p) ? 'n' : ' ';
	values[10] = BoolGetDatum(alarm);
	values[11] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	nulls[11] = reason ? ' ' : 'n';
	values[12] = BoolGetDatum(final);
	/* A row that would say the same stays as it is. */
	if (SPI_execute_with_args("INSERT INTO millrace.monitor_performance AS o (monitor, window_no, window_start, window_end, rows, "
							  "labelled, accuracy, f1_macro, baseline_accuracy, p, alarm, reason, final) "
							  "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (monitor, window_no) "
							  "DO UPDATE SET rows = excluded.rows, labelled = excluded.labelled, accuracy = excluded.accuracy, "
							  "f1_macro = excluded.f1_macro, baseline_accuracy = excluded.baseline_accuracy, p = excluded.p, "
							  "alarm = excluded.alarm, reason = excluded.reason, final = excluded.final, "
							  "measured_at = excluded.measured_at WHERE (o.rows, o.labelled, o.accuracy, o.f1_macro, o.final, "
							  "o.baseline_accuracy) IS DISTINCT FROM (excluded.rows, excluded.labelled, excluded.accuracy, "
							  "excluded.f1_macro, excluded.final, excluded.baseline_accuracy)",
							  lengthof(types), (Oid *) types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "monitor statement failed");
	reg_write_end(&w);
}

/* Windows that still wait for labels, in order; -1 first where the reference is not measured yet. */
static int *
waiting_windows(const monitor *m, int *n)
{
	static const Oid types[] = {TEXTOID, INT4OID, INT4OID};
	Datum		values[] = {CStringGetTextDatum(m->name), Int32GetDatum(m->windows - 1),
	Int32GetDatum(m->options.reference == MON_PERIOD ? -1 : 0)};
	MemoryContext cxt = CurrentMemoryContext;
	int		   *window;
	reg_write	w;
	bool		isnull;

	reg_write_begin(&w, "run_monitor()");
	*n = (int) reg_execute("SELECT w FROM pg_catalog.generate_series($3, $2) w WHERE NOT EXISTS (SELECT "
						   "FROM millrace.monitor_performance p WHERE p.monitor = $1 AND p.window_no = w AND p.final) ORDER BY w",
						   3, types, values, NULL, SPI_OK_SELECT);
	window = MemoryContextAlloc(cxt, Max(*n, 1) * sizeof(int));
	for (int i = 0; i < *n; i++)
		window[i] = DatumGetInt32(reg_result(i, 1, &isnull));
	reg_write_end(&w);
	return window;
}

void
mon_measure(const monitor *m, TimestampTz until)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace monitor labels", ALLOCSET_DEFAULT_SIZES);
	int			n;
	int		   *window = waiting_windows(m, &n);

	for (int i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		measured	f;
		bool		final;

		CHECK_FOR_INTERRUPTS();
		measure(m, window[i], &f);
		final = window[i] < 0 || f.labelled == f.rows ||
			mon_later(&m->options, mon_window(m, window[i] + 1), m->options.label_delay) <= until;
		write_measured(m, window[i], &f, final);
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
	}
	MemoryContextDelete(cxt);
}
