/*
 * look_options_pg.c
 *	  Options of image_annotate() and image_sheet() out of jsonb.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "image/image.h"
#include "image/look_pg.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

void
look_bad_option(const char *name, const char *must)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" must be %s", name, must)));
}

static double
number_of(const JsonbValue *v)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));
}

double
look_member(JsonbContainer *object, const char *name)
{
	JsonbValue	v;

	if (!getKeyJsonValueFromContainer(object, name, (int) strlen(name), &v) || v.type == jbvNull)
		return NAN;
	if (v.type != jbvNumeric)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" of a box must be a number", name)));
	return number_of(&v);
}

static int
get_int(const char *name, const JsonbValue *v, int least, int most)
{
	double		x = v->type == jbvNumeric ? number_of(v) : NAN;

	if (!(x >= least && x <= most && x == floor(x)))
		look_bad_option(name, psprintf("a whole number between %d and %d", least, most));
	return (int) x;
}

static char *
get_text(const char *name, const JsonbValue *v)
{
	if (v->type != jbvString)
		look_bad_option(name, "a text");
	return pnstrdup(v->val.string.val, v->val.string.len);
}

static bool
get_bool(const char *name, const JsonbValue *v)
{
	if (v->type != jbvBool)
		look_bad_option(name, "true or false");
	return v->val.boolean;
}

static look_labels
get_labels(const char *name, const JsonbValue *v)
{
	char	   *s = get_text(name, v);

	if (strcmp(s, "fitting") == 0)
		return labels_fitting;
	if (strcmp(s, "all") == 0)
		return labels_all;
	if (strcmp(s, "none") == 0)
		return labels_none;
	look_bad_option(name, "\"fitting\", \"all\" or \"none\"");
}

void
look_read_format(const char *format, look_options *opt)
{
	opt->png = strcmp(format, "png") == 0;
	if (!opt->png && strcmp(format, "jpeg") != 0 && strcmp(format, "jpg") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown image format \"%s\"", format),
				 errhint("Use \"jpeg\" or \"png\".")));
}

static void
read_option(const char *name, const JsonbValue *v, look_for who, look_options *opt)
{
	bool		annotate = who == look_for_annotate;

	if (strcmp(name, "quality") == 0)
		opt->quality = get_int(name, v, 1, 100);
	else if (strcmp(name, "labels") == 0)
		opt->labels = get_labels(name, v);
	else if (strcmp(name, "confidence") == 0)
		opt->confidence = get_bool(name, v);
	else if (annotate && strcmp(name, "line_width") == 0)
		opt->line_width = get_int(name, v, 1, 100);
	else if (annotate && strcmp(name, "font_size") == 0)
		opt->font_size = get_int(name, v, 6, 200);
	else if (annotate && strcmp(name, "scale") == 0)
		opt->scale = get_int(name, v, 1, 16);
	else if (!annotate && strcmp(name, "format") == 0)
		look_read_format(get_text(name, v), opt);
	else if (!annotate && strcmp(name, "columns") == 0)
		opt->columns = get_int(name, v, 1, 1000);
	else if (!annotate && strcmp(name, "tile") == 0)
		opt->tile = get_int(name, v, 16, 2048);
	else if (!annotate && strcmp(name, "title") == 0)
		opt->title = get_text(name, v);
	else if (!annotate && strcmp(name, "boxes") == 0)
	{
		if (v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data))
			look_bad_option(name, "an array with an array of boxes for each image");
		opt->boxes = v->val.binary.data;
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown option \"%s\" of %s", name, annotate ? "image_annotate()" : "image_sheet()"),
				 errhint(annotate ? "Options are line_width, font_size, labels, confidence, scale and quality."
						 : "Options are columns, tile, title, boxes, labels, confidence, format and quality.")));
}

void
look_read_options(Jsonb *options, look_for who, look_options *opt)
{
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object")));
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_KEY)
			name = pnstrdup(v.val.string.val, v.val.string.len);
		else if (token == WJB_VALUE && v.type != jbvNull)
			read_option(name, &v, who, opt);
}
