/*
 * train_columns_pg.c
 *	  The columns of a query: which types can be features, which part each
 *	  column plays, its values as numbers.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "registry/registry.h"
#include "registry/train_data.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#define MAX_CATEGORIES	10000

static const char *const role_name[] = {"the target", "the target", "the weight", "the id", "the group", "the order"};

const char *
train_role_name(train_source role)
{
	return role_name[role];
}

bool
train_source_of(Oid type, train_source *source)
{
	char		category;
	bool		preferred;

	switch (type)
	{
		case BOOLOID:
			*source = TRAIN_BOOL;
			return true;
		case INT2OID:
			*source = TRAIN_INT2;
			return true;
		case INT4OID:
			*source = TRAIN_INT4;
			return true;
		case INT8OID:
			*source = TRAIN_INT8;
			return true;
		case FLOAT4OID:
			*source = TRAIN_FLOAT4;
			return true;
		case FLOAT8OID:
			*source = TRAIN_FLOAT8;
			return true;
		case NUMERICOID:
			*source = TRAIN_NUMERIC;
			return true;
		case FLOAT4ARRAYOID:
			*source = TRAIN_FLOAT4_ARRAY;
			return true;
		case FLOAT8ARRAYOID:
			*source = TRAIN_FLOAT8_ARRAY;
			return true;
	}
	get_type_category_preferred(type, &category, &preferred);
	*source = TRAIN_CATEGORY;
	return category == TYPCATEGORY_STRING || category == TYPCATEGORY_ENUM;
}

/* The part that a column plays by its name; TRAIN_BOOL: none, it is a feature. */
static train_source
role_of(const train_request *q, const char *name)
{
	const struct
	{
		const char *column;
		train_source source;
	}			role[] = {
		{q->target, q->regression ? TRAIN_VALUE : TRAIN_TARGET},
		{q->weight, TRAIN_WEIGHT},
		{q->id, TRAIN_ID},
		{q->group, TRAIN_GROUP},
		{q->order, TRAIN_ORDER},
	};
	train_source found = TRAIN_BOOL;

	for (int i = 0; i < (int) lengthof(role); i++)
		if (role[i].column && strcmp(role[i].column, name) == 0)
		{
			if (found != TRAIN_BOOL)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("column \"%s\" cannot be %s and %s at once", name, role_name[found],
								role_name[role[i].source]),
						 errhint("Select it twice, under two names.")));
			found = role[i].source;
		}
	return found;
}

static void
check_roles(const train_request *q, const train_data *d)
{
	const char *const column[] = {q->target, q->target, q->weight, q->id, q->group, q->order};

	for (train_source role = TRAIN_TARGET; role <= TRAIN_ORDER; role++)
	{
		bool		found = false;

		if (column[role] == NULL || (q->regression ? role == TRAIN_TARGET : role == TRAIN_VALUE))
			continue;
		for (int i = 0; i < d->n_columns; i++)
			found |= d->column[i].source == role;
		if (!found)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("query has no column \"%s\" to be %s", column[role], role_name[role])));
	}
}

/* A column that is no feature. */
static void
describe_role(train_data *d, int i, train_source role, Oid type)
{
	train_column *c = &d->column[i];
	Oid			base = getBaseType(type);
	bool		varlena;

	c->source = role;
	switch (role)
	{
		case TRAIN_TARGET:
			c->numeric_order = base == INT2OID || base == INT4OID || base == INT8OID ||
				base == NUMERICOID || base == FLOAT4OID || base == FLOAT8OID;
			d->labels = train_dictionary_create(psprintf("target column \"%s\"", c->name), LRN_MAX_CLASSES);
			/* FALLTHROUGH */
		case TRAIN_ID:
		case TRAIN_GROUP:
			getTypeOutputInfo(type, &c->out_function, &varlena);
			break;
		default:
			if (role == TRAIN_ORDER && (base == DATEOID || base == TIMESTAMPOID || base == TIMESTAMPTZOID))
				c->number = base == DATEOID ? TRAIN_DATE : TRAIN_TIMESTAMP;
			else if (!train_source_of(base, &c->number) || c->number > TRAIN_NUMERIC)
				ereport(ERROR,
						(errcode(ERRCODE_DATATYPE_MISMATCH),
						 errmsg("column \"%s\" of type %s cannot be %s", c->name, format_type_be(type), role_name[role]),
						 errdetail("It must be %s.", role == TRAIN_ORDER ? "a number, a date or a timestamp" : "a number")));
	}
	if (role == TRAIN_TARGET || role == TRAIN_VALUE)
		d->target = i;
}

void
train_describe_columns(train_data *d, TupleDesc desc, const train_request *q)
{
	int			features = 0;

	d->n_columns = desc->natts;
	d->column = palloc0(Max(desc->natts, 1) * sizeof(train_column));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		train_column *c = &d->column[i];
		train_source role;
		bool		varlena;

		c->name = pstrdup(NameStr(att->attname));
		for (int other = 0; other < i; other++)
			if (strcmp(d->column[other].name, c->name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_AMBIGUOUS_COLUMN),
						 errmsg("query has more than one column named \"%s\"", c->name)));
		role = role_of(q, c->name);
		if (role != TRAIN_BOOL)
		{
			describe_role(d, i, role, att->atttypid);
			continue;
		}
		features++;
		if (q->images && q->images->kind == REG_ONNX && getBaseType(att->atttypid) == BYTEAOID)
		{
			c->source = TRAIN_IMAGE;
			c->width = q->images->n_outputs;
			d->images = true;
			continue;
		}
		if (!train_source_of(getBaseType(att->atttypid), &c->source))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of type %s cannot be a feature", c->name,
							format_type_be(att->atttypid)),
					 errdetail("Features are numeric, boolean, text, real[] or double precision[]."),
					 errhint("Cast it, or turn a date into a number with extract(epoch FROM ...).")));
		c->width = 1;
		if (c->source == TRAIN_FLOAT4_ARRAY || c->source == TRAIN_FLOAT8_ARRAY)
			c->width = -1;
		else if (c->source == TRAIN_CATEGORY)
		{
			if (!q->categories)
				ereport(ERROR,
						(errcode(ERRCODE_DATATYPE_MISMATCH),
						 errmsg("column \"%s\" of type %s cannot be a feature of %s", c->name,
								format_type_be(att->atttypid), q->algorithm),
						 errhint("Option \"one_hot\": true makes a number of each category; or train a random_forest.")));
			c->values = train_dictionary_create(psprintf("column \"%s\"", c->name), MAX_CATEGORIES);
			getTypeOutputInfo(att->atttypid, &c->out_function, &varlena);
		}
	}
	check_roles(q, d);
	if (d->images && features > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query has another feature beside an image"),
				 errhint("Name a key of the rows by option \"id\".")));
	if (features == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query has no feature column")));
}

/* ---- values ---- */

void
train_array(ArrayType *a, train_source source, float *out)
{
	int			n = ArrayGetNItems(ARR_NDIM(a), ARR_DIMS(a));
	bits8	   *nulls = ARR_NULLBITMAP(a);
	char	   *p = ARR_DATA_PTR(a);

	for (int i = 0; i < n; i++, out++)
	{
		if (nulls && !(nulls[i / 8] & (1 << (i % 8))))
			*out = NAN;
		else if (source == TRAIN_FLOAT8_ARRAY)
		{
			float8		v;

			memcpy(&v, p, sizeof(v));
			*out = (float) v;
			p += sizeof(v);
		}
		else
		{
			memcpy(out, p, sizeof(float));
			p += sizeof(float);
		}
	}
}

double
train_number(train_source source, Datum value)
{
	switch (source)
	{
		case TRAIN_BOOL:
			return DatumGetBool(value) ? 1 : 0;
		case TRAIN_INT2:
			return DatumGetInt16(value);
		case TRAIN_INT4:
			return DatumGetInt32(value);
		case TRAIN_INT8:
			return (double) DatumGetInt64(value);
		case TRAIN_FLOAT4:
			return DatumGetFloat4(value);
		case TRAIN_FLOAT8:
			return DatumGetFloat8(value);
		case TRAIN_NUMERIC:
			return DatumGetFloat8(DirectFunctionCall1(numeric_float8, value));
		case TRAIN_DATE:
			return DatumGetDateADT(value) * (double) SECS_PER_DAY;
		default:
			return (double) DatumGetTimestamp(value) / (double) USECS_PER_SEC;
	}
}

float
train_scalar(train_source source, Datum value)
{
	/* From int8 straight: by way of double it would be rounded twice. */
	return source == TRAIN_INT8 ? (float) DatumGetInt64(value) : (float) train_number(source, value);
}
