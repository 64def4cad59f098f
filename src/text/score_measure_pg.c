/*
 * score_measure_pg.c
 *	  What scores are held against: baselines of texts that have nothing to do with
 *	  each other, and thresholds from judged examples.
 *
 * Memory: a sample of the texts; sixteen bytes a judged example; vectors of the texts
 * seen last, as far as work_mem goes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "core/spi_pg.h"
#include "executor/nodeHash.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "registry/options.h"
#include "tcop/utility.h"
#include "text/score_pg.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_build_score_baseline);
PG_FUNCTION_INFO_V1(millrace_calibrate_score);

const txt_model *
txt_score_model_arg(FunctionCallInfo fcinfo, int arg)
{
	void	   *site = NULL;

	return txt_model_site(&site, CurrentMemoryContext, PG_ARGISNULL(arg) ? NULL : PG_GETARG_TEXT_PP(arg));
}

char *
txt_score_text_arg(FunctionCallInfo fcinfo, int arg, const char *what)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

void
txt_score_writes(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}

txt_score_settings *
txt_raw_settings(const txt_model *m, int64 layer, const char *idf)
{
	txt_score_options o = {.layer = layer,.idf = idf ? pstrdup(idf) : NULL,.rescale = {.type = jbvBool}};

	return txt_score_settings_of(m, &o);
}

/* The row that an OUT-parameter function returns. */
static Datum
row_of(FunctionCallInfo fcinfo, Datum *values)
{
	bool		nulls[8] = {false};
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* ---- baselines ---- */

typedef struct baseline_job
{
	MemoryContext cxt;			/* of the texts */
	text	  **sample;			/* of all rows, each as likely (Vitter's algorithm R) */
	int64		size;
	int64		n;
	int64		rows;
	uint64		random;
} baseline_job;

/* splitmix64 (Steele, Lea, Flood 2014): the same on every platform; 0 .. below - 1. */
static int64
random_below(uint64 *state, int64 below)
{
	uint64		z = (*state += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	z ^= z >> 31;
	return (int64) (z % (uint64) below);
}

static void
sample_text(void *arg, const Datum *value)
{
	baseline_job *j = arg;
	int64		at = j->rows++;
	MemoryContext old;

	if (at >= j->size)
	{
		at = random_below(&j->random, j->rows);
		if (at >= j->size)
			return;
		pfree(j->sample[at]);
	}
	else
		j->n++;
	old = MemoryContextSwitchTo(j->cxt);
	j->sample[at] = DatumGetTextPCopy(value[0]);
	MemoryContextSwitchTo(old);
}

/* The package's get_rescale_baseline.py: texts in random order, each of the first half against one of the second. */
static int64
mean_score(const txt_model *m, const txt_score_settings *settings, baseline_job *j, double mean[3])
{
	txt_scorer *s = txt_scorer_create(CurrentMemoryContext, m, settings);
	int64		pairs = j->n / 2;
	txt_scored *pair[TXT_BATCH_ROWS][2];

	for (int64 i = j->n - 1; i > 0; i--)
	{
		int64		k = random_below(&j->random, i + 1);
		text	   *swap = j->sample[i];

		j->sample[i] = j->sample[k];
		j->sample[k] = swap;
	}
	for (int64 first = 0; first < pairs; first += TXT_BATCH_ROWS)
	{
		int			n = (int) Min(TXT_BATCH_ROWS, pairs - first);

		for (int i = 0; i < n; i++)
			for (int k = 0; k < 2; k++)
			{
				pair[i][k] = txt_scorer_add(s, j->sample[first + i + k * pairs]);
				txt_scorer_want(s, pair[i][k]);
			}
		txt_scorer_embed(s);
		for (int i = 0; i < n; i++)
		{
			txt_score	score = txt_scorer_raw(s, pair[i][0], pair[i][1]);

			CHECK_FOR_INTERRUPTS();
			mean[0] += score.precision;
			mean[1] += score.recall;
			mean[2] += score.f1;
		}
		txt_scorer_trim(s, 0);
	}
	for (int k = 0; k < 3; k++)
		mean[k] /= pairs;
	txt_scorer_free(s);
	return pairs;
}

static void
store_baseline(const txt_model *m, int layer, const double mean[3], int64 pairs, const char *query, bool replace)
{
	static SPIPlanPtr plans[2];
	static const char *const sql[2] = {
		"INSERT INTO millrace.score_baselines (name, version, layer, \"precision\", recall, f1, pairs, query, created_by) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name, version, layer) DO NOTHING",
		"INSERT INTO millrace.score_baselines (name, version, layer, \"precision\", recall, f1, pairs, query, created_by) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name, version, layer) DO UPDATE SET \"precision\" = excluded.\"precision\", "
		"recall = excluded.recall, f1 = excluded.f1, pairs = excluded.pairs, query = excluded.query, created_at = excluded.created_at, "
		"created_by = excluded.created_by"
	};
	static const Oid types[] = {TEXTOID, INT4OID, INT4OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, INT8OID, TEXTOID, TEXTOID};
	mr_owner_save save;
	Datum		args[lengthof(types)] = {
		CStringGetTextDatum(m->reg->name), Int32GetDatum(m->reg->version), Int32GetDatum(layer),
		Float8GetDatum(mean[0]), Float8GetDatum(mean[1]), Float8GetDatum(mean[2]), Int64GetDatum(pairs),
		CStringGetTextDatum(query), CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))
	};

	mr_spi_begin(&save);
	if (mr_run(&plans[replace], sql[replace], lengthof(types), types, args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("model \"%s\" already has a baseline for layer %d", m->reg->reference, layer),
				 errdetail("Rescaled scores would change."),
				 errhint("Option \"replace\" puts another in its place.")));
	mr_spi_end(&save);
}

Datum
millrace_build_score_baseline(PG_FUNCTION_ARGS)
{
	static const Oid wanted[] = {TEXTOID};
	const txt_model *m = txt_score_model_arg(fcinfo, 0);
	char	   *query = txt_score_text_arg(fcinfo, 1, "query");
	int64		layer = -1,
				pairs = 10000,
				seed = 1;
	bool		replace = false;
	const reg_option list[] = {
		REG_OPTION_IN("layer", INTEGER, &layer, 0, 1000),
		REG_OPTION_IN("pairs", INTEGER, &pairs, 1, 1000000),
		REG_OPTION("seed", INTEGER, &seed),
		REG_OPTION("replace", BOOL, &replace),
		REG_OPTION_END
	};
	txt_score_settings *settings;
	baseline_job j = {.cxt = CurrentMemoryContext};
	double		mean[3] = {0, 0, 0};

	txt_score_writes("build_score_baseline()");
	if (!PG_ARGISNULL(2))
		reg_read_options(PG_GETARG_JSONB_P(2), "build_score_baseline()", list);
	settings = txt_raw_settings(m, layer, "");
	j.size = 2 * pairs;
	j.sample = palloc(j.size * sizeof(text *));
	j.random = (uint64) seed;
	txt_read_rows(query, 1, wanted, sample_text, NULL, &j);
	if (j.n < 2)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a baseline needs at least two texts; the query returned " INT64_FORMAT, j.n)));
	pairs = mean_score(m, settings, &j, mean);
	store_baseline(m, settings->layer, mean, pairs, query, replace);
	return row_of(fcinfo, (Datum[]) {Int32GetDatum(settings->layer), Float8GetDatum(mean[0]), Float8GetDatum(mean[1]),
				Float8GetDatum(mean[2]), Int64GetDatum(pairs)});
}

/* ---- calibration ---- */

typedef struct calibrate_job
{
	MemoryContext cxt;
	txt_scorer *scorer;
	txt_scored *pair[TXT_BATCH_ROWS][2];
	bool		good[TXT_BATCH_ROWS];
	int			n;				/* of the batch */
	txt_judged *example;
	int64		examples,
				size;
} calibrate_job;

static void
take_example(void *arg, const Datum *value)
{
	calibrate_job *j = arg;

	for (int k = 0; k < 2; k++)
	{
		j->pair[j->n][k] = txt_scorer_add(j->scorer, DatumGetTextPP(value[k]));
		txt_scorer_want(j->scorer, j->pair[j->n][k]);
	}
	j->good[j->n++] = DatumGetBool(value[2]);
}

static void
score_examples(void *arg)
{
	calibrate_job *j = arg;

	txt_scorer_embed(j->scorer);
	if (j->examples + j->n > j->size)
	{
		j->size = Max(4096, j->size * 2);
		j->example = j->example ? repalloc_huge(j->example, j->size * sizeof(txt_judged)) :
			MemoryContextAlloc(j->cxt, j->size * sizeof(txt_judged));
	}
	for (int i = 0; i < j->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		j->example[j->examples++] = (txt_judged) {txt_scorer_raw(j->scorer, j->pair[i][0], j->pair[i][1]).f1, j->good[i]};
	}
	j->n = 0;
	txt_scorer_trim(j->scorer, get_hash_memory_limit());
}

static Datum
float8_array(const double *x, int n)
{
	Datum		element[TXT_MAX_KNOTS];

	for (int i = 0; i < n; i++)
		element[i] = Float8GetDatum(x[i]);
	return PointerGetDatum(construct_array(element, n, FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
store_calibration(const txt_model *m, const txt_score_settings *settings, const char *criterion, const txt_threshold *t,
				  const char *query)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {
		TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID, FLOAT8OID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, INT8OID, INT8OID,
		INT8OID, INT8OID, FLOAT8OID, TEXTOID, TEXTOID
	};
	txt_scale	scale = txt_scale_of(t);
	mr_owner_save save;
	Datum		args[lengthof(types)] = {
		CStringGetTextDatum(m->reg->name), Int32GetDatum(m->reg->version), Int32GetDatum(settings->layer),
		CStringGetTextDatum(settings->idf_name), CStringGetTextDatum(criterion), Float8GetDatum(t->threshold),
		float8_array(scale.raw, scale.n), float8_array(scale.calibrated, scale.n), Int64GetDatum(t->n), Int64GetDatum(t->good),
		Int64GetDatum(t->false_accepts), Int64GetDatum(t->false_rejects), Float8GetDatum(t->auc),
		CStringGetTextDatum(query), CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))
	};

	mr_spi_begin(&save);
	mr_run(&plan,
		   "INSERT INTO millrace.score_calibrations AS c (name, version, layer, idf, criterion, threshold, rescaled_threshold, "
		   "raw, calibrated, examples, correct, false_accepts, false_rejects, auc, query, created_by) "
		   "VALUES ($1, $2, $3, $4, $5, $6, (SELECT ($6 - b.f1) / (1 - b.f1) FROM millrace.score_baselines b "
		   "WHERE b.name = $1 AND b.version = $2 AND b.layer = $3), $7, $8, $9, $10, $11, $12, $13, $14, $15) "
		   "ON CONFLICT (name, version, layer, idf) DO UPDATE SET criterion = excluded.criterion, threshold = excluded.threshold, "
		   "rescaled_threshold = excluded.rescaled_threshold, raw = excluded.raw, calibrated = excluded.calibrated, "
		   "examples = excluded.examples, correct = excluded.correct, false_accepts = excluded.false_accepts, "
		   "false_rejects = excluded.false_rejects, auc = excluded.auc, query = excluded.query, "
		   "created_at = excluded.created_at, created_by = excluded.created_by",
		   lengthof(types), types, args);
	mr_spi_end(&save);
}

Datum
millrace_calibrate_score(PG_FUNCTION_ARGS)
{
	static const Oid wanted[] = {TEXTOID, TEXTOID, BOOLOID};
	static const char *const criteria[] = {"youden", "equal_rates"};
	const txt_model *m = txt_score_model_arg(fcinfo, 0);
	char	   *query = txt_score_text_arg(fcinfo, 1, "query");
	char	   *criterion = pstrdup("youden"),
			   *idf = NULL;
	int64		layer = -1;
	const reg_option list[] = {
		REG_OPTION("criterion", TEXT, &criterion),
		REG_OPTION_IN("layer", INTEGER, &layer, 0, 1000),
		REG_OPTION("idf", TEXT, &idf),
		REG_OPTION_END
	};
	int			which = 0;
	calibrate_job j = {.cxt = CurrentMemoryContext};
	txt_score_settings *settings;
	txt_threshold t;
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};

	txt_score_writes("calibrate_score()");
	if (!PG_ARGISNULL(2))
		reg_read_options(PG_GETARG_JSONB_P(2), "calibrate_score()", list);
	while (which < (int) lengthof(criteria) && strcmp(criterion, criteria[which]) != 0)
		which++;
	if (which == lengthof(criteria))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"criterion\" must be youden or equal_rates")));
	settings = txt_raw_settings(m, layer, idf);
	j.scorer = txt_scorer_create(CurrentMemoryContext, m, settings);
	txt_read_rows(query, 3, wanted, take_example, score_examples, &j);
	if (j.examples == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the query returned no example")));
	if (txt_find_threshold(&env, j.example, j.examples, (txt_criterion) which, &t, &st) != MR_OK)
		mr_pg_raise(&st);
	store_calibration(m, settings, criterion, &t, query);
	return row_of(fcinfo, (Datum[]) {Int32GetDatum(settings->layer), Float8GetDatum(t.threshold), Int64GetDatum(t.n),
				Int64GetDatum(t.good), Int64GetDatum(t.false_accepts), Int64GetDatum(t.false_rejects), Float8GetDatum(t.auc)});
}
