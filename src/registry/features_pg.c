/*
 * features_pg.c
 *	  A model's features by name: from its specification, from a matrix's
 *	  columns, from a row of any table (millrace.model_features).
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "registry/features.h"
#include "registry/model.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(millrace_model_features);

/* ---- of a specification ---- */

static const char *const type_name[] = {"number", "boolean", "category", "array"};

typedef struct value_code
{
	const char *text;
	int32		code;
} value_code;

static int
by_text(const void *a, const void *b)
{
	return strcmp(((const value_code *) a)->text, ((const value_code *) b)->text);
}

static JsonbValue *
member(const JsonbValue *object, const char *key)
{
	return getKeyJsonValueFromContainer(object->val.binary.data, key, (int) strlen(key), NULL);
}

static void
read_values(const JsonbValue *array, reg_feature *f)
{
	int			n = (int) JsonContainerSize(array->val.binary.data);
	value_code *v = palloc(Max(n, 1) * sizeof(value_code));
	int32	   *code = palloc(Max(n, 1) * sizeof(int32));

	for (int i = 0; i < n; i++)
	{
		JsonbValue *text = getIthJsonbValueFromContainer(array->val.binary.data, i);

		v[i].text = text->type == jbvString ? pnstrdup(text->val.string.val, text->val.string.len) : "";
		v[i].code = i;
	}
	qsort(v, n, sizeof(value_code), by_text);
	f->n_values = n;
	f->value = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		f->value[i] = v[i].text;
		code[i] = v[i].code;
	}
	f->code = code;
	pfree(v);
}

/* One of {"name", "type", "values", "one_hot", "length"}, or the name of a
 * number alone; false: it is neither. */
static bool
read_feature(const JsonbValue *j, int first, reg_feature *f)
{
	JsonbValue *name,
			   *type,
			   *v;

	if (j->type == jbvString)
	{
		*f = (reg_feature) {.name = pnstrdup(j->val.string.val, j->val.string.len),.first = first,.width = 1};
		return true;
	}
	if (j->type != jbvBinary || !JsonContainerIsObject(j->val.binary.data))
		return false;
	name = member(j, "name");
	type = member(j, "type");
	if (name == NULL || name->type != jbvString || type == NULL || type->type != jbvString)
		return false;
	memset(f, 0, sizeof(*f));
	f->name = pnstrdup(name->val.string.val, name->val.string.len);
	f->first = first;
	f->width = 1;
	while (f->type <= REG_FEATURE_ARRAY &&
		   (strlen(type_name[f->type]) != (size_t) type->val.string.len ||
			memcmp(type_name[f->type], type->val.string.val, type->val.string.len) != 0))
		f->type++;
	switch (f->type)
	{
		case REG_FEATURE_NUMBER:
		case REG_FEATURE_BOOLEAN:
			return true;
		case REG_FEATURE_ARRAY:
			v = member(j, "length");
			if (v == NULL || v->type != jbvNumeric)
				return false;
			f->width = DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(v->val.numeric)));
			return f->width >= 0;
		case REG_FEATURE_CATEGORY:
			v = member(j, "values");
			if (v == NULL || v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data))
				return false;
			read_values(v, f);
			v = member(j, "one_hot");
			f->one_hot = v && v->type == jbvBool && v->val.boolean;
			f->width = f->one_hot ? f->n_values : 1;
			return true;
	}
	return false;
}

int64
reg_features_width(Jsonb *spec)
{
	JsonbValue *list = getKeyJsonValueFromContainer(&spec->root, "features", 8, NULL);
	int64		width = 0;

	if (list == NULL || list->type == jbvNull)
		return 0;
	if (list->type != jbvBinary || !JsonContainerIsArray(list->val.binary.data))
		return -1;
	for (uint32 i = 0; i < JsonContainerSize(list->val.binary.data); i++)
	{
		reg_feature f;

		if (!read_feature(getIthJsonbValueFromContainer(list->val.binary.data, i), 0, &f))
			return -1;
		width += f.width;
	}
	return width;
}

reg_features *
reg_features_of(const reg_model *m)
{
	reg_features *all;
	reg_row		row;
	JsonbValue *list;
	int64		first = 0;

	if (!reg_read_version(m->name, m->version, GetActiveSnapshot(), &row))
		elog(ERROR, "model \"%s\" has no row", m->reference);
	list = getKeyJsonValueFromContainer(&row.spec->root, "features", 8, NULL);
	if (list == NULL || list->type != jbvBinary || !JsonContainerIsArray(list->val.binary.data))
		return NULL;
	all = palloc(sizeof(*all));
	all->n = (int) JsonContainerSize(list->val.binary.data);
	all->feature = palloc(Max(all->n, 1) * sizeof(reg_feature));
	for (int i = 0; i < all->n && first <= m->n_inputs; i++)
	{
		if (!read_feature(getIthJsonbValueFromContainer(list->val.binary.data, i), (int) first, &all->feature[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("feature %d in the specification of model \"%s\" is none", i + 1, m->reference)));
		first += all->feature[i].width;
	}
	if (first != m->n_inputs)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the specification of model \"%s\" has " INT64_FORMAT " features, the model takes %d",
						m->reference, first, m->n_inputs)));
	return all;
}

int
reg_feature_code(const reg_feature *f, const char *text)
{
	int			low = 0,
				high = f->n_values;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(f->value[middle], text);

		if (order == 0)
			return f->code[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

/* Raises unless a column of this source can be the feature. */
static void
check_source(const reg_model *m, const reg_feature *f, train_source source)
{
	bool		text = source == TRAIN_CATEGORY;
	bool		array = source == TRAIN_FLOAT4_ARRAY || source == TRAIN_FLOAT8_ARRAY;

	if (text == (f->type == REG_FEATURE_CATEGORY) && array == (f->type == REG_FEATURE_ARRAY))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column \"%s\" is %s, but model \"%s\" was trained with %s there", f->name,
					text ? "text" : array ? "an array" : "a number", m->reference,
					f->type == REG_FEATURE_CATEGORY ? "text" : f->type == REG_FEATURE_ARRAY ? "an array" : "a number"),
			 errhint("Cast it, or train a version with such a column.")));
}

static void
no_column(const reg_model *m, const char *name, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("%s has no column \"%s\", which model \"%s\" takes", what, name, m->reference),
			 errhint("SELECT spec->'features' FROM millrace.models lists what a model takes.")));
}

static void
check_length(const reg_model *m, const reg_feature *f, int n)
{
	if (n != f->width)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" has %d elements, model \"%s\" takes %d there", f->name, n, m->reference, f->width)));
}

/* ---- of a matrix ---- */

/* Codes of this query's categories -> the model's, or columns of 0 and 1. */
static void
map_category(const reg_feature *f, const train_column *c, const train_data *data, float **out)
{
	const float *x = data->matrix.col[c->first];
	int		   *code = palloc(Max(c->values->n, 1) * sizeof(int));
	int64		rows = data->matrix.rows;

	for (int k = 0; k < c->values->n; k++)
		code[k] = reg_feature_code(f, c->values->text[k]);
	for (int w = 0; w < f->width; w++)
		out[w] = palloc_extended(rows * sizeof(float), MCXT_ALLOC_HUGE);
	for (int64 r = 0; r < rows; r++)
	{
		int			k = isnan(x[r]) ? -1 : code[(int) x[r]];

		for (int w = 0; w < f->width; w++)
			out[w][r] = f->one_hot ? k == w : k < 0 ? NAN : (float) k;
	}
	pfree(code);
}

float *const *
reg_map_matrix(const reg_model *m, const train_data *data)
{
	reg_features *all = reg_features_of(m);
	float	  **col;

	if (all == NULL)
	{
		if (data->matrix.cols != m->n_inputs)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("model \"%s\" takes %d numbers, the query has %d features",
							m->reference, m->n_inputs, data->matrix.cols)));
		return data->matrix.col;
	}
	col = palloc(Max(m->n_inputs, 1) * sizeof(float *));
	for (int i = 0; i < all->n; i++)
	{
		const reg_feature *f = &all->feature[i];
		const train_column *c = NULL;

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; k < data->n_columns; k++)
			if (train_is_feature(&data->column[k]) && strcmp(data->column[k].name, f->name) == 0)
				c = &data->column[k];
		if (c == NULL)
			no_column(m, f->name, "query");
		check_source(m, f, c->source);
		if (f->type == REG_FEATURE_CATEGORY)
			map_category(f, c, data, col + f->first);
		else
		{
			check_length(m, f, c->width);
			for (int w = 0; w < f->width; w++)
				col[f->first + w] = data->matrix.col[c->first + w];
		}
	}
	return col;
}

/* ---- of a row ---- */

/* Where a feature comes from in a row of one type. */
typedef struct row_source
{
	int			att;			/* from 0 */
	train_source source;
	FmgrInfo	out;			/* TRAIN_CATEGORY */
} row_source;

/* What a call site keeps: the model's features against one row type. */
typedef struct row_map
{
	void	   *resolved;		/* reg_resolve_site()'s */
	MemoryContext cxt;			/* all below */
	char	   *reference;
	uint8		sha256[32];
	Oid			type;
	int32		typmod;
	TupleDesc	desc;
	reg_features *features;
	row_source *source;			/* per feature */
	Datum	   *values;
	bool	   *nulls;
} row_map;

/* A network whose specification names no features takes all columns of a row, in
 * their order, if there are as many as it takes numbers. */
static reg_features *
features_in_order(const reg_model *m, TupleDesc desc)
{
	reg_features *all = palloc(sizeof(*all));

	all->n = 0;
	all->feature = palloc0(Max(desc->natts, 1) * sizeof(reg_feature));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped)
		{
			all->feature[all->n] = (reg_feature) {.name = NameStr(att->attname),.first = all->n,.width = 1};
			all->n++;
		}
	}
	if (m->kind != REG_ONNX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" does not say which columns it takes", m->reference),
				 errdetail("Its specification has no \"features\": it was not trained by train_model().")));
	if (all->n != m->n_inputs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model \"%s\" does not say which columns it takes", m->reference),
				 errdetail("It takes %d numbers, the row has %d columns.", m->n_inputs, all->n),
				 errhint("Import it with their names, {\"features\": [\"...\"]}, or give a row of just these columns.")));
	return all;
}

static void
map_row_type(row_map *map, const reg_model *m, Oid type, int32 typmod)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(type, typmod);
	MemoryContext old;

	if (map->cxt)
		MemoryContextReset(map->cxt);
	else
		map->cxt = AllocSetContextCreate(CurrentMemoryContext, "millrace row features", ALLOCSET_SMALL_SIZES);
	map->reference = NULL;		/* in case of an error below */
	old = MemoryContextSwitchTo(map->cxt);
	map->desc = CreateTupleDescCopy(desc);
	ReleaseTupleDesc(desc);
	map->values = palloc(Max(map->desc->natts, 1) * sizeof(Datum));
	map->nulls = palloc(Max(map->desc->natts, 1) * sizeof(bool));
	map->features = reg_features_of(m);
	if (map->features == NULL)
		map->features = features_in_order(m, map->desc);
	map->source = palloc0(Max(map->features->n, 1) * sizeof(row_source));
	for (int i = 0; i < map->features->n; i++)
	{
		const reg_feature *f = &map->features->feature[i];
		row_source *s = &map->source[i];
		Oid			base = InvalidOid;

		for (s->att = 0; s->att < map->desc->natts; s->att++)
		{
			Form_pg_attribute att = TupleDescAttr(map->desc, s->att);

			if (!att->attisdropped && strcmp(NameStr(att->attname), f->name) == 0)
			{
				base = att->atttypid;
				break;
			}
		}
		if (!OidIsValid(base))
			no_column(m, f->name, "row");
		if (!train_source_of(getBaseType(base), &s->source))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of type %s cannot be a feature", f->name, format_type_be(base))));
		check_source(m, f, s->source);
		if (s->source == TRAIN_CATEGORY)
		{
			Oid			function;
			bool		varlena;

			getTypeOutputInfo(base, &function, &varlena);
			fmgr_info_cxt(function, &s->out, map->cxt);
		}
	}
	map->type = type;
	map->typmod = typmod;
	memcpy(map->sha256, m->sha256, sizeof(map->sha256));
	map->reference = pstrdup(m->reference);
	MemoryContextSwitchTo(old);
}

static void
put_category(const reg_feature *f, row_source *s, Datum value, bool isnull, float *out)
{
	int			code = isnull ? -1 : reg_feature_code(f, OutputFunctionCall(&s->out, value));

	if (f->one_hot)
		for (int w = 0; w < f->width; w++)
			out[w] = w == code;
	else
		out[0] = code < 0 ? NAN : (float) code;
}

static void
put_array(const reg_model *m, const reg_feature *f, train_source source, Datum value, float *out)
{
	ArrayType  *a = DatumGetArrayTypeP(value);

	check_length(m, f, ArrayGetNItems(ARR_NDIM(a), ARR_DIMS(a)));
	train_array(a, source, out);
}

/* millrace.model_features(model text, row record) -> real[] */
Datum
millrace_model_features(PG_FUNCTION_ARGS)
{
	row_map    *map = fcinfo->flinfo->fn_extra;
	const reg_model *m;
	HeapTupleHeader row;
	HeapTupleData tuple;
	Oid			type;
	int32		typmod;
	ArrayType  *result;
	float	   *out;

	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	if (map == NULL)
		fcinfo->flinfo->fn_extra = map = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(row_map));
	m = reg_resolve_site(&map->resolved, fcinfo->flinfo->fn_mcxt, PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0), REG_CLASSIFY);
	row = PG_GETARG_HEAPTUPLEHEADER(1);
	type = HeapTupleHeaderGetTypeId(row);
	typmod = HeapTupleHeaderGetTypMod(row);
	if (map->reference == NULL || map->type != type || map->typmod != typmod ||
		strcmp(map->reference, m->reference) != 0 || memcmp(map->sha256, m->sha256, sizeof(m->sha256)) != 0)
	{
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		map_row_type(map, m, type, typmod);
		MemoryContextSwitchTo(old);
	}

	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	heap_deform_tuple(&tuple, map->desc, map->values, map->nulls);

	result = reg_new_reals(m->n_inputs, &out);
	for (int i = 0; i < map->features->n; i++)
	{
		const reg_feature *f = &map->features->feature[i];
		row_source *s = &map->source[i];
		Datum		value = map->values[s->att];
		bool		isnull = map->nulls[s->att];

		if (f->type == REG_FEATURE_CATEGORY)
			put_category(f, s, value, isnull, out + f->first);
		else if (isnull)
			for (int w = 0; w < f->width; w++)
				out[f->first + w] = NAN;
		else if (f->type == REG_FEATURE_ARRAY)
			put_array(m, f, s->source, value, out + f->first);
		else
			out[f->first] = train_scalar(s->source, value);
	}
	PG_RETURN_ARRAYTYPE_P(result);
}
