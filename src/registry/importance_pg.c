/*
 * importance_pg.c
 *	  millrace.permutation_importance() and millrace.partial_dependence(): what
 *	  a model makes of its features, found by changing them.
 *
 * Importance (Breiman, "Random forests", 2001; as scikit-learn's): how much a
 * figure worsens when one column's values are shuffled among the rows.
 * Dependence (Friedman, "Greedy function approximation", 2001): the mean answer
 * when one column has the same value in all rows.  Any model that can be
 * evaluated; the rows are read once and never copied.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "fmgr.h"
#include "funcapi.h"
#include "learn/settings.h"
#include "learn/sort.h"
#include "learn/split.h"
#include "miscadmin.h"
#include "registry/evaluate.h"
#include "registry/features.h"
#include "registry/options.h"
#include "registry/progress.h"
#include "registry/train_json.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_permutation_importance);
PG_FUNCTION_INFO_V1(millrace_partial_dependence);

#define MAX_REPEATS		1000
#define MAX_POINTS		1000

/* What is changed as one: a column, an element of an array, a category however
 * many columns of 0 and 1 it has. */
typedef struct unit
{
	const char *name;
	int			first;
	int			width;
	const reg_feature *category;	/* or NULL: a number */
} unit;

typedef struct probe
{
	const reg_model *model;
	train_data *data;
	eval_predictor predictor;
	eval_labels labels;
	eval_source source;
	int64		sample;			/* most rows */
	int64		seed;
	unit	   *unit;
	int			n_units;
} probe;

static void
list_units(probe *p)
{
	reg_features *all = reg_features_of(p->model);

	p->unit = palloc(Max(p->model->n_inputs, 1) * sizeof(unit));
	if (all == NULL)
		for (int c = 0; c < p->model->n_inputs; c++)
			p->unit[p->n_units++] = (unit) {p->data->matrix.name[c], c, 1, NULL};
	else
		for (int i = 0; i < all->n; i++)
		{
			const reg_feature *f = &all->feature[i];

			if (f->type == REG_FEATURE_ARRAY)
				for (int w = 0; w < f->width; w++)
					p->unit[p->n_units++] = (unit) {psprintf("%s[%d]", f->name, w + 1), f->first + w, 1, NULL};
			else
				p->unit[p->n_units++] = (unit) {f->name, f->first, f->width, f->type == REG_FEATURE_CATEGORY ? f : NULL};
		}
}

/* The model, the rows, and which of them are used. */
static void
prepare(FunctionCallInfo fcinfo, probe *p, const char *query, const char *target)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};

	p->model = reg_resolve(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)), REG_CLASSIFY);
	eval_predictor_of(p->model, &p->predictor);
	p->data = train_read(&(train_request) {.query = query,.target = target,.regression = p->predictor.regression,
						 .categories = true,.limit = (Size) lrn_train_memory_kb * 1024,.algorithm = p->model->reference});
	p->source.col = reg_map_matrix(p->model, p->data);
	p->source.rows = p->data->matrix.rows;
	if (p->data->labels)
		eval_join_labels(p->model->labels, p->model->n_labels, p->data->labels, &p->labels);
	list_units(p);
	if (p->source.rows > p->sample)
	{
		uint32	   *row = palloc_extended(p->source.rows * sizeof(uint32), MCXT_ALLOC_HUGE);

		if (lrn_shuffle(&env, row, p->source.rows, (uint64) p->seed, UINT64_MAX, &st) != MR_OK)
			mr_pg_raise(&st);
		p->source.row = row;
		p->source.rows = p->sample;
	}
}

static char *
required_text(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/* ---- importance ---- */

static double
figure(probe *p, const eval_settings *set, const char *metric, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	eval_tally	tally;
	eval_figures f;
	double		x;

	eval_tally_begin(&tally, p->predictor.regression ? NULL : &p->labels, set, p->source.rows, p->data->y,
					 p->data->value, p->source.row);
	eval_run(&p->predictor, &p->source, eval_tally_take, &tally);
	eval_figures_of(&tally, &f);
	x = eval_figure(&f, metric);
	MemoryContextSwitchTo(old);
	MemoryContextReset(cxt);
	return x;
}

/* The changed column's values come from the rows in another order. */
static void
shuffle(const probe *p, uint32 *order, uint64 stream)
{
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};

	if (lrn_shuffle(&env, order, p->source.rows, (uint64) p->seed, stream, &st) != MR_OK)
		mr_pg_raise(&st);
	if (p->source.row)
		for (int64 i = 0; i < p->source.rows; i++)
			order[i] = p->source.row[order[i]];
}

typedef struct importance
{
	const char *name;
	double		mean;
	double		deviation;
} importance;

static int
most_important_first(const void *a, const void *b)
{
	const importance *x = a,
			   *y = b;

	return x->mean > y->mean ? -1 : x->mean < y->mean ? 1 : strcmp(x->name, y->name);
}

static importance
measure_unit(probe *p, int u, int64 repeats, double baseline, const eval_settings *set, const char *metric,
			 uint32 *order, MemoryContext cxt)
{
	double		drop[MAX_REPEATS];
	importance	out = {.name = p->unit[u].name};

	p->source.changed = p->unit[u].first;
	p->source.width = p->unit[u].width;
	p->source.order = order;
	for (int64 r = 0; r < repeats; r++)
	{
		shuffle(p, order, (uint64) u * MAX_REPEATS + (uint64) r);
		drop[r] = eval_figure_sign(metric) * (baseline - figure(p, set, metric, cxt));
		out.mean += drop[r] / (double) repeats;
		reg_progress_step(NULL, u * repeats + r + 1, p->n_units * repeats, NAN);
	}
	for (int64 r = 0; r < repeats; r++)
		out.deviation += (drop[r] - out.mean) * (drop[r] - out.mean) / (double) repeats;
	out.deviation = sqrt(out.deviation);
	return out;
}

/* (model text, query text, target text, options jsonb) -> rows by feature */
Datum
millrace_permutation_importance(PG_FUNCTION_ARGS)
{
	probe		p = {.sample = PG_INT64_MAX};
	eval_settings set = EVAL_SETTINGS;
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *query = required_text(fcinfo, 1, "query"),
			   *target = required_text(fcinfo, 2, "target"),
			   *metric = NULL;
	int64		repeats = 5;
	const reg_option list[] = {
		REG_OPTION_IN("n_repeats", INTEGER, &repeats, 1, MAX_REPEATS),
		REG_OPTION("metric", TEXT, &metric),
		REG_OPTION_IN("sample", INTEGER, &p.sample, 1, 4e9),
		REG_OPTION("random_state", INTEGER, &p.seed),
	REG_OPTION_END};
	MemoryContext cxt;
	importance *found;
	uint32	   *order;
	double		baseline;

	reg_read_options(PG_ARGISNULL(3) ? json_of("{}") : PG_GETARG_JSONB_P(3), "permutation_importance()", list);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	reg_progress_begin("permutation_importance", "", NULL, 0);
	prepare(fcinfo, &p, query, target);
	reg_progress_phase(REG_PHASE_EVALUATING);
	if (metric == NULL)
		metric = p.predictor.regression ? "r2" : "accuracy";
	/* Nothing is ranked where no rank is asked for. */
	if (strncmp(metric, "roc_auc", 7) != 0 && strncmp(metric, "pr_auc", 6) != 0)
		set.sample = 0;
	set.memory = (Size) lrn_train_memory_kb * 1024 / 2;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace importance", ALLOCSET_DEFAULT_SIZES);
	order = palloc_extended(p.source.rows * sizeof(uint32), MCXT_ALLOC_HUGE);
	found = palloc(Max(p.n_units, 1) * sizeof(importance));
	baseline = figure(&p, &set, metric, cxt);
	for (int u = 0; u < p.n_units; u++)
		found[u] = measure_unit(&p, u, repeats, baseline, &set, metric, order, cxt);
	qsort(found, p.n_units, sizeof(importance), most_important_first);
	for (int u = 0; u < p.n_units; u++)
	{
		Datum		values[] = {CStringGetTextDatum(found[u].name), Float8GetDatum(found[u].mean),
		Float8GetDatum(found[u].deviation), Float8GetDatum(baseline)};
		bool		defined = !isnan(found[u].mean);
		bool		nulls[4] = {false, !defined, !defined, isnan(baseline)};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	reg_progress_end();
	return (Datum) 0;
}

/* ---- dependence ---- */

static const unit *
find_unit(const probe *p, const char *name)
{
	StringInfoData known;

	initStringInfo(&known);
	for (int u = 0; u < p->n_units; u++)
	{
		if (strcmp(p->unit[u].name, name) == 0)
			return &p->unit[u];
		if (u < 20)
			appendStringInfo(&known, "%s%s", u ? ", " : "", p->unit[u].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("model \"%s\" has no feature \"%s\"", p->model->reference, name),
			 errhint("Its features: %s%s.", known.data, p->n_units > 20 ? ", ..." : "")));
	return NULL;
}

/*
 * Values of a column to look at: all that occur, if they are few, else
 * quantiles from low to high at even steps.  Returns how many.
 */
static int
grid_of(const probe *p, int column, int points, double low, double high, double *grid)
{
	const float *x = p->source.col[column];
	uint64	   *key = palloc_extended(p->source.rows * sizeof(uint64), MCXT_ALLOC_HUGE);
	mr_env		env = mr_pg_env(CurrentMemoryContext);
	mr_status	st = {0};
	int64		n = 0;
	int			found = 0;

	for (int64 i = 0; i < p->source.rows; i++)
	{
		float		v = x[p->source.row ? p->source.row[i] : i];

		if (!isnan(v))
			key[n++] = lrn_key_of(v);
	}
	if (lrn_sort_keys(&env, key, NULL, n, &st) != MR_OK)
		mr_pg_raise(&st);
	for (int64 i = 0; i < n && found <= points; i++)
		if (i == 0 || key[i] != key[i - 1])
		{
			if (found < points)
				grid[found] = lrn_number_of(key[i]);
			found++;
		}
	if (found > points)
	{
		found = 0;
		for (int i = 0; i < points; i++)
		{
			double		share = points > 1 ? low + (high - low) * i / (points - 1) : (low + high) / 2;
			double		v = lrn_number_of(key[(int64) floor(share * (double) (n - 1) + 0.5)]);

			if (found == 0 || v != grid[found - 1])
				grid[found++] = v;
		}
	}
	pfree(key);
	return found;
}

typedef struct answer_sums
{
	int			k;
	double	   *sum;
} answer_sums;

static void
add_answers(void *arg, int64 first, int64 n, const float *out)
{
	answer_sums *s = arg;

	for (int64 i = 0; i < n; i++)
		for (int c = 0; c < s->k; c++)
			s->sum[c] += out[i * s->k + c];
}

/* Mean answers when the unit has the value of source.constant everywhere. */
static void
put_point(ReturnSetInfo *result, probe *p, double value, const char *category)
{
	int			k = p->predictor.k;
	answer_sums s = {.k = k,.sum = palloc0(k * sizeof(double))};

	eval_run(&p->predictor, &p->source, add_answers, &s);
	for (int c = 0; c < k; c++)
	{
		Datum		values[] = {Float4GetDatum((float4) value), category ? CStringGetTextDatum(category) : (Datum) 0,
			p->predictor.regression ? (Datum) 0 : CStringGetTextDatum(p->model->labels[c]),
		Float8GetDatum(s.sum[c] / (double) p->source.rows)};
		bool		nulls[4] = {category != NULL, category == NULL, p->predictor.regression, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	pfree(s.sum);
}

/* (model text, query text, feature text, options jsonb) -> rows by value and label */
Datum
millrace_partial_dependence(PG_FUNCTION_ARGS)
{
	probe		p = {.sample = 10000};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *query = required_text(fcinfo, 1, "query"),
			   *feature = required_text(fcinfo, 2, "feature");
	int64		points = 20;
	double		low = 0.05,
				high = 0.95;
	const reg_option list[] = {
		REG_OPTION_IN("points", INTEGER, &points, 1, MAX_POINTS),
		REG_OPTION_IN("low", NUMBER, &low, 0, 1),
		REG_OPTION_IN("high", NUMBER, &high, 0, 1),
		REG_OPTION_IN("sample", INTEGER, &p.sample, 1, 4e9),
		REG_OPTION("random_state", INTEGER, &p.seed),
	REG_OPTION_END};
	const unit *u;
	float	   *constant;

	reg_read_options(PG_ARGISNULL(3) ? json_of("{}") : PG_GETARG_JSONB_P(3), "partial_dependence()", list);
	if (low > high)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"low\" must not be above option \"high\"")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	prepare(fcinfo, &p, query, NULL);
	u = find_unit(&p, feature);
	constant = palloc0(u->width * sizeof(float));
	p.source.changed = u->first;
	p.source.width = u->width;
	p.source.constant = constant;
	if (u->category)
		for (int v = 0; v < Min(u->category->n_values, MAX_POINTS); v++)
		{
			int			code = u->category->code[v];

			memset(constant, 0, u->width * sizeof(float));
			if (u->category->one_hot)
				constant[code] = 1;
			else
				constant[0] = (float) code;
			put_point(result, &p, 0, u->category->value[v]);
		}
	else
	{
		double	   *grid = palloc(points * sizeof(double));
		int			n = grid_of(&p, u->first, (int) points, low, high, grid);

		for (int i = 0; i < n; i++)
		{
			constant[0] = (float) grid[i];
			put_point(result, &p, grid[i], NULL);
		}
	}
	return (Datum) 0;
}
