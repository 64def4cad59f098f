/*
 * score_settings_pg.c
 *	  By what settings a model scores: its specification, options of a call, and
 *	  what is stored for it.
 *
 *	"score": {"layer": 5, "max_tokens": 512, "idf": "answers", "rescale": true | [p, r, f1],
 *	          "calibration": {"raw": [0, 0.4, 1], "calibrated": [0, 0.75, 1]}}
 */
#include "postgres.h"

#include <math.h>

#include "registry/options.h"
#include "text/score_pg.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* Numbers of a JSON array; false: it is none, or has more than max. */
static bool
numbers_of(const JsonbValue *v, int max, int *n, double *out)
{
	JsonbContainer *array = v->type == jbvBinary ? v->val.binary.data : NULL;

	if (array == NULL || !JsonContainerIsArray(array) || (int) JsonContainerSize(array) > max)
		return false;
	*n = JsonContainerSize(array);
	for (int i = 0; i < *n; i++)
	{
		JsonbValue *e = getIthJsonbValueFromContainer(array, i);

		if (e->type != jbvNumeric)
			return false;
		out[i] = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(e->val.numeric)));
	}
	return true;
}

/* The specification's member, key by key; an unknown one is an error. */
typedef struct score_spec
{
	txt_score_options options;
	int64		max_tokens;
	JsonbValue	calibration;
} score_spec;

static score_spec
read_spec(Jsonb *score)
{
	score_spec	spec = {.options = TXT_SCORE_OPTIONS_NONE,.calibration = {.type = jbvNull}};
	const reg_option list[] = {
		REG_OPTION_IN("layer", INTEGER, &spec.options.layer, 0, 1000),
		REG_OPTION_IN("max_tokens", INTEGER, &spec.max_tokens, 3, 1 << 20),
		REG_OPTION("idf", TEXT, &spec.options.idf),
		REG_OPTION("rescale", JSON, &spec.options.rescale),
		REG_OPTION("calibration", JSON, &spec.calibration),
		REG_OPTION_END
	};

	if (score)
		reg_read_options(score, "\"score\" of a model specification", list);
	return spec;
}

void
txt_score_check(Jsonb *score, const txt_encoder_info *info)
{
	if (read_spec(score).options.layer > info->layers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: \"score.layer\" must be at most %d, the layers of the model", info->layers)));
}

static void
set_baseline(const txt_model *m, const JsonbValue *v, txt_score_settings *s)
{
	double		b[3];
	int			n;

	s->rescale = true;
	if (v->type == jbvBool)
	{
		s->rescale = v->val.boolean;
		if (s->rescale && !txt_read_baseline(m->reg->name, m->reg->version, s->layer, &s->baseline))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("model \"%s\" has no baseline for layer %d", m->reg->reference, s->layer),
					 errhint("millrace.build_score_baseline() makes one, or give it as [precision, recall, f1].")));
		return;
	}
	if (!numbers_of(v, 3, &n, b) || n != 3 || !(b[0] < 1 && b[1] < 1 && b[2] < 1) || !isfinite(b[0] + b[1] + b[2]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"rescale\" must be true, false or a baseline: [precision, recall, f1], each below 1")));
	s->baseline = (txt_score) {(float) b[0], (float) b[1], (float) b[2]};
}

static void
set_idf(const txt_model *m, txt_score_settings *s)
{
	char	   *made_by;
	int			vocabulary;

	if (!txt_read_idf(s->idf_name, &s->idf, &made_by, &vocabulary))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("IDF weights \"%s\" do not exist", s->idf_name),
				 errhint("millrace.build_idf() makes them; millrace.score_idf lists them.")));
	if (vocabulary != m->encoder.info.vocabulary)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("IDF weights \"%s\" are not of the tokens of model \"%s\"", s->idf_name, m->reg->reference),
				 errdetail("They were made with model \"%s\", whose vocabulary has %d tokens; this one has %d.",
						   made_by, vocabulary, m->encoder.info.vocabulary)));
}

txt_score_settings *
txt_score_settings_of(const txt_model *m, const txt_score_options *options)
{
	static const txt_score_options none = TXT_SCORE_OPTIONS_NONE;
	score_spec	spec = read_spec(m->spec->score);
	txt_score_settings *s = palloc0(sizeof(*s));
	const txt_encoder_info *info = &m->encoder.info;
	int64		layer;

	if (options == NULL)
		options = &none;
	layer = options->layer >= 0 ? options->layer : spec.options.layer >= 0 ? spec.options.layer : info->layers;
	if (layer > info->layers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" has no layer %d", m->reg->reference, (int) layer),
				 errdetail("Its layers are 0, the embeddings of tokens, to %d.", info->layers)));
	s->layer = (int) layer;
	s->max_tokens = spec.max_tokens > 0 ? (int) Min(spec.max_tokens, info->max_tokens) : info->max_tokens;
	s->idf_name = options->idf ? options->idf : spec.options.idf ? spec.options.idf : "";
	if (s->idf_name[0] != '\0')
		set_idf(m, s);
	if (options->rescale.type != jbvNull)
		set_baseline(m, &options->rescale, s);
	else if (spec.options.rescale.type != jbvNull)
		set_baseline(m, &spec.options.rescale, s);
	return s;
}

/* The specification's own scale is of its own settings only. */
static bool
scale_of_spec(const txt_model *m, const txt_score_settings *s, txt_scale *scale)
{
	score_spec	spec = read_spec(m->spec->score);
	JsonbContainer *object = spec.calibration.type == jbvBinary ? spec.calibration.val.binary.data : NULL;
	JsonbValue	raw,
				calibrated;
	int			n = 0;

	if (spec.calibration.type == jbvNull ||
		s->layer != (spec.options.layer >= 0 ? spec.options.layer : m->encoder.info.layers) ||
		strcmp(s->idf_name, spec.options.idf ? spec.options.idf : "") != 0)
		return false;
	if (object == NULL || !JsonContainerIsObject(object) ||
		!getKeyJsonValueFromContainer(object, "raw", 3, &raw) ||
		!getKeyJsonValueFromContainer(object, "calibrated", 10, &calibrated) ||
		!numbers_of(&raw, TXT_MAX_KNOTS, &scale->n, scale->raw) ||
		!numbers_of(&calibrated, TXT_MAX_KNOTS, &n, scale->calibrated) || n != scale->n || !txt_scale_is_valid(scale))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: \"score.calibration\" must be {\"raw\": [...], \"calibrated\": [...]}, ascending numbers, as many of each")));
	return true;
}

txt_scale
txt_scale_for(const txt_model *m, const txt_score_settings *s)
{
	txt_scale	scale;

	if (!txt_read_scale(m->reg->name, m->reg->version, s->layer, s->idf_name, &scale) && !scale_of_spec(m, s, &scale))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("scores of model \"%s\" are not calibrated for layer %d%s%s", m->reg->reference, s->layer,
						s->idf_name[0] ? " and IDF weights " : "", s->idf_name),
				 errhint("millrace.calibrate_score() finds the scale from judged examples.")));
	return scale;
}
