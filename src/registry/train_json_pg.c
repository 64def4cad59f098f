/*
 * train_json_pg.c
 *	  Members of a jsonb object under construction.  Memory is the caller's
 *	  current context.
 */
#include "postgres.h"

#include <math.h>

#include "registry/train_data.h"
#include "registry/train_json.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

static JsonbValue
text_value(const char *text)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, text);
	v.val.string.len = strlen(text);
	return v;
}

static JsonbValue
number_value(double x)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = DatumGetNumeric(DirectFunctionCall2(numeric_round,
														DirectFunctionCall1(float8_numeric, Float8GetDatum(x)),
														Int32GetDatum(6)));
	return v;
}

static JsonbValue
integer_value(int64 n)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(n);
	return v;
}

void
json_push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	v = text_value(key);

	pushJsonbValue(state, WJB_KEY, &v);
}

void
json_push_string(JsonbParseState **state, const char *key, const char *text)
{
	JsonbValue	v;

	json_push_key(state, key);
	if (text)
		v = text_value(text);
	else
		v.type = jbvNull;
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
json_push_integer(JsonbParseState **state, const char *key, int64 n)
{
	JsonbValue	v = integer_value(n);

	json_push_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
json_push_number(JsonbParseState **state, const char *key, double x)
{
	JsonbValue	v;

	if (isnan(x) || isinf(x))
		return;
	v = number_value(x);
	json_push_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
json_push_double(JsonbParseState **state, const char *key, double x)
{
	JsonbValue	v;

	if (isnan(x) || isinf(x))
		return;
	v.type = jbvNumeric;
	v.val.numeric = DatumGetNumeric(DirectFunctionCall1(float8_numeric, Float8GetDatum(x)));
	json_push_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
json_push_bool(JsonbParseState **state, const char *key, bool b)
{
	JsonbValue	v;

	v.type = jbvBool;
	v.val.boolean = b;
	json_push_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
json_push_json(JsonbParseState **state, const char *key, Jsonb *value)
{
	JsonbValue	v;

	v.type = jbvBinary;
	v.val.binary.data = &value->root;
	v.val.binary.len = VARSIZE_ANY_EXHDR(value);
	json_push_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
json_push_element(JsonbParseState **state, const char *text)
{
	JsonbValue	v = text_value(text);

	pushJsonbValue(state, WJB_ELEM, &v);
}

void
json_push_number_element(JsonbParseState **state, double x)
{
	JsonbValue	v = number_value(x);

	pushJsonbValue(state, WJB_ELEM, &v);
}

void
json_push_integer_element(JsonbParseState **state, int64 n)
{
	JsonbValue	v = integer_value(n);

	pushJsonbValue(state, WJB_ELEM, &v);
}

Jsonb *
json_of(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

void
train_push_features(const train_data *data, JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < data->n_columns; i++)
	{
		const train_column *c = &data->column[i];

		if (!train_is_feature(c))
			continue;
		pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
		json_push_string(state, "name", c->name);
		switch (c->source)
		{
			case TRAIN_BOOL:
				json_push_string(state, "type", "boolean");
				break;
			case TRAIN_CATEGORY:
				json_push_string(state, "type", "category");
				json_push_key(state, "values");
				pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
				for (int k = 0; k < c->values->n; k++)
					json_push_element(state, c->values->text[k]);
				pushJsonbValue(state, WJB_END_ARRAY, NULL);
				if (c->one_hot)
					json_push_bool(state, "one_hot", true);
				break;
			case TRAIN_FLOAT4_ARRAY:
			case TRAIN_FLOAT8_ARRAY:
				json_push_string(state, "type", "array");
				json_push_integer(state, "length", c->width);
				break;
			default:
				json_push_string(state, "type", "number");
				break;
		}
		pushJsonbValue(state, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}
