/*
 * options_pg.c
 *	  Options of a function as a jsonb object.  See options.h.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "lib/stringinfo.h"
#include "registry/options.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/numeric.h"

static const char *
what_is_wanted(const reg_option *o)
{
	bool		bounded = o->low != 0 || o->high != 0;

	switch (o->type)
	{
		case REG_OPTION_TEXT:
			return "a text";
		case REG_OPTION_BOOL:
			return "true or false";
		case REG_OPTION_INTEGER:
			return bounded ? psprintf("an integer from %.0f to %.0f", o->low, o->high) : "an integer";
		case REG_OPTION_NUMBER:
			return bounded ? psprintf("a number from %g to %g", o->low, o->high) : "a number";
		case REG_OPTION_MEMORY:
			return "an amount of memory, such as \"200MB\"";
		case REG_OPTION_SECONDS:
			return "a time, such as \"10 min\", or a number of seconds";
		case REG_OPTION_JSON:
			break;
	}
	return "something else";
}

static double
number_of(const JsonbValue *v)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(v->val.numeric)));
}

static bool
read_number(const reg_option *o, const JsonbValue *v)
{
	double		x = v->type == jbvNumeric ? number_of(v) : NAN;

	if (isnan(x) || isinf(x) || ((o->low != 0 || o->high != 0) && (x < o->low || x > o->high)))
		return false;
	if (o->type == REG_OPTION_NUMBER)
		*(double *) o->value = x;
	else if (x != floor(x) || fabs(x) > 9e15)
		return false;
	else
		*(int64 *) o->value = (int64) x;
	return true;
}

/* As a configuration parameter of this unit is written. */
static bool
read_with_unit(const reg_option *o, const JsonbValue *v)
{
	const char *text = v->type == jbvString ? pnstrdup(v->val.string.val, v->val.string.len) :
		v->type == jbvNumeric ? psprintf("%g", number_of(v)) : "";
	double		x;

	if (o->type == REG_OPTION_MEMORY)
	{
		if (!parse_real(text, &x, GUC_UNIT_KB, NULL) || !(x > 0) || x > (double) PG_INT64_MAX / 2048)
			return false;
		*(int64 *) o->value = (int64) (x * 1024);
	}
	else
	{
		if (!parse_real(text, &x, GUC_UNIT_S, NULL) || !(x > 0))
			return false;
		*(double *) o->value = x;
	}
	return true;
}

static bool
read_one(const reg_option *o, const JsonbValue *v)
{
	switch (o->type)
	{
		case REG_OPTION_TEXT:
			if (v->type == jbvString)
				*(char **) o->value = pnstrdup(v->val.string.val, v->val.string.len);
			return v->type == jbvString;
		case REG_OPTION_BOOL:
			if (v->type == jbvBool)
				*(bool *) o->value = v->val.boolean;
			return v->type == jbvBool;
		case REG_OPTION_INTEGER:
		case REG_OPTION_NUMBER:
			return read_number(o, v);
		case REG_OPTION_MEMORY:
		case REG_OPTION_SECONDS:
			return read_with_unit(o, v);
		case REG_OPTION_JSON:
			*(JsonbValue *) o->value = *v;
			return true;
	}
	return false;
}

void
reg_read_options(Jsonb *options, const char *function, const reg_option *list)
{
	JsonbIterator *it;
	JsonbValue	v;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object")));
	it = JsonbIteratorInit(&options->root);
	(void) JsonbIteratorNext(&it, &v, true);
	while (JsonbIteratorNext(&it, &v, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);
		const reg_option *o = list;

		(void) JsonbIteratorNext(&it, &v, true);
		while (o->name && strcmp(o->name, name) != 0)
			o++;
		if (o->name == NULL)
		{
			StringInfoData known;

			initStringInfo(&known);
			for (o = list; o->name; o++)
				appendStringInfo(&known, "%s%s", o == list ? "" : ", ", o->name);
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s has no option \"%s\"", function, name),
					 errhint("Known options: %s.", known.data)));
		}
		if (v.type != jbvNull && !read_one(o, &v))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" must be %s", name, what_is_wanted(o))));
	}
}
