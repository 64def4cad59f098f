/*
 * class_pg.c
 *	  Which plan of a network fits inputs of given shapes; the specification's
 *	  "shapes".
 *
 * A network whose dimensions are open, apart from the batch, has a plan for each
 * class of shapes.  The classes of its specification are compiled together into
 * the model's file.  Any other is compiled when it is first asked for, into a file of
 * its own, once in the whole server as all compiled files are.  A session keeps
 * up to REG_MAX_PLANS of them open and forgets the one used longest ago.
 */
#include "postgres.h"

#include "core/core_pg.h"
#include "core/mapfile_pg.h"
#include "lib/stringinfo.h"
#include "registry/features.h"
#include "registry/model.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

/* ---- specification ---- */

static void
bad_shapes(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("model specification: \"shapes\" must be an array of shapes, or of objects of input names and shapes"),
			 errhint("For example [[1, 3, 320, 320], [1, 3, 640, 640]] or [{\"ids\": [1, 16], \"mask\": [1, 16]}]; "
					 "at most %d, and null for what stays open.", NN_MAX_CLASSES)));
}

/* The first dimension stays open when it is 1: the batch. */
static void
parse_shape(const JsonbValue *v, nn_shape *out)
{
	JsonbContainer *array = v->val.binary.data;

	memset(out, 0, sizeof(*out));
	if (v->type != jbvBinary || !JsonContainerIsArray(array) || JsonContainerSize(array) > NN_MAX_RANK)
		bad_shapes();
	out->rank = JsonContainerSize(array);
	for (int i = 0; i < out->rank; i++)
	{
		JsonbValue *dim = getIthJsonbValueFromContainer(array, i);
		float8		d = -1;

		if (dim->type == jbvNumeric)
			d = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(dim->val.numeric)));
		else if (dim->type != jbvNull)
			bad_shapes();
		if (!(d == -1 || (d >= 1 && d <= PG_INT32_MAX)) || d != (int64) d)
			bad_shapes();
		out->dims[i] = i == 0 && d == 1 ? -1 : (int64) d;
	}
}

/* One class: a shape of the first input, or shapes by name. */
static void
parse_class(JsonbContainer *container, nn_class *out)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	v;
	nn_shape   *shapes = palloc0(NN_MAX_PORTS * sizeof(nn_shape));
	const char **names = palloc0(NN_MAX_PORTS * sizeof(char *));

	memset(out, 0, sizeof(*out));
	out->shapes = shapes;
	if (JsonContainerIsArray(container))
	{
		v.type = jbvBinary;
		v.val.binary.data = container;
		v.val.binary.len = 0;
		parse_shape(&v, &shapes[0]);
		out->n_inputs = 1;
		return;
	}
	out->names = names;
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			if (out->n_inputs == NN_MAX_PORTS)
				bad_shapes();
			names[out->n_inputs] = pnstrdup(v.val.string.val, v.val.string.len);
		}
		else if (token == WJB_VALUE)
			parse_shape(&v, &shapes[out->n_inputs++]);
	}
}

void
reg_parse_shapes(const JsonbValue *v, reg_spec *out)
{
	JsonbContainer *array = v->val.binary.data;
	int			n;

	if (v->type != jbvBinary || !JsonContainerIsArray(array) || JsonContainerIsScalar(array))
		bad_shapes();
	n = JsonContainerSize(array);
	if (n < 1 || n > NN_MAX_CLASSES)
		bad_shapes();
	out->classes = palloc0(n * sizeof(nn_class));
	for (out->n_classes = 0; out->n_classes < n; out->n_classes++)
	{
		JsonbValue *one = getIthJsonbValueFromContainer(array, out->n_classes);

		if (one->type != jbvBinary)
			bad_shapes();
		parse_class(one->val.binary.data, &out->classes[out->n_classes]);
	}
	out->shapes = JsonbToCString(NULL, array, v->val.binary.len);
}

void
reg_image_class(reg_spec *spec)
{
	nn_shape   *shape = palloc0(sizeof(nn_shape));

	shape->rank = 4;
	shape->dims[0] = shape->dims[1] = -1;
	shape->dims[2] = spec->prep.height > 0 ? spec->prep.height : -1;
	shape->dims[3] = spec->prep.width > 0 ? spec->prep.width : -1;
	spec->classes = palloc0(sizeof(nn_class));
	spec->classes->n_inputs = 1;
	spec->classes->shapes = shape;
	spec->classes->open_only = true;
	spec->n_classes = 1;
	spec->shapes = psprintf("image %dx%d", spec->prep.width, spec->prep.height);
}

void
reg_features_class(Jsonb *json, reg_spec *spec)
{
	int64		width = spec->n_classes ? 0 : reg_features_width(json);
	nn_shape   *shape;

	if (width < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("model specification: \"features\" must be an array of names, or of objects with \"name\" and \"type\"")));
	if (width == 0)
		return;
	shape = palloc0(sizeof(nn_shape));
	shape->rank = 2;
	shape->dims[0] = -1;
	shape->dims[1] = width;
	spec->classes = palloc0(sizeof(nn_class));
	spec->classes->n_inputs = 1;
	spec->classes->shapes = shape;
	spec->classes->open_only = true;
	spec->n_classes = 1;
	spec->shapes = psprintf("features " INT64_FORMAT, width);
}

/* ---- plans ---- */

typedef enum fit
{
	FITS,						/* the plan at hand */
	OPEN,						/* another plan of the model could */
	NEVER
} fit;

/* Does a plan take such inputs?  Sets the batch. */
static fit
fits(const nn_model *nn, int n, const nn_shape *shapes, int64 *batch)
{
	fit			answer = FITS;

	*batch = -1;
	for (int i = 0; i < n; i++)
	{
		const nn_tensor_info *t = nn_input(nn, i);

		if (shapes[i].rank < 0)
			continue;
		if (shapes[i].rank != t->rank)
			return NEVER;
		for (int k = 0; k < t->rank; k++)
		{
			int64		dim = shapes[i].dims[k];

			if (k == 0 && (t->dims[0] == -1 || t->dims[0] == 1))
			{
				/* several runs make a first dimension of 1 a batch, too */
				if (*batch >= 0 && *batch != dim)
					return NEVER;
				*batch = dim;
			}
			else if (dim != t->dims[k])
			{
				if (t->declared[k] != -1)
					return NEVER;
				answer = OPEN;
			}
		}
	}
	if (*batch < 0)
		*batch = 1;
	return answer;
}

/* The class that a call wants, batches left open, and its name. */
static char *
name_class(const nn_model *nn, int n, const nn_shape *shapes, nn_shape *wanted)
{
	StringInfoData s;

	initStringInfo(&s);
	for (int i = 0; i < n; i++)
	{
		const nn_tensor_info *t = nn_input(nn, i);

		wanted[i] = shapes[i];
		if (shapes[i].rank > 0 && (t->dims[0] == -1 || t->dims[0] == 1))
			wanted[i].dims[0] = -1;
		for (int k = 0; k < wanted[i].rank; k++)
			appendStringInfo(&s, "%s" INT64_FORMAT, k ? "x" : "", wanted[i].dims[k]);
		appendStringInfoChar(&s, ',');
	}
	return s.data;
}

static void
forget(reg_plan *p)
{
	if (p->own)
		mr_map_release(p->key);
	pfree(p->class);
	memset(p, 0, sizeof(*p));
}

void
reg_forget_plans(reg_loaded *l)
{
	while (l->n_plans > 0)
		forget(&l->plans[--l->n_plans]);
}

/* Open the plan of a class: from the model's file, else from its own. */
static void
open_plan(const reg_model *m, int n, const nn_class *class, reg_plan *p)
{
	reg_loaded *l = m->loaded;
	mr_status	st;

	if (nn_open_class(l->file, l->file_bytes, n, class->shapes, NULL, &p->nn, &st) == MR_OK)
		return;
	for (int attempt = 0; attempt < 2; attempt++)
	{
		size_t		len;
		const void *file = reg_map_class(m, class, p->class, p->key, &len);

		if (nn_open(file, len, &p->nn, &st) == MR_OK)
		{
			p->own = true;
			return;
		}
		mr_map_discard(p->key);
	}
	mr_pg_raise(&st);
}

const nn_model *
reg_find_plan(const reg_model *m, int n, const nn_shape *shapes, int *batch)
{
	static uint64 clock = 0;
	reg_loaded *l = m->loaded;
	nn_shape	wanted[NN_MAX_PORTS];
	nn_class	class = {.n_inputs = n,.shapes = wanted};
	reg_plan	made = {0};
	int64		images;
	fit			f = fits(&l->nn, n, shapes, &images);
	char	   *name;
	int			oldest = 0;

	if (f == NEVER || images > PG_INT32_MAX)
		return NULL;
	*batch = (int) images;
	if (f == FITS)
		return &l->nn;
	name = name_class(&l->nn, n, shapes, wanted);
	for (int i = 0; i < l->n_plans; i++)
	{
		if (strcmp(l->plans[i].class, name) == 0)
		{
			l->plans[i].used = ++clock;
			return &l->plans[i].nn;
		}
		if (l->plans[i].used < l->plans[oldest].used)
			oldest = i;
	}
	made.class = MemoryContextStrdup(l->cxt, name);
	open_plan(m, n, &class, &made);
	made.used = ++clock;
	if (l->n_plans < REG_MAX_PLANS)
		oldest = l->n_plans++;
	else
		forget(&l->plans[oldest]);
	l->plans[oldest] = made;
	return &l->plans[oldest].nn;
}
