/*
 * ops_ml_feature.c
 *	  ai.onnx.ml: the operators that prepare features.
 *
 * Tables are rows x columns of numbers.  Text is not a number: columns of
 * strings are refused.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn/ops_ml.h"

/* ---- Scaler, Imputer, Binarizer, Normalizer: a number from a number ---- */

/* One number, or one a column: how far apart in the attached list. */
static mr_code
per_column(nn_infer_call *c, const char *name, int n, int64_t columns, int64_t *step)
{
	*step = n > 1;
	if (n != 1 && n != columns)
		return nn_infer_fail(c, MR_INVALID, "attribute %s has %d values for %lld columns", name, n, (long long) columns);
	return MR_OK;
}

/* Attached: offsets, then scales.  i[0] columns, i[1], i[2] their steps, i[3] where scales start. */
mr_code
nn_infer_ml_scaler(nn_infer_call *c)
{
	const float *offset,
			   *scale;
	int			n_offset,
				n_scale;
	int64_t		rows;
	bool		attached;
	void	   *data;

	NN_TRY(nn_ml_table(c, &rows, &c->p->i[0]));
	NN_TRY(nn_ml_floats(c, "offset", &offset, &n_offset));
	NN_TRY(nn_ml_floats(c, "scale", &scale, &n_scale));
	NN_TRY(per_column(c, "offset", n_offset, c->p->i[0], &c->p->i[1]));
	NN_TRY(per_column(c, "scale", n_scale, c->p->i[0], &c->p->i[2]));
	c->p->i[3] = n_offset;
	NN_TRY(nn_ml_attached(c, 1, &attached));
	if (!attached)
	{
		NN_TRY(nn_ml_attach(c, nn_float32, n_offset + n_scale, &data));
		memcpy(data, offset, (size_t) n_offset * sizeof(float));
		memcpy((float *) data + n_offset, scale, (size_t) n_scale * sizeof(float));
	}
	return nn_set_out(c, 0, nn_float32, &nn_in(c, 0)->shape);
}

mr_code
nn_run_ml_scaler(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	const float *offset = c->in[1].data;
	const float *scale = offset + p[3];

	for (int64_t i = 0, col = 0; i < c->in[0].elements; i++, col = col + 1 == p[0] ? 0 : col + 1)
	{
		if (i % (NN_STOP_WORK / 4) == 0 && mr_interrupted(c->env))
			return MR_CANCELED;
		((float *) c->out[0].data)[i] = (nn_ml_number(&c->in[0], i) - offset[col * p[1]]) * scale[col * p[2]];
	}
	return MR_OK;
}

/* Attached: what to put.  i[0] columns, i[1] step, i[2] the integer to replace; f[0] the float. */
mr_code
nn_infer_ml_imputer(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	bool		floats = x->dtype == nn_float32;
	const float *put;
	const int64_t *put_ints;
	int64_t		rows;
	int			n;
	bool		attached;
	void	   *data;

	NN_TRY(nn_ml_table(c, &rows, &c->p->i[0]));
	NN_TRY(nn_get_float(c, "replaced_value_float", 0, &c->p->f[0]));
	NN_TRY(nn_get_int(c, "replaced_value_int64", 0, &c->p->i[2]));
	if (x->dtype == nn_int32)
		return nn_infer_fail(c, MR_UNSUPPORTED, "type int32 is not supported");
	if (floats)
		NN_TRY(nn_ml_floats(c, "imputed_value_floats", &put, &n));
	else
		NN_TRY(nn_ml_ints(c, "imputed_value_int64s", &put_ints, &n));
	NN_TRY(per_column(c, "imputed_value", n, c->p->i[0], &c->p->i[1]));
	NN_TRY(nn_ml_attached(c, 1, &attached));
	if (!attached)
	{
		NN_TRY(nn_ml_attach(c, x->dtype, n, &data));
		memcpy(data, floats ? (const void *) put : put_ints, (size_t) n * nn_dtype_size(nn_in(c, 0)->dtype));
	}
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &nn_in(c, 0)->shape);
}

mr_code
nn_run_ml_imputer(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	float		gone = c->p->f[0];

	for (int64_t i = 0, col = 0; i < c->in[0].elements; i++, col = col + 1 == p[0] ? 0 : col + 1)
	{
		if (i % (NN_STOP_WORK / 4) == 0 && mr_interrupted(c->env))
			return MR_CANCELED;
		if (c->in[0].dtype == nn_float32)
		{
			float		x = ((const float *) c->in[0].data)[i];

			((float *) c->out[0].data)[i] = x == gone || (isnan(x) && isnan(gone)) ?
				((const float *) c->in[1].data)[col * p[1]] : x;
		}
		else
		{
			int64_t		x = ((const int64_t *) c->in[0].data)[i];

			((int64_t *) c->out[0].data)[i] = x == p[2] ? ((const int64_t *) c->in[1].data)[col * p[1]] : x;
		}
	}
	return MR_OK;
}

mr_code
nn_infer_ml_binarizer(nn_infer_call *c)
{
	NN_TRY(nn_ml_need_number(c, 0));
	NN_TRY(nn_get_float(c, "threshold", 0, &c->p->f[0]));
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &nn_in(c, 0)->shape);
}

mr_code
nn_run_ml_binarizer(nn_run_call *c)
{
	for (int64_t i = 0; i < c->in[0].elements; i++)
	{
		bool		over = nn_ml_number(&c->in[0], i) > c->p->f[0];

		if (i % (NN_STOP_WORK / 4) == 0 && mr_interrupted(c->env))
			return MR_CANCELED;
		if (c->in[0].dtype == nn_float32)
			((float *) c->out[0].data)[i] = over;
		else if (c->in[0].dtype == nn_int64)
			((int64_t *) c->out[0].data)[i] = over;
		else
			((int32_t *) c->out[0].data)[i] = over;
	}
	return MR_OK;
}

/* i[0] columns, i[1]: 0 MAX, 1 L1, 2 L2. */
mr_code
nn_infer_ml_normalizer(nn_infer_call *c)
{
	char		norm[32];
	int64_t		rows;

	NN_TRY(nn_ml_table(c, &rows, &c->p->i[0]));
	if (!nn_get_string(c, "norm", "MAX", norm) || (strcmp(norm, "MAX") && strcmp(norm, "L1") && strcmp(norm, "L2")))
		return nn_infer_fail(c, MR_INVALID, "unknown norm");
	c->p->i[1] = norm[0] == 'M' ? 0 : norm[1] - '0';
	return nn_set_out(c, 0, nn_float32, &nn_in(c, 0)->shape);
}

mr_code
nn_run_ml_normalizer(nn_run_call *c)
{
	int64_t		columns = c->p->i[0];

	for (int64_t r = 0; r < c->in[0].elements; r += columns)
	{
		float		norm = c->p->i[1] ? 0 : -INFINITY;

		if (mr_interrupted(c->env))
			return MR_CANCELED;
		for (int64_t i = r; i < r + columns; i++)
		{
			float		x = nn_ml_number(&c->in[0], i);

			if (c->p->i[1] == 0)
				norm = x > norm ? x : norm;
			else
				norm += c->p->i[1] == 1 ? fabsf(x) : x * x;
		}
		norm = c->p->i[1] == 2 ? sqrtf(norm) : norm;
		for (int64_t i = r; i < r + columns; i++)
			((float *) c->out[0].data)[i] = nn_ml_number(&c->in[0], i) / (norm != 0 ? norm : 1);
	}
	return MR_OK;
}

/* ---- OneHotEncoder: i[0] unknown numbers give zeros ---- */

mr_code
nn_infer_ml_onehot(nn_infer_call *c)
{
	nn_shape	s = nn_in(c, 0)->shape;
	const int64_t *cats;
	const pb_bytes *strings;
	int			n;
	bool		attached;
	void	   *data;

	NN_TRY(nn_ml_need_number(c, 0));
	NN_TRY(nn_get_int(c, "zeros", 1, &c->p->i[0]));
	NN_TRY(nn_ml_strings(c, "cats_strings", &strings, &n));
	if (n)
		return nn_infer_fail(c, MR_UNSUPPORTED, "categories of strings are not supported");
	NN_TRY(nn_ml_ints(c, "cats_int64s", &cats, &n));
	if (n == 0 || s.rank == NN_MAX_RANK)
		return nn_infer_fail(c, MR_INVALID, "no categories, or too many dimensions");
	NN_TRY(nn_ml_attached(c, 1, &attached));
	if (!attached)
	{
		NN_TRY(nn_ml_attach(c, nn_int64, n, &data));
		memcpy(data, cats, (size_t) n * sizeof(int64_t));
	}
	s.dims[s.rank++] = n;
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_ml_onehot(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const int64_t *cats = c->in[1].data;
	int64_t		n = c->in[1].elements;
	float	   *y = c->out[0].data;
	int64_t		work = 0;

	for (int64_t i = 0; i < x->elements; i++)
	{
		/* floats are cut to integers; those that do not fit are no category */
		float		f = x->dtype == nn_float32 ? ((const float *) x->data)[i] : 0;
		bool		known = false,
					fits = fabsf(f) < 9e18f;
		int64_t		v = x->dtype == nn_int64 ? ((const int64_t *) x->data)[i] :
			x->dtype == nn_int32 ? ((const int32_t *) x->data)[i] : fits ? (int64_t) f : 0;

		if ((work += n) >= NN_STOP_WORK)
		{
			work = 0;
			if (mr_interrupted(c->env))
				return MR_CANCELED;
		}
		for (int64_t k = 0; k < n; k++)
		{
			bool		hit = fits && v == cats[k] && !known;

			known = known || hit;
			y[i * n + k] = hit;
		}
		if (!known && !c->p->i[0])
			return mr_fail(c->st, MR_INVALID, "operator OneHotEncoder: unknown category %lld", (long long) v);
	}
	return MR_OK;
}

/* ---- LabelEncoder: one number for another ----
 *
 * Attached: keys, values, and the default as one more value.  Values that are
 * strings are their positions, -1 for the default: answer.c knows the strings.
 */

/* The list keys_* or values_*: int64s, floats, tensor, or strings as values. */
static mr_code
label_list(nn_infer_call *c, const char *what, nn_tensor *t)
{
	char		name[32];
	const float *floats;
	const int64_t *ints;
	const pb_bytes *strings;
	int			n,
				n_strings;

	snprintf(name, sizeof(name), "%s_strings", what);
	NN_TRY(nn_ml_strings(c, name, &strings, &n_strings));
	if (nn_find_attr(c->n, "classes_strings") || (n_strings && strcmp(what, "values") != 0))
		return nn_infer_fail(c, MR_UNSUPPORTED, "keys that are strings are not supported");
	if (n_strings)
	{
		int64_t    *positions = nn_heap_alloc(c->g->heap, (size_t) n_strings, sizeof(int64_t));

		if (positions == NULL)
			return c->g->st->code;
		for (int i = 0; i < n_strings; i++)
			positions[i] = i;
		*t = (nn_tensor) {.dtype = nn_int64,.elements = n_strings,.data = positions};
		return MR_OK;
	}
	snprintf(name, sizeof(name), "%s_tensor", what);
	NN_TRY(nn_ml_tensor(c, name, t));
	if (t->elements)
		return MR_OK;
	snprintf(name, sizeof(name), "%s_int64s", what);
	NN_TRY(nn_ml_ints(c, name, &ints, &n));
	t->dtype = nn_int64;
	t->data = (void *) (uintptr_t) ints;
	if (n == 0)
	{
		snprintf(name, sizeof(name), "%s_floats", what);
		NN_TRY(nn_ml_floats(c, name, &floats, &n));
		t->dtype = nn_float32;
		t->data = (void *) (uintptr_t) floats;
	}
	t->elements = n;
	return n ? MR_OK : nn_infer_fail(c, MR_INVALID, "no %s", what);
}

mr_code
nn_infer_ml_label(nn_infer_call *c)
{
	const nn_shape shape = nn_in(c, 0)->shape;
	int			dtype = nn_in(c, 0)->dtype;
	nn_tensor	keys,
				values,
				other;
	bool		attached;
	void	   *data;
	size_t		size;

	NN_TRY(nn_ml_need_number(c, 0));
	NN_TRY(label_list(c, "keys", &keys));
	NN_TRY(label_list(c, "values", &values));
	NN_TRY(nn_ml_tensor(c, "default_tensor", &other));
	size = nn_dtype_size(values.dtype);
	if (keys.dtype != dtype || keys.elements != values.elements || (other.elements && other.dtype != values.dtype) ||
		(values.dtype != nn_int64 && values.dtype != nn_int32 && values.dtype != nn_float32))
		return nn_infer_fail(c, MR_UNSUPPORTED, "keys, values, default and input do not fit each other");
	NN_TRY(nn_ml_attached(c, 1, &attached));
	if (!attached)
	{
		int64_t		default_int;
		float		default_float;

		NN_TRY(nn_get_int(c, "default_int64", -1, &default_int));
		NN_TRY(nn_get_float(c, "default_float", -0.0f, &default_float));
		NN_TRY(nn_ml_attach(c, dtype, keys.elements, &data));
		memcpy(data, keys.data, (size_t) keys.elements * nn_dtype_size(dtype));
		NN_TRY(nn_ml_attach(c, values.dtype, values.elements + 1, &data));
		memcpy(data, values.data, (size_t) values.elements * size);
		data = (char *) data + (size_t) values.elements * size;
		if (other.elements)
			memcpy(data, other.data, size);
		else if (values.dtype == nn_int64)
			*(int64_t *) data = default_int;
		else if (values.dtype == nn_int32)
			*(int32_t *) data = (int32_t) default_int;
		else
			*(float *) data = default_float;
	}
	return nn_set_out(c, 0, values.dtype, &shape);
}

static bool
same_key(const nn_tensor *x, int64_t i, const nn_tensor *keys, int64_t k)
{
	float		f,
				g;

	if (x->dtype == nn_int64)
		return ((const int64_t *) x->data)[i] == ((const int64_t *) keys->data)[k];
	if (x->dtype == nn_int32)
		return ((const int32_t *) x->data)[i] == ((const int32_t *) keys->data)[k];
	f = ((const float *) x->data)[i];
	g = ((const float *) keys->data)[k];
	return f == g || (isnan(f) && isnan(g));
}

mr_code
nn_run_ml_label(nn_run_call *c)
{
	const nn_tensor *keys = &c->in[1],
			   *values = &c->in[2];
	size_t		size = nn_dtype_size(values->dtype);
	int64_t		work = 0;

	for (int64_t i = 0; i < c->in[0].elements; i++)
	{
		int64_t		k = 0;

		while (k < keys->elements && !same_key(&c->in[0], i, keys, k))
			k++;
		memcpy((char *) c->out[0].data + (size_t) i * size, (const char *) values->data + (size_t) k * size, size);
		if ((work += k) >= NN_STOP_WORK)
		{
			work = 0;
			if (mr_interrupted(c->env))
				return MR_CANCELED;
		}
	}
	return MR_OK;
}

/* ---- ArrayFeatureExtractor: columns y of x ---- */

mr_code
nn_infer_ml_extract(nn_infer_call *c)
{
	nn_shape	s = nn_in(c, 0)->shape;
	const nn_value *y = nn_in(c, 1);

	if (y->dtype != nn_int64)
		return nn_infer_fail(c, MR_INVALID, "indices of type %s", nn_dtype_name((nn_dtype) y->dtype));
	if (s.rank == 0 || y->elements < 1)
		return nn_infer_fail(c, MR_INVALID, "nothing to extract");
	c->p->i[0] = s.dims[s.rank - 1];
	if (s.rank == 1)
	{
		s.rank = 2;
		s.dims[0] = 1;
	}
	s.dims[s.rank - 1] = y->elements;
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &s);
}

mr_code
nn_run_ml_extract(nn_run_call *c)
{
	const int64_t *y = c->in[1].data;
	int64_t		columns = c->p->i[0],
				n = c->in[1].elements;
	size_t		size = nn_dtype_size(c->in[0].dtype);

	for (int64_t k = 0; k < n; k++)
		if (y[k] < 0 || y[k] >= columns)
			return mr_fail(c->st, MR_INVALID, "operator ArrayFeatureExtractor: index %lld of %lld columns", (long long) y[k],
						   (long long) columns);
	for (int64_t i = 0; i < c->out[0].elements; i++)
	{
		if (i % (NN_STOP_WORK / 4) == 0 && mr_interrupted(c->env))
			return MR_CANCELED;
		memcpy((char *) c->out[0].data + (size_t) i * size,
			   (const char *) c->in[0].data + (size_t) (i / n * columns + y[i % n]) * size, size);
	}
	return MR_OK;
}

/* ---- FeatureVectorizer: tables side by side, each cut or filled to its width ----
 *
 * Attached: the widths.
 */

mr_code
nn_infer_ml_vectorize(nn_infer_call *c)
{
	const int64_t *widths;
	nn_shape	s = {2, {0}};
	int			n,
				own = c->n->n_in;
	bool		attached = own > 0 && c->n->in[own - 1] >= 0 && c->g->values[c->n->in[own - 1]].name[0] == '\0';
	void	   *data;

	own -= attached;
	NN_TRY(nn_ml_ints(c, "inputdimensions", &widths, &n));
	if (n != own || own < 1)
		return nn_infer_fail(c, MR_INVALID, "%d inputdimensions for %d inputs", n, own);
	for (int k = 0; k < own; k++)
	{
		const nn_value *v = nn_in(c, k);

		NN_TRY(nn_ml_need_number(c, k));
		if (v == NULL || v->shape.rank < 1 || v->shape.rank > 2 || widths[k] < 1 || widths[k] > NN_MAX_DIM ||
			(k && v->shape.rank == 2 && v->shape.dims[0] != s.dims[0]))
			return nn_infer_fail(c, MR_INVALID, "input %d does not fit", k);
		if (k == 0)
			s.dims[0] = v->shape.rank == 2 ? v->shape.dims[0] : 1;
		s.dims[1] += widths[k];
	}
	if (!attached)
	{
		NN_TRY(nn_ml_attach(c, nn_int64, n, &data));
		memcpy(data, widths, (size_t) n * sizeof(int64_t));
	}
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_ml_vectorize(nn_run_call *c)
{
	const int64_t *widths = c->in[c->n_in - 1].data;
	float	   *y = c->out[0].data;

	for (int64_t r = 0; r < c->out[0].shape.dims[0]; r++)
		for (int k = 0; k < c->n_in - 1; k++)
		{
			const nn_tensor *x = &c->in[k];
			int64_t		have = x->shape.dims[x->shape.rank - 1];

			if (mr_interrupted(c->env))
				return MR_CANCELED;
			for (int64_t i = 0; i < widths[k]; i++)
				*y++ = i < have ? nn_ml_number(x, r * have + i) : 0;
		}
	return MR_OK;
}
