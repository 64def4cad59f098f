/*
 * ops_shape.c
 *	  Operators on shapes and types; most cost nothing at run time.
 *
 * Those of kind alias keep all elements in order: the planner lets the output
 * share the input's memory, run() is for constant folding.
 */
#include <math.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops_impl.h"

mr_code
nn_need_float(nn_infer_call *c, int k)
{
	nn_value   *v = nn_in(c, k);

	if (v && v->dtype != nn_float32)
		return nn_infer_fail(c, MR_UNSUPPORTED, "input %d has type %s, only float is supported", k,
							 nn_dtype_name((nn_dtype) v->dtype));
	return MR_OK;
}

static mr_code
alias_out(nn_infer_call *c, const nn_shape *shape)
{
	nn_value   *x = nn_in(c, 0);
	int64_t		elements;

	if (!nn_shape_elements(shape, &elements) || elements != x->elements)
		return nn_infer_fail(c, MR_INVALID, "the new shape does not hold the input's %lld elements",
							 (long long) x->elements);
	return nn_set_out(c, 0, x->dtype, shape);
}

/* Identity; Dropout as in inference (a mask output is all true). */
mr_code
nn_infer_identity(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_value   *training = c->n->op->arg && c->n->opset >= 12 ? nn_in(c, 2) : NULL;

	if (training)
		NN_TRY(nn_need_const(c, 2));
	if (training && *(uint8_t *) training->data)
	{
		float		ratio;

		NN_TRY(nn_const_float(c, 1, 0.5f, &ratio));
		if (ratio != 0)
			return nn_infer_fail(c, MR_UNSUPPORTED, "training mode is not supported");
	}
	NN_TRY(nn_set_out(c, 0, x->dtype, &x->shape));
	if (nn_out(c, 1))
	{
		nn_value   *mask = nn_out(c, 1);

		NN_TRY(nn_set_out(c, 1, nn_bool, &x->shape));
		mask->data = nn_heap_alloc(c->g->heap, (size_t) mask->elements + 1, 1);
		if (mask->data == NULL)
			return c->g->st->code;
		memset(mask->data, 1, (size_t) mask->elements);
	}
	return MR_OK;
}

mr_code
nn_run_identity(nn_run_call *c)
{
	if (c->out[0].elements)
		memcpy(c->out[0].data, c->in[0].data, (size_t) c->out[0].elements * nn_dtype_size(c->out[0].dtype));
	return MR_OK;
}

mr_code
nn_infer_reshape(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = {0};
	int64_t		zero;
	int64_t		known = 1;
	int			hole = -1;

	NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, s.dims, &s.rank));
	NN_TRY(nn_get_int(c, "allowzero", 0, &zero));
	for (int i = 0; i < s.rank; i++)
	{
		if (s.dims[i] == 0 && !zero)
		{
			if (i >= x->shape.rank)
				return nn_infer_fail(c, MR_INVALID, "shape copies dimension %d of an input that has %d", i,
									 x->shape.rank);
			s.dims[i] = x->shape.dims[i];
		}
		if (s.dims[i] == -1 && hole < 0)
			hole = i;
		else if (s.dims[i] < 0 || s.dims[i] > NN_MAX_DIM || __builtin_mul_overflow(known, s.dims[i], &known))
			return nn_infer_fail(c, MR_INVALID, "bad shape");
	}
	if (hole >= 0)
	{
		if (known == 0 || x->elements % known)
			return nn_infer_fail(c, MR_INVALID, "the new shape does not hold the input's %lld elements",
								 (long long) x->elements);
		s.dims[hole] = x->elements / known;
	}
	return alias_out(c, &s);
}

mr_code
nn_infer_flatten(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = {2, {1, 1}};
	int64_t		axis;

	NN_TRY(nn_get_int(c, "axis", 1, &axis));
	if (axis < -x->shape.rank || axis > x->shape.rank)
		return nn_infer_fail(c, MR_INVALID, "axis %lld is out of range", (long long) axis);
	if (axis < 0)
		axis += x->shape.rank;
	for (int i = 0; i < x->shape.rank; i++)
		s.dims[i >= axis] *= x->shape.dims[i];	/* x's elements were checked */
	return alias_out(c, &s);
}

/* axes: attribute before opset 13, input since. */
static mr_code
get_axes(nn_infer_call *c, int64_t axes[NN_MAX_RANK], int *n, int rank, bool seen[NN_MAX_RANK])
{
	if (c->n->opset < 13)
		NN_TRY(nn_get_ints(c, "axes", NN_MAX_RANK, axes, n));
	else
		NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, axes, n));
	memset(seen, 0, NN_MAX_RANK * sizeof(bool));
	for (int i = 0; i < *n; i++)
	{
		NN_TRY(nn_norm_axis(c, &axes[i], rank));
		if (seen[axes[i]])
			return nn_infer_fail(c, MR_INVALID, "axis %lld is given twice", (long long) axes[i]);
		seen[axes[i]] = true;
	}
	return MR_OK;
}

mr_code
nn_infer_squeeze(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = {0};
	int64_t		axes[NN_MAX_RANK];
	bool		seen[NN_MAX_RANK];
	int			n;

	NN_TRY(get_axes(c, axes, &n, x->shape.rank, seen));
	for (int i = 0; i < x->shape.rank; i++)
	{
		bool		drop = n < 0 ? x->shape.dims[i] == 1 : seen[i];

		if (drop && x->shape.dims[i] != 1)
			return nn_infer_fail(c, MR_INVALID, "dimension %d is %lld, not 1", i, (long long) x->shape.dims[i]);
		if (!drop)
			s.dims[s.rank++] = x->shape.dims[i];
	}
	return alias_out(c, &s);
}

mr_code
nn_infer_unsqueeze(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = {0};
	int64_t		axes[NN_MAX_RANK];
	bool		seen[NN_MAX_RANK];
	int			n,
				from = 0;

	/* axes are of the output, whose rank depends on their number */
	if (c->n->opset < 13)
		NN_TRY(nn_get_ints(c, "axes", NN_MAX_RANK, axes, &n));
	else
		NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, axes, &n));
	if (n < 0 || x->shape.rank + n > NN_MAX_RANK)
		return nn_infer_fail(c, MR_INVALID, "bad axes");
	s.rank = x->shape.rank + n;
	NN_TRY(get_axes(c, axes, &n, s.rank, seen));
	for (int i = 0; i < s.rank; i++)
		s.dims[i] = seen[i] ? 1 : x->shape.dims[from++];
	return alias_out(c, &s);
}

mr_code
nn_run_reshape(nn_run_call *c)
{
	return nn_run_identity(c);
}

mr_code
nn_run_flatten(nn_run_call *c)
{
	return nn_run_identity(c);
}

mr_code
nn_run_squeeze(nn_run_call *c)
{
	return nn_run_identity(c);
}

mr_code
nn_run_unsqueeze(nn_run_call *c)
{
	return nn_run_identity(c);
}

/* Shape and Size: constant once the input's shape is known. */
mr_code
nn_infer_shape(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_value   *y = nn_out(c, 0);
	nn_shape	s = {1, {0}};
	int64_t		start,
				end,
				rank = x->shape.rank;
	bool		size = c->n->op->arg != 0;

	NN_TRY(nn_get_int(c, "start", 0, &start));
	NN_TRY(nn_get_int(c, "end", rank, &end));
	start = start < -rank ? 0 : start < 0 ? start + rank : start > rank ? rank : start;
	end = end < -rank ? 0 : end < 0 ? end + rank : end > rank ? rank : end;
	if (size)
		s.rank = 0;
	else
		s.dims[0] = end > start ? end - start : 0;
	NN_TRY(nn_set_out(c, 0, nn_int64, &s));
	if (y == NULL)
		return MR_OK;
	y->data = nn_heap_alloc(c->g->heap, (size_t) y->elements + 1, sizeof(int64_t));
	if (y->data == NULL)
		return c->g->st->code;
	if (size)
		*(int64_t *) y->data = x->elements;
	else
		for (int64_t i = 0; i < s.dims[0]; i++)
			((int64_t *) y->data)[i] = x->shape.dims[start + i];
	return MR_OK;
}

mr_code
nn_run_shape(nn_run_call *c)
{
	return mr_fail(c->st, MR_INTERNAL, "Shape was not folded");
}

/* Constant: a tensor, or one of the short forms. */
mr_code
nn_infer_constant(nn_infer_call *c)
{
	const nn_attr *a = c->n->n_attrs == 1 ? &c->n->attrs[0] : NULL;
	nn_value   *y = nn_out(c, 0);
	nn_shape	s = {0};
	nn_tensor	t;
	pb_bytes	name;
	int32_t		declared;
	int			dtype;

	if (a == NULL)
		return nn_infer_fail(c, MR_INVALID, "must have exactly one attribute");
	if (y == NULL)
		return MR_OK;
	switch (a->type)
	{
		case nn_attr_tensor:
			NN_TRY(nn_read_tensor(c->g, a->s, &t, &declared, &name, "constant"));
			NN_TRY(nn_set_out(c, 0, t.dtype, &t.shape));
			y->data = t.data;
			return MR_OK;
		case nn_attr_float:
		case nn_attr_floats:
			dtype = nn_float32;
			break;
		case nn_attr_int:
		case nn_attr_ints:
			dtype = nn_int64;
			break;
		default:
			return nn_infer_fail(c, MR_UNSUPPORTED, "only number constants are supported");
	}
	if (a->type == nn_attr_floats || a->type == nn_attr_ints)
	{
		s.rank = 1;
		s.dims[0] = a->n;
	}
	NN_TRY(nn_set_out(c, 0, dtype, &s));
	y->data = nn_heap_alloc(c->g->heap, (size_t) y->elements + 1, nn_dtype_size(dtype));
	if (y->data == NULL)
		return c->g->st->code;
	if (y->elements)
		memcpy(y->data, a->type == nn_attr_float ? (void *) &a->f : a->type == nn_attr_int ? (void *) &a->i :
			   a->type == nn_attr_floats ? (void *) a->floats : (void *) a->ints,
			   (size_t) y->elements * nn_dtype_size(dtype));
	return MR_OK;
}

mr_code
nn_run_constant(nn_run_call *c)
{
	return mr_fail(c->st, MR_INTERNAL, "Constant was not folded");
}

mr_code
nn_infer_constant_of_shape(nn_infer_call *c)
{
	const nn_attr *a = nn_find_attr(c->n, "value");
	nn_value   *y = nn_out(c, 0);
	nn_shape	s = {0};
	nn_tensor	t = {nn_float32, {0}, 1, NULL};
	pb_bytes	name;
	int32_t		declared;
	size_t		size;

	NN_TRY(nn_const_ints(c, 0, NN_MAX_RANK, s.dims, &s.rank));
	if (a)
	{
		if (a->type != nn_attr_tensor)
			return nn_infer_fail(c, MR_INVALID, "attribute value has the wrong type");
		NN_TRY(nn_read_tensor(c->g, a->s, &t, &declared, &name, "constant"));
		if (t.elements != 1)
			return nn_infer_fail(c, MR_INVALID, "attribute value must be one number");
	}
	NN_TRY(nn_set_out(c, 0, t.dtype, &s));
	if (y == NULL)
		return MR_OK;
	size = nn_dtype_size(t.dtype);
	y->data = nn_heap_alloc(c->g->heap, (size_t) y->elements + 1, size);
	if (y->data == NULL)
		return c->g->st->code;
	for (int64_t i = 0; t.data && i < y->elements; i++)
		memcpy((char *) y->data + (size_t) i * size, t.data, size);
	return MR_OK;
}

mr_code
nn_run_constant_of_shape(nn_run_call *c)
{
	return mr_fail(c->st, MR_INTERNAL, "ConstantOfShape was not folded");
}
