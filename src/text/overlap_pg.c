/*
 * overlap_pg.c
 *	  SQL entries of the light scores: rouge_l(), token_f1(), token_recall(),
 *	  exact_match(), and answer_relevance(), which needs an encoder.
 */
#include "postgres.h"

#include <math.h>

#include "core/core_pg.h"
#include "text/overlap.h"
#include "text/similarity.h"
#include "text/text_pg.h"

PG_FUNCTION_INFO_V1(millrace_rouge_l);
PG_FUNCTION_INFO_V1(millrace_token_f1);
PG_FUNCTION_INFO_V1(millrace_token_recall);
PG_FUNCTION_INFO_V1(millrace_exact_match);
PG_FUNCTION_INFO_V1(millrace_answer_relevance);

static txt_pair
pair_of_call(FunctionCallInfo fcinfo)
{
	txt_string	candidate = txt_string_of(PG_GETARG_TEXT_PP(0)),
				reference = txt_string_of(PG_GETARG_TEXT_PP(1));

	return (txt_pair) {candidate.data, candidate.len, reference.data, reference.len};
}

Datum
millrace_rouge_l(PG_FUNCTION_ARGS)
{
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	txt_pair	pair = pair_of_call(fcinfo);
	txt_overlap o;

	if (txt_rouge_l(&env, &pair, &o, &st) != MR_OK)
		mr_pg_raise(&st);
	PG_RETURN_FLOAT4((float) o.f1);
}

static txt_overlap
token_overlap(FunctionCallInfo fcinfo, bool *equal)
{
	mr_env		env = mr_pg_env(NULL);
	mr_status	st = {0};
	txt_pair	pair = pair_of_call(fcinfo);
	txt_overlap o;

	if (txt_token_overlap(&env, &pair, &o, equal, &st) != MR_OK)
		mr_pg_raise(&st);
	return o;
}

Datum
millrace_token_f1(PG_FUNCTION_ARGS)
{
	bool		equal;

	PG_RETURN_FLOAT4((float) token_overlap(fcinfo, &equal).f1);
}

Datum
millrace_token_recall(PG_FUNCTION_ARGS)
{
	bool		equal;

	PG_RETURN_FLOAT4((float) token_overlap(fcinfo, &equal).recall);
}

Datum
millrace_exact_match(PG_FUNCTION_ARGS)
{
	bool		equal;

	(void) token_overlap(fcinfo, &equal);
	PG_RETURN_BOOL(equal);
}

/* ---- question and answer ---- */

typedef struct two_embeddings
{
	int			width;
	float	   *of[2];
} two_embeddings;

static void
take_embedding(void *arg, int i, const float *embedding, int tokens, bool truncated)
{
	two_embeddings *e = arg;

	memcpy(e->of[i], embedding, e->width * sizeof(float));
}

Datum
millrace_answer_relevance(PG_FUNCTION_ARGS)
{
	const txt_model *m;
	txt_string	texts[2];
	two_embeddings e;
	double		distance;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	m = txt_model_arg(fcinfo, 2);
	e.width = m->encoder.info.hidden;
	for (int i = 0; i < 2; i++)
	{
		texts[i] = txt_string_of(PG_GETARG_TEXT_PP(i));
		e.of[i] = palloc0(e.width * sizeof(float));
	}
	txt_embed(m, texts, 2, take_embedding, &e);
	distance = sim_distance(SIM_COSINE, e.of[0], e.of[1], e.width);
	PG_RETURN_FLOAT4(isnan(distance) ? 0 : (float) (1 - distance));
}
