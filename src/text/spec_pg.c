/*
 * spec_pg.c
 *	  The specification of an encoder.  See spec_pg.h.
 */
#include "postgres.h"

#include "registry/options.h"
#include "text/score_pg.h"
#include "text/spec_pg.h"
#include "utils/builtins.h"

static const char *const pooling_names[] = {"mean", "cls", "max", "mean_sqrt"};
static const char *const family_names[] = {"bert", "distilbert", "roberta", "mpnet", "onnx"};

const char *
txt_pooling_name(txt_pooling pooling)
{
	return pooling_names[pooling];
}

const char *
txt_family_name(txt_family family)
{
	return family_names[family];
}

static void
bad_spec(const char *key, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("model specification: \"%s\" must be %s", key, wanted)));
}

static nn_dtype
parse_precision(const char *s)
{
	if (s == NULL || strcmp(s, "float32") == 0)
		return nn_float32;
	if (strcmp(s, "bfloat16") == 0)
		return nn_bfloat16;
	if (strcmp(s, "int8") != 0)
		bad_spec("precision", "float32, bfloat16 or int8");
	return nn_int8;
}

static int
parse_pooling(const char *s)
{
	if (s == NULL)
		return -1;
	for (int i = 0; i < (int) lengthof(pooling_names); i++)
		if (strcmp(s, pooling_names[i]) == 0)
			return i;
	bad_spec("pooling", "mean, cls, max or mean_sqrt");
	return -1;
}

txt_spec *
txt_spec_parse(Jsonb *json)
{
	txt_spec   *spec = palloc0(sizeof(*spec));
	char	   *precision = NULL,
			   *pooling = NULL,
			   *ignored = NULL;
	int64		max_tokens = 0;
	JsonbValue	normalize = {.type = jbvNull},
				score = {.type = jbvNull};
	const reg_option keys[] = {
		REG_OPTION("precision", TEXT, &precision),
		REG_OPTION("pooling", TEXT, &pooling),
		REG_OPTION("normalize", JSON, &normalize),
		REG_OPTION_IN("max_tokens", INTEGER, &max_tokens, 3, 1 << 20),
		REG_OPTION("score", JSON, &score),
		REG_OPTION("description", TEXT, &ignored),
		REG_OPTION("licence", TEXT, &ignored),
		REG_OPTION("license", TEXT, &ignored),
		REG_OPTION("source", TEXT, &ignored),
		REG_OPTION_END
	};

	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a model specification must be a JSON object")));
	reg_read_options(json, "the specification of an encoder", keys);
	spec->precision = parse_precision(precision);
	spec->pooling = parse_pooling(pooling);
	spec->max_tokens = (int) max_tokens;
	if (normalize.type != jbvNull && normalize.type != jbvBool)
		bad_spec("normalize", "true or false");
	spec->normalize = normalize.type == jbvNull ? -1 : normalize.val.boolean;
	if (score.type != jbvNull)
	{
		if (score.type != jbvBinary || !JsonContainerIsObject(score.val.binary.data))
			bad_spec("score", "an object");
		spec->score = JsonbValueToJsonb(&score);
	}
	return spec;
}

void
txt_spec_check(const txt_spec *spec, const txt_encoder_info *info)
{
	if (spec->max_tokens > info->max_tokens)
		bad_spec("max_tokens", psprintf("at most %d, which is what the model takes", info->max_tokens));
	txt_score_check(spec->score, info);
}

void
txt_spec_apply(const txt_spec *spec, txt_encoder_info *info)
{
	if (spec->pooling >= 0)
		info->pooling = spec->pooling;
	if (spec->normalize >= 0)
		info->normalize = spec->normalize;
	if (spec->max_tokens > 0)
		info->embed_tokens = spec->max_tokens;
}
