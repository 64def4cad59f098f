/*
 * bert_score_pg.c
 *	  SQL entries: bert_score(), score_response(), millrace.calibrated_score() and
 *	  the batched millrace.bert_scores().
 *
 * A call site keeps the vectors of the texts it saw last, as far as work_mem (times
 * hash_mem_multiplier) goes: a reference that stands in every row is embedded once.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "executor/nodeHash.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "registry/options.h"
#include "text/score_pg.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(millrace_bert_score);
PG_FUNCTION_INFO_V1(millrace_bert_score_best);
PG_FUNCTION_INFO_V1(millrace_score_response);
PG_FUNCTION_INFO_V1(millrace_calibrated_score);
PG_FUNCTION_INFO_V1(millrace_bert_scores);

/* What a call site keeps in fn_extra. */
typedef struct call_site
{
	void	   *model_site;
	const txt_model *model;		/* of this call */
	const reg_model *reg;		/* what the rest is of */
	MemoryContext cxt;
	txt_score_settings *settings;
	txt_scorer *scorer;
	bool		has_scale;
	txt_scale	scale;
	TupleDesc	desc;
} call_site;

static call_site *
site_of(FunctionCallInfo fcinfo, int model_arg)
{
	FmgrInfo   *fn = fcinfo->flinfo;
	call_site  *site = fn->fn_extra;
	const txt_model *m;
	MemoryContext old;

	if (site == NULL)
		site = fn->fn_extra = MemoryContextAllocZero(fn->fn_mcxt, sizeof(call_site));
	site->model = m = txt_model_site(&site->model_site, fn->fn_mcxt, PG_ARGISNULL(model_arg) ? NULL : PG_GETARG_TEXT_PP(model_arg));
	if (site->reg == m->reg && site->scorer)
	{
		txt_scorer_model(site->scorer, m);
		return site;
	}
	if (site->cxt)
		MemoryContextDelete(site->cxt);
	site->scorer = NULL;
	site->has_scale = false;
	site->cxt = AllocSetContextCreate(fn->fn_mcxt, "millrace score", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(site->cxt);
	site->settings = txt_score_settings_of(m, NULL);
	site->scorer = txt_scorer_create(site->cxt, m, site->settings);
	MemoryContextSwitchTo(old);
	site->reg = m->reg;
	return site;
}

static txt_scored *
wanted(txt_scorer *s, text *t)
{
	txt_scored *scored = txt_scorer_add(s, t);

	txt_scorer_want(s, scored);
	return scored;
}

/* Of the function's first two texts; false where one is null. */
static bool
score_of_call(FunctionCallInfo fcinfo, bool raw, call_site **site, txt_score *score)
{
	txt_scored *candidate,
			   *reference;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return false;
	*site = site_of(fcinfo, 2);
	txt_scorer_trim((*site)->scorer, get_hash_memory_limit());
	candidate = wanted((*site)->scorer, PG_GETARG_TEXT_PP(0));
	reference = wanted((*site)->scorer, PG_GETARG_TEXT_PP(1));
	txt_scorer_embed((*site)->scorer);
	*score = raw ? txt_scorer_raw((*site)->scorer, candidate, reference) :
		txt_scorer_score((*site)->scorer, candidate, reference);
	return true;
}

static Datum
score_tuple(FunctionCallInfo fcinfo, call_site *site, txt_score score)
{
	Datum		values[3] = {Float4GetDatum(score.precision), Float4GetDatum(score.recall), Float4GetDatum(score.f1)};
	bool		nulls[3] = {false, false, false};

	if (site->desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		if (get_call_result_type(fcinfo, NULL, &site->desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		site->desc = BlessTupleDesc(site->desc);
		MemoryContextSwitchTo(old);
	}
	return HeapTupleGetDatum(heap_form_tuple(site->desc, values, nulls));
}

Datum
millrace_bert_score(PG_FUNCTION_ARGS)
{
	call_site  *site;
	txt_score	score;

	if (!score_of_call(fcinfo, false, &site, &score))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(score_tuple(fcinfo, site, score));
}

Datum
millrace_score_response(PG_FUNCTION_ARGS)
{
	call_site  *site;
	txt_score	score;

	if (!score_of_call(fcinfo, false, &site, &score))
		PG_RETURN_NULL();
	PG_RETURN_FLOAT4(score.f1);
}

Datum
millrace_calibrated_score(PG_FUNCTION_ARGS)
{
	call_site  *site;
	txt_score	score;

	if (!score_of_call(fcinfo, true, &site, &score))
		PG_RETURN_NULL();
	if (!site->has_scale)
	{
		site->scale = txt_scale_for(site->model, site->settings);
		site->has_scale = true;
	}
	PG_RETURN_FLOAT4((float) txt_scale_apply(&site->scale, score.f1));
}

/* ---- several references ---- */

/* Texts of a one-dimensional text[], NULL for null. */
static text **
texts_of(ArrayType *array, const char *what, int *n)
{
	Datum	   *value;
	bool	   *isnull;
	text	  **out;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("%s must be a one-dimensional array", what)));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &value, &isnull, n);
	out = palloc_extended(Max(*n, 1) * sizeof(text *), MCXT_ALLOC_HUGE);
	for (int i = 0; i < *n; i++)
		out[i] = isnull[i] ? NULL : DatumGetTextPP(value[i]);
	return out;
}

Datum
millrace_bert_score_best(PG_FUNCTION_ARGS)
{
	call_site  *site;
	text	  **reference;
	txt_scored **scored,
			   *candidate;
	txt_score	best;
	int			n,
				known = 0;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	reference = texts_of(PG_GETARG_ARRAYTYPE_P(1), "\"references\"", &n);
	site = site_of(fcinfo, 2);
	txt_scorer_trim(site->scorer, get_hash_memory_limit());
	candidate = wanted(site->scorer, PG_GETARG_TEXT_PP(0));
	scored = palloc(Max(n, 1) * sizeof(txt_scored *));
	for (int i = 0; i < n; i++)
		if (reference[i])
			scored[known++] = wanted(site->scorer, reference[i]);
	txt_scorer_embed(site->scorer);
	for (int i = 0; i < known; i++)
	{
		txt_score	one = txt_scorer_score(site->scorer, candidate, scored[i]);

		best = i == 0 ? one : txt_score_best(best, one);
	}
	if (known == 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(score_tuple(fcinfo, site, best));
}

/* ---- many pairs ---- */

/* Bytes of text that are embedded together at least, so that batches are full. */
#define WINDOW_BYTES (128 * 1024)

typedef struct job
{
	txt_scorer *scorer;
	int			n;
	text	  **candidate,
			  **reference;
	txt_scored **scored;		/* candidate and reference of each pair, NULL where one is null */
	int64		batch_size;		/* pairs at most in a window */
	Datum		model;
} job;

static void
read_options(Jsonb *options, txt_score_options *score, char **model, int64 *batch_size)
{
	const reg_option list[] = {
		REG_OPTION("model", TEXT, model),
		REG_OPTION_IN("layer", INTEGER, &score->layer, 0, 1000),
		REG_OPTION("idf", TEXT, &score->idf),
		REG_OPTION("rescale", JSON, &score->rescale),
		REG_OPTION_IN("batch_size", INTEGER, batch_size, 1, INT_MAX),
		REG_OPTION_END
	};

	if (options)
		reg_read_options(options, "bert_scores()", list);
}

static void
put_score(ReturnSetInfo *rsinfo, const job *j, int pair)
{
	Datum		values[5] = {Int32GetDatum(pair + 1), 0, 0, 0, j->model};
	bool		nulls[5] = {false, true, true, true, false};

	if (j->scored[2 * pair])
	{
		txt_score	score = txt_scorer_score(j->scorer, j->scored[2 * pair], j->scored[2 * pair + 1]);

		values[1] = Float4GetDatum(score.precision);
		values[2] = Float4GetDatum(score.recall);
		values[3] = Float4GetDatum(score.f1);
		nulls[1] = nulls[2] = nulls[3] = false;
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * Pairs window by window: the window's texts that have no vectors yet are embedded
 * together, then matched; a text is forgotten after its last pair.
 */
static void
score_pairs(ReturnSetInfo *rsinfo, job *j)
{
	for (int first = 0, end; first < j->n; first = end)
	{
		for (end = first; end < j->n && end - first < j->batch_size && txt_scorer_waiting(j->scorer) < WINDOW_BYTES; end++)
			if (j->scored[2 * end])
			{
				txt_scorer_want(j->scorer, j->scored[2 * end]);
				txt_scorer_want(j->scorer, j->scored[2 * end + 1]);
			}
		txt_scorer_embed(j->scorer);
		for (int i = first; i < end; i++)
		{
			CHECK_FOR_INTERRUPTS();
			put_score(rsinfo, j, i);
			if (j->scored[2 * i])
			{
				txt_scorer_used(j->scorer, j->scored[2 * i]);
				txt_scorer_used(j->scorer, j->scored[2 * i + 1]);
			}
		}
	}
}

Datum
millrace_bert_scores(PG_FUNCTION_ARGS)
{
	txt_score_options options = TXT_SCORE_OPTIONS_NONE;
	char	   *model = NULL;
	const txt_model *m;
	void	   *model_site = NULL;
	int			n_references;
	job			j = {.batch_size = INT_MAX};

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	j.candidate = texts_of(PG_GETARG_ARRAYTYPE_P(0), "\"candidates\"", &j.n);
	j.reference = texts_of(PG_GETARG_ARRAYTYPE_P(1), "\"references\"", &n_references);
	if (j.n != n_references)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there are %d candidates and %d references", j.n, n_references),
				 errdetail("Each candidate is scored against the reference at its place.")));
	read_options(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), &options, &model, &j.batch_size);
	m = txt_model_site(&model_site, CurrentMemoryContext, model ? cstring_to_text(model) : NULL);
	j.model = PointerGetDatum(m->reg->reference_text);
	j.scorer = txt_scorer_create(CurrentMemoryContext, m, txt_score_settings_of(m, &options));
	j.scored = palloc_extended(Max(2 * (Size) j.n, 1) * sizeof(txt_scored *), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < j.n; i++)
		if (j.candidate[i] && j.reference[i])
		{
			txt_scorer_use(j.scored[2 * i] = txt_scorer_add(j.scorer, j.candidate[i]));
			txt_scorer_use(j.scored[2 * i + 1] = txt_scorer_add(j.scorer, j.reference[i]));
		}
	score_pairs((ReturnSetInfo *) fcinfo->resultinfo, &j);
	txt_scorer_free(j.scorer);
	return (Datum) 0;
}
