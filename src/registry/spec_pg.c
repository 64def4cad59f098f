/*
 * spec_pg.c
 *	  Model specifications: what the jsonb of millrace.models.spec may say.
 *
 *	{"input":  {"width": 224, "height": 224, "fit": "cover", "resize": 256,
 *	            "filter": "bilinear", "channels": "rgb", "range": [0, 1],
 *	            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "pad": 114},
 *	 "output": "features", "precision": "bfloat16", "labels": ["cat", "dog"], "backbone": "cifar10:1",
 *	 "task": "classification", "features": ["u", "g", "r"], "shapes": [[1, 3, 320, 320], [1, 3, 640, 640]]}
 *
 * Every key is optional, an unknown one is an error: a typing mistake must not
 * silently change what a network sees.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "core/core_pg.h"
#include "image/image_pg.h"
#include "registry/model.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

static const char *const top_keys[] = {"input", "output", "precision", "labels", "backbone", "features", "task", "shapes", "description", "licence", "license", "source", NULL};
static const char *const input_keys[] = {"width", "height", "fit", "resize", "filter", "channels", "range", "mean", "std", "pad", NULL};

static void
bad_spec(const char *where, const char *key, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("model specification: \"%s%s\" must be %s", where, key, wanted)));
}

static void
check_keys(JsonbContainer *object, const char *const *known, const char *where)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		int			i = 0;

		if (token != WJB_KEY)
			continue;
		while (known[i] && (strlen(known[i]) != (size_t) v.val.string.len ||
							memcmp(known[i], v.val.string.val, v.val.string.len) != 0))
			i++;
		if (known[i] == NULL)
		{
			StringInfoData list;

			initStringInfo(&list);
			for (i = 0; known[i]; i++)
				appendStringInfo(&list, "%s%s", i ? ", " : "", known[i]);
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model specification: unknown key \"%s%.*s\"", where,
							v.val.string.len, v.val.string.val),
					 errhint("Known are: %s.", list.data)));
		}
	}
}

/* A member; false if absent or null. */
static bool
member(JsonbContainer *object, const char *key, JsonbValue *out)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), out) != NULL &&
		out->type != jbvNull;
}

static double
number_of(const JsonbValue *v, const char *where, const char *key)
{
	double		d;

	if (v->type != jbvNumeric)
		bad_spec(where, key, "a number");
	d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));
	if (!isfinite(d) || !isfinite((float) d))
		bad_spec(where, key, "a number in the range of real");
	return d;
}

static int
integer_member(JsonbContainer *object, const char *key, int low, int high, int absent)
{
	JsonbValue	v;
	double		d;

	if (!member(object, key, &v))
		return absent;
	d = number_of(&v, "input.", key);
	if (d != floor(d) || d < low || d > high)
		bad_spec("input.", key, psprintf("an integer between %d and %d", low, high));
	return (int) d;
}

char *
reg_jsonb_text(JsonbContainer *object, const char *key, const char *where)
{
	JsonbValue	v;

	if (!member(object, key, &v))
		return NULL;
	if (v.type != jbvString)
		bad_spec(where, key, "a string");
	return pnstrdup(v.val.string.val, v.val.string.len);
}

/* Up to max numbers of an array, or one number; returns how many. */
static int
numbers_member(JsonbContainer *object, const char *key, int max, double *out)
{
	JsonbValue	v;
	int			n;

	if (!member(object, key, &v))
		return 0;
	if (v.type == jbvNumeric)
	{
		out[0] = number_of(&v, "input.", key);
		return 1;
	}
	if (v.type != jbvBinary || !JsonContainerIsArray(v.val.binary.data))
		bad_spec("input.", key, "an array of numbers");
	n = JsonContainerSize(v.val.binary.data);
	if (n < 1 || n > max)
		bad_spec("input.", key, max == 2 ? "an array of two numbers" : "an array of one or three numbers");
	for (int i = 0; i < n; i++)
		out[i] = number_of(getIthJsonbValueFromContainer(v.val.binary.data, i), "input.", key);
	return n;
}

/* mean and std: one number for all planes, or one each. */
static void
planes_member(JsonbContainer *object, const char *key, float *out)
{
	double		d[3];
	int			n = numbers_member(object, key, 3, d);

	if (n == 2)
		bad_spec("input.", key, "an array of one or three numbers");
	for (int i = 0; n > 0 && i < 3; i++)
		out[i] = (float) d[n == 3 ? i : 0];
}

static void
parse_input(JsonbContainer *input, reg_spec *spec)
{
	img_prep   *prep = &spec->prep;
	double		range[2] = {0, 1};
	char	   *s;
	int			n;

	check_keys(input, input_keys, "input.");
	prep->width = integer_member(input, "width", 1, 16384, 0);
	prep->height = integer_member(input, "height", 1, 16384, 0);
	spec->has_size = prep->width > 0 && prep->height > 0;
	prep->resize = integer_member(input, "resize", 1, 16384, 0);
	n = integer_member(input, "pad", 0, 255, -1);
	spec->has_pad = n >= 0;
	prep->pad = (uint8) Max(n, 0);
	if ((s = reg_jsonb_text(input, "fit", "input.")) && !img_fit_by_name(s, &prep->fit))
		bad_spec("input.", "fit", "stretch, cover or contain");
	spec->has_fit = s != NULL || prep->resize > 0;
	if (prep->resize > 0)
	{
		/* torchvision's Resize + CenterCrop */
		if (s && prep->fit != img_fit_cover && prep->fit != img_fit_resize_crop)
			bad_spec("input.", "resize", "absent unless \"fit\" is \"cover\"");
		prep->fit = img_fit_resize_crop;
	}
	if ((s = reg_jsonb_text(input, "filter", "input.")) && !img_filter_by_name(s, &prep->filter))
		bad_spec("input.", "filter", "nearest, box, bilinear, bicubic or lanczos");
	if ((s = reg_jsonb_text(input, "channels", "input.")))
	{
		prep->bgr = strcmp(s, "bgr") == 0;
		prep->grey = strcmp(s, "grey") == 0 || strcmp(s, "gray") == 0;
		if (!prep->bgr && !prep->grey && strcmp(s, "rgb") != 0)
			bad_spec("input.", "channels", "rgb, bgr or grey");
		spec->has_channels = true;
	}
	n = numbers_member(input, "range", 2, range);
	if (n == 1 || range[0] == range[1])
		bad_spec("input.", "range", "an array of two different numbers");
	planes_member(input, "mean", prep->mean);
	planes_member(input, "std", prep->std);
	for (int i = 0; i < 3; i++)
	{
		if (prep->std[i] == 0)
			bad_spec("input.", "std", "other than zero");
		/* (pixel / 255 * (high - low) + low - mean) / std */
		prep->mean[i] -= (float) range[0];
	}
	prep->scale = (float) ((range[1] - range[0]) / 255.0);
}

static ArrayType *
parse_labels(const JsonbValue *v)
{
	JsonbContainer *array = v->val.binary.data;
	Datum	   *labels;
	int			n;

	if (v->type != jbvBinary || !JsonContainerIsArray(array) || JsonContainerSize(array) == 0)
		bad_spec("", "labels", "an array of strings");
	n = JsonContainerSize(array);
	labels = palloc(n * sizeof(Datum));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *label = getIthJsonbValueFromContainer(array, i);

		if (label->type != jbvString)
			bad_spec("", "labels", "an array of strings");
		labels[i] = PointerGetDatum(cstring_to_text_with_len(label->val.string.val, label->val.string.len));
	}
	return construct_array(labels, n, TEXTOID, -1, false, TYPALIGN_INT);
}

/* int8 is not a way to run a model but another model: quantize_model() makes it. */
static nn_dtype
parse_precision(const char *s)
{
	if (s == NULL || strcmp(s, "float32") == 0)
		return nn_float32;
	if (strcmp(s, "bfloat16") == 0)
		return nn_bfloat16;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("model specification: \"precision\" must be float32 or bfloat16"),
			 strcmp(s, "int8") == 0 ? errhint("millrace.quantize_model() makes an int8 version of a model.") : 0));
}

static const char *const task_names[] = {"none", "classification", "regression", "clustering"};

const char *
reg_task_name(nn_task task)
{
	return task_names[task];
}

static nn_task
parse_task(const char *s)
{
	if (s == NULL)
		return nn_task_none;
	for (nn_task task = nn_task_classify; task <= nn_task_cluster; task++)
		if (strcmp(s, task_names[task]) == 0)
			return task;
	bad_spec("", "task", "classification, regression or clustering");
	return nn_task_none;
}

void
reg_spec_parse(Jsonb *jsonb, reg_spec *out)
{
	JsonbValue	v;

	memset(out, 0, sizeof(*out));
	out->prep.fit = img_fit_stretch;
	out->prep.filter = img_bilinear;
	out->prep.scale = 1.0f / 255.0f;
	for (int i = 0; i < 3; i++)
		out->prep.std[i] = 1;
	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a model specification must be a JSON object")));
	check_keys(&jsonb->root, top_keys, "");
	out->output = reg_jsonb_text(&jsonb->root, "output", "");
	out->backbone = reg_jsonb_text(&jsonb->root, "backbone", "");
	out->precision = parse_precision(reg_jsonb_text(&jsonb->root, "precision", ""));
	out->task = parse_task(reg_jsonb_text(&jsonb->root, "task", ""));
	if (member(&jsonb->root, "labels", &v))
		out->labels = parse_labels(&v);
	if (member(&jsonb->root, "input", &v))
	{
		if (v.type != jbvBinary || !JsonContainerIsObject(v.val.binary.data))
			bad_spec("", "input", "an object");
		out->has_input = true;
		parse_input(v.val.binary.data, out);
	}
	out->shapes = "";
	if (member(&jsonb->root, "shapes", &v))
		reg_parse_shapes(&v, out);
	else if (out->prep.width > 0 || out->prep.height > 0)
		reg_image_class(out);
}

void
reg_spec_complete(reg_spec *spec, const nn_tensor_info *input)
{
	const img_limits *limits = img_current_limits();
	mr_status	st;
	int64		planes = input->rank == 4 ? input->dims[1] : 0;

	if (planes != 1 && planes != 3)
	{
		if (!spec->has_input)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: \"input\" describes an image, but input \"%s\" of the model does not take one",
						input->name),
				 errdetail("An image input has the dimensions N x 3 x height x width, or N x 1 x height x width.")));
	}
	if (!spec->has_channels)
		spec->prep.grey = planes == 1;
	else if (spec->prep.grey != (planes == 1))
		bad_spec("input.", "channels", planes == 1 ? "grey: the model takes one plane" :
				 "rgb or bgr: the model takes three planes");
	if (spec->prep.height == 0)
		spec->prep.height = (int) input->dims[2];
	if (spec->prep.width == 0)
		spec->prep.width = (int) input->dims[3];
	if (spec->prep.height != input->dims[2] || spec->prep.width != input->dims[3])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: the input is %d x %d pixels, but the model takes " INT64_FORMAT " x " INT64_FORMAT,
						spec->prep.width, spec->prep.height, input->dims[3], input->dims[2])));
	if (img_check_prep(&spec->prep, limits, &st) != MR_OK)
		mr_pg_raise(&st);
}

Jsonb *
reg_jsonb_set_text(Jsonb *object, const char *key, const char *value)
{
	JsonbParseState *state = NULL;
	JsonbValue	k;
	JsonbValue	v;
	Jsonb	   *one;

	k.type = v.type = jbvString;
	k.val.string.val = unconstify(char *, key);
	k.val.string.len = strlen(key);
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = strlen(value);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&state, WJB_KEY, &k);
	pushJsonbValue(&state, WJB_VALUE, &v);
	one = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(object), JsonbPGetDatum(one)));
}
