/*
 * evaluate_pg.c
 *	  millrace.evaluate_model(): a classifier or regressor measured on a
 *	  query's rows.
 *
 * The query is read as in training (train_data_pg.c), within
 * millrace.train_memory; its columns go to the model by name.  The figures
 * become one row of millrace.evaluations; curves and the worst rows are in
 * tables beside it.  What is left of the memory bounds the sample of rows from
 * which areas under curves are taken (tally_pg.c).
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "fmgr.h"
#include "learn/settings.h"
#include "miscadmin.h"
#include "registry/evaluate.h"
#include "registry/features.h"
#include "registry/options.h"
#include "registry/progress.h"
#include "registry/train.h"
#include "registry/train_json.h"
#include "registry/write.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_evaluate_model);

#define MAX_CURVES 200			/* labels up to which curves are kept */

typedef struct evaluation
{
	const reg_model *model;
	const char *query;
	const char *target;
	Jsonb	   *options;
	const char *snapshot;
	bool		store_metrics;
	char	   *id;				/* column, or NULL */
	int64		points;			/* of a curve; 0: no curves */
	eval_settings set;
	train_data *data;
	eval_labels labels;
	eval_predictor predictor;
	eval_tally	tally;
	eval_figures figures;
} evaluation;

static void
read_options(evaluation *e)
{
	int64		errors = 20,
				bins = e->set.bins,
				seed = 0;
	const reg_option list[] = {
		REG_OPTION("store_metrics", BOOL, &e->store_metrics),
		REG_OPTION("id", TEXT, &e->id),
		REG_OPTION_IN("top_errors", INTEGER, &errors, 0, 10000),
		REG_OPTION_IN("bins", INTEGER, &bins, 1, 1000),
		REG_OPTION_IN("sample", INTEGER, &e->set.sample, 1, 1e12),
		REG_OPTION_IN("points", INTEGER, &e->points, 0, 100000),
		REG_OPTION("random_state", INTEGER, &seed),
	REG_OPTION_END};

	e->points = 100;
	reg_read_options(e->options, "evaluate_model()", list);
	if (e->points > 0 && e->points < 3)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"points\" must be 0, for no curves, or at least 3")));
	e->set.errors = (int) errors;
	e->set.bins = (int) bins;
	e->set.seed = (uint64) seed;
}

/* The rows, and every one of them answered. */
static void
measure(evaluation *e)
{
	const reg_model *m = e->model;
	Size		limit = (Size) lrn_train_memory_kb * 1024;
	train_data *data;
	eval_source source = {0};

	reg_progress_phase(REG_PHASE_READING);
	e->data = data = train_read(&(train_request) {.query = e->query,.target = e->target,.regression = e->predictor.regression,
								.id = e->id,.categories = true,.limit = limit,.algorithm = m->reference,.images = m});
	if (data->images)
		eval_predictor_of_answers(m, &e->predictor);
	source.col = data->images ? data->matrix.col : reg_map_matrix(m, data);
	source.rows = data->matrix.rows;
	e->set.memory = limit > data->memory ? (limit - data->memory) / 2 : 0;
	if (!e->predictor.regression)
		eval_join_labels(m->labels, m->n_labels, data->labels, &e->labels);
	reg_progress_phase(REG_PHASE_EVALUATING);
	eval_tally_begin(&e->tally, e->predictor.regression ? NULL : &e->labels, &e->set, source.rows, data->y, data->value, NULL);
	eval_run(&e->predictor, &source, eval_tally_take, &e->tally);
	eval_figures_of(&e->tally, &e->figures);
}

static int64
write_evaluation(const evaluation *e, const char *caller)
{
	static const Oid types[] = {TEXTOID, INT4OID, TEXTOID, TEXTOID, JSONBOID, INT8OID, TEXTOID, JSONBOID, JSONBOID,
	JSONBOID, TEXTOID, FLOAT8OID, TEXTOID};
	const reg_model *m = e->model;
	bool		classes = !e->figures.regression;
	Jsonb	   *confusion = classes ? eval_confusion_json(&e->tally) : NULL;
	Datum		values[] = {
		CStringGetTextDatum(m->name), Int32GetDatum(m->version), CStringGetTextDatum(e->query),
		CStringGetTextDatum(e->target), JsonbPGetDatum(e->options), Int64GetDatum(e->figures.rows),
		CStringGetTextDatum(classes ? "classification" : "regression"),
		JsonbPGetDatum(eval_figures_json(&e->tally, &e->figures)),
		classes ? JsonbPGetDatum(eval_per_class_json(&e->tally, &e->figures)) : (Datum) 0,
		PointerGetDatum(confusion), CStringGetTextDatum(e->snapshot),
		Float8GetDatum(e->predictor.seconds * 1e6 / (double) e->figures.rows), CStringGetTextDatum(caller)
	};
	char		nulls[] = "             ";
	bool		isnull;

	StaticAssertStmt(lengthof(types) == lengthof(values), "one type a value");
	nulls[8] = classes ? ' ' : 'n';
	nulls[9] = confusion ? ' ' : 'n';
	reg_execute("INSERT INTO millrace.evaluations (name, version, query, target, options, rows, task, metrics, per_class, "
				"confusion, snapshot, predict_us, evaluated_by, accuracy, balanced_accuracy, precision_macro, recall_macro, "
				"f1_macro, f1_weighted, log_loss, brier) "
				"SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, f.accuracy, f.balanced_accuracy, "
				"f.precision_macro, f.recall_macro, f.f1_macro, f.f1_weighted, f.log_loss, f.brier "
				"FROM jsonb_to_record($8) AS f(accuracy float8, balanced_accuracy float8, precision_macro float8, "
				"recall_macro float8, f1_macro float8, f1_weighted float8, log_loss float8, brier float8) RETURNING id",
				lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING);
	return DatumGetInt64(reg_result(0, 1, &isnull));
}

static Datum
float8_array(const double *x, int64 n)
{
	Datum	   *d = palloc(Max(n, 1) * sizeof(Datum));

	for (int64 i = 0; i < n; i++)
		d[i] = Float8GetDatum(x[i]);
	return PointerGetDatum(construct_array(d, n, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* label NULL: of all; columns by point: threshold or bin's end, x, y, rows. */
static void
write_curve(int64 id, const char *label, const char *curve, double *const column[4], int64 n)
{
	static const Oid types[] = {INT8OID, TEXTOID, TEXTOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID};
	Datum		values[7] = {Int64GetDatum(id), label ? CStringGetTextDatum(label) : (Datum) 0, CStringGetTextDatum(curve)};
	char		nulls[8] = "       ";

	if (n == 0)
		return;
	nulls[1] = label ? ' ' : 'n';
	nulls[6] = column[3] ? ' ' : 'n';
	for (int c = 0; c < 4; c++)
		values[3 + c] = column[c] ? float8_array(column[c], n) : (Datum) 0;
	reg_execute("INSERT INTO millrace.evaluation_curves (evaluation, label, curve, threshold, x, y, rows) "
				"VALUES ($1, $2, $3, $4, $5, $6, $7::bigint[])", 7, types, values, nulls, SPI_OK_INSERT);
}

static void
write_bins(int64 id, const char *label, const lrn_bin *bin, int bins)
{
	double	   *column[4];
	int			n = 0;

	for (int c = 0; c < 4; c++)
		column[c] = palloc(bins * sizeof(double));
	for (int b = 0; b < bins; b++)
		if (bin[b].n > 0)
		{
			column[0][n] = (b + 1) * (1.0 / bins);
			column[1][n] = bin[b].sum / (double) bin[b].n;
			column[2][n] = (double) bin[b].right / (double) bin[b].n;
			column[3][n++] = (double) bin[b].n;
		}
	write_curve(id, label, "calibration", column, n);
}

static void
write_ranking(int64 id, const char *label, const lrn_ranking *r, lrn_curve kind, int64 points)
{
	lrn_curve_point *p = palloc(points * sizeof(lrn_curve_point));
	double	   *column[4] = {0};
	int64		n = lrn_curve_of(r, kind, points, p);

	CHECK_FOR_INTERRUPTS();
	for (int c = 0; c < 3; c++)
		column[c] = palloc(points * sizeof(double));
	for (int64 i = 0; i < n; i++)
	{
		column[0][i] = p[i].threshold;
		column[1][i] = p[i].x;
		column[2][i] = p[i].y;
	}
	write_curve(id, label, kind == LRN_ROC ? "roc" : "pr", column, n);
}

static void
write_curves(evaluation *e, int64 id)
{
	eval_tally *t = &e->tally;

	if (e->points == 0 || e->figures.regression)
		return;
	write_bins(id, NULL, t->top, t->set.bins);
	for (int c = 0; c < Min(e->labels.known, MAX_CURVES); c++)
	{
		const char *label = e->labels.label[c];
		lrn_ranking r;
		MemoryContext cxt,
					old;

		if (e->figures.per_class[c].support == 0)
			continue;
		cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace curve", ALLOCSET_DEFAULT_SIZES);
		old = MemoryContextSwitchTo(cxt);
		if (eval_ranking(t, c, &r))
		{
			write_ranking(id, label, &r, LRN_ROC, e->points);
			write_ranking(id, label, &r, LRN_PR, e->points);
		}
		mr_free(&t->env, unconstify(uint64 *, r.positive));
		write_bins(id, label, t->of_label + (Size) c * t->set.bins, t->set.bins);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
	}
}

static char *
number_text(double x)
{
	return psprintf("%.9g", x);
}

static void
write_errors(evaluation *e, int64 id)
{
	static const Oid types[] = {INT8OID, INT4OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, FLOAT8OID, FLOAT8OID, FLOAT8OID};
	bool		classes = !e->figures.regression;

	eval_sort_errors(&e->tally);
	for (int i = 0; i < e->tally.n_errors; i++)
	{
		const eval_error *x = &e->tally.error[i];
		char		nulls[] = "         ";
		Datum		values[] = {
			Int64GetDatum(id), Int32GetDatum(i + 1), Int64GetDatum(x->row + 1),
			e->id ? CStringGetTextDatum(e->data->id.bytes + e->data->id.at[x->row]) : (Datum) 0,
			CStringGetTextDatum(classes ? e->labels.label[x->truth] : number_text(x->value)),
			CStringGetTextDatum(classes ? e->labels.label[x->predicted] : number_text(x->answer)),
			Float8GetDatum(x->weight), Float8GetDatum(x->given), Float8GetDatum(x->answer - x->value)
		};

		nulls[3] = e->id ? ' ' : 'n';
		nulls[6] = nulls[7] = classes ? ' ' : 'n';
		nulls[8] = classes ? 'n' : ' ';
		reg_execute("INSERT INTO millrace.evaluation_errors (evaluation, rank, row_no, id, truth, predicted, confidence, "
					"truth_probability, error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
					lengthof(types), types, values, nulls, SPI_OK_INSERT);
	}
}

/* The main figures go to millrace.models as well. */
static void
store_metrics(const evaluation *e, int64 id)
{
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID};
	Datum		values[] = {CStringGetTextDatum(e->model->name), Int32GetDatum(e->model->version), Int64GetDatum(id)};

	reg_execute("UPDATE millrace.models m SET metrics = m.metrics || (SELECT jsonb_strip_nulls(jsonb_build_object("
				"'evaluation', e.id, 'evaluation_rows', e.rows, 'accuracy', e.metrics -> 'accuracy', "
				"'f1_macro', e.metrics -> 'f1_macro', 'rmse', e.metrics -> 'rmse', 'r2', e.metrics -> 'r2')) "
				"FROM millrace.evaluations e WHERE e.id = $3) WHERE m.name = $1 AND m.version = $2",
				3, types, values, NULL, SPI_OK_UPDATE);
}

/* millrace.evaluate_model(model text, query text, target text, options jsonb) -> bigint */
Datum
millrace_evaluate_model(PG_FUNCTION_ARGS)
{
	static const char *const argument[] = {"query", "target"};
	evaluation	e = {.set = EVAL_SETTINGS};
	reg_write	w;
	int64		id;

	for (int i = 0; i < 2; i++)
		if (PG_ARGISNULL(i + 1))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not be null", argument[i])));
	PreventCommandIfReadOnly("evaluate_model()");
	e.query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	e.target = text_to_cstring(PG_GETARG_TEXT_PP(2));
	e.options = PG_ARGISNULL(3) ? json_of("{}") : PG_GETARG_JSONB_P(3);
	read_options(&e);
	e.model = reg_resolve(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)), REG_CLASSIFY);
	eval_predictor_of(e.model, &e.predictor);
	e.snapshot = train_snapshot();

	reg_progress_begin("evaluate_model", e.model->reference, NULL, 0);
	measure(&e);
	reg_progress_phase(REG_PHASE_STORING);
	reg_write_begin(&w, "evaluate_model()");
	id = write_evaluation(&e, w.caller);
	write_curves(&e, id);
	write_errors(&e, id);
	if (e.store_metrics)
		store_metrics(&e, id);
	reg_write_end(&w);
	reg_progress_end();
	PG_RETURN_INT64(id);
}
