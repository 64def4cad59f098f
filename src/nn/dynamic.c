/*
 * dynamic.c
 *	  Sizes that depend on data: NonZero, Compress, Unique, NonMaxSuppression.
 *
 * Such a dimension is planned with the most it can be, and the elements behind
 * the actual size are zeros, so every kernel runs as if it were fixed.  Each
 * has a slot: the operator that finds the size writes it to counts[slot] of the
 * run, and nn_run_shaped() cuts the outputs to it.  An operator may stand
 * behind one only where each slice along such a dimension is computed from
 * slices of the same place: follow() knows which, all others are refused.
 * Behind the actual size an index is 0, which every Gather has; arithmetic on
 * indices keeps that only as far as it maps 0 to an index.
 */
#include <string.h>

#include "nn/ops_impl.h"

mr_code
nn_new_slot(nn_infer_call *c, int *slot)
{
	if (c->g->n_slots == NN_MAX_SLOTS)
		return nn_infer_fail(c, MR_UNSUPPORTED, "more than %d sizes of the model depend on data", NN_MAX_SLOTS);
	*slot = c->g->n_slots++;
	return MR_OK;
}

void
nn_set_dynamic(nn_infer_call *c, int k, int dim, int slot)
{
	nn_value   *v = nn_out(c, k);

	if (v)
		v->dynamic[dim] = (uint8_t) (slot + 1);
}

static bool
is_dynamic(const nn_value *v)
{
	for (int i = 0; v && i < v->shape.rank; i++)
		if (v->dynamic[i])
			return true;
	return false;
}

static bool
named(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(*list, name) == 0)
			return true;
	return false;
}

/* Result element by element from operands of broadcast shapes. */
static bool
follow_elementwise(nn_infer_call *c, nn_value *y)
{
	for (int k = 0; k < c->n_in; k++)
	{
		const nn_value *x = nn_in(c, k);
		int			shift = x ? y->shape.rank - x->shape.rank : 0;

		for (int i = 0; x && i < x->shape.rank; i++)
		{
			uint8_t    *to = &y->dynamic[i + shift];

			if (x->dynamic[i] && *to && *to != x->dynamic[i])
				return false;
			if (x->dynamic[i])
				*to = x->dynamic[i];
		}
	}
	/* a fixed size beside one that depends on data matches only by chance */
	for (int k = 0; k < c->n_in; k++)
	{
		const nn_value *x = nn_in(c, k);
		int			shift = x ? y->shape.rank - x->shape.rank : 0;

		for (int i = 0; x && i < x->shape.rank; i++)
			if (y->dynamic[i + shift] && !x->dynamic[i] && x->shape.dims[i] != 1)
				return false;
	}
	return true;
}

static bool
follow_transpose(nn_infer_call *c, const nn_value *x, nn_value *y)
{
	int64_t		perm[NN_MAX_RANK];
	int			n;

	if (nn_get_ints(c, "perm", NN_MAX_RANK, perm, &n) != MR_OK)
		return false;
	for (int i = 0; i < y->shape.rank; i++)
		y->dynamic[i] = x->dynamic[n < 0 ? y->shape.rank - 1 - i : perm[i]];
	return true;
}

/* The data's other dimensions stay, the indices' take the place of its axis. */
static bool
follow_gather(nn_infer_call *c, const nn_value *x, nn_value *y)
{
	const nn_value *ix = nn_in(c, 1);
	int64_t		axis = c->p->i[0];
	int			to = 0;

	if (x->dynamic[axis])
		return false;
	for (int i = 0; i < x->shape.rank; i++)
	{
		if (i != axis)
			y->dynamic[to++] = x->dynamic[i];
		else
			for (int j = 0; j < ix->shape.rank; j++)
				y->dynamic[to++] = ix->dynamic[j];
	}
	return true;
}

static bool
follow_gather_nd(nn_infer_call *c, const nn_value *x, nn_value *y)
{
	const nn_value *ix = nn_in(c, 1);

	if (is_dynamic(x) || ix->dynamic[ix->shape.rank - 1])
		return false;
	for (int i = 0; i < ix->shape.rank - 1; i++)
		y->dynamic[i] = ix->dynamic[i];
	return true;
}

/* Reshape, Squeeze, Unsqueeze, Flatten that only add or drop dimensions of 1.
 * A Reshape must say -1 or 0 where the size depends on data. */
static bool
follow_ones(nn_infer_call *c, const nn_value *x, nn_value *y)
{
	const nn_value *shape = strcmp(c->n->op->name, "Reshape") == 0 ? nn_in(c, 1) : NULL;
	int			to = 0;

	for (int i = 0; i < x->shape.rank; i++)
	{
		if (!x->dynamic[i] && x->shape.dims[i] == 1)
			continue;
		while (to < y->shape.rank && y->shape.dims[to] == 1 && (x->shape.dims[i] != 1 || (shape && ((const int64_t *) shape->data)[to] == 1)))
			to++;
		if (to == y->shape.rank || y->shape.dims[to] != x->shape.dims[i])
			return false;
		if (x->dynamic[i] && shape && ((const int64_t *) shape->data)[to] > 0)
			return false;
		y->dynamic[to++] = x->dynamic[i];
	}
	while (to < y->shape.rank && y->shape.dims[to] == 1)
		to++;
	return to == y->shape.rank;
}

/* Whole along every dynamic dimension; the axis worked on is another. */
static bool
follow_slice(nn_infer_call *c, const nn_value *x, nn_value *y)
{
	int64_t		natural = 1;

	for (int i = x->shape.rank - 1; i >= 0; i--)
	{
		if (x->dynamic[i] && (y->shape.dims[i] != x->shape.dims[i] || c->p->i[nn_c_stride + i] != natural))
			return false;
		natural *= x->shape.dims[i];
		y->dynamic[i] = x->dynamic[i];
	}
	return true;
}

static bool
follow_axis(nn_infer_call *c, nn_value *y)
{
	int64_t		axis = c->p->i[0];

	for (int k = 0; k < c->n_in; k++)
	{
		const nn_value *x = nn_in(c, k);

		for (int i = 0; x && i < x->shape.rank; i++)
		{
			if (i == axis ? x->dynamic[i] != 0 : k > 0 && x->dynamic[i] != y->dynamic[i])
				return false;
			if (i != axis)
				y->dynamic[i] = x->dynamic[i];
		}
	}
	return true;
}

static bool
follow(nn_infer_call *c, nn_value *y)
{
	static const char *const same[] = {
		"Identity", "Cast", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Elu", "Exp",
		"Abs", "Neg", "Sign", "Sqrt", "Reciprocal", "Log", "Floor", "Ceil", "Round", "Erf", "Not", "IsNaN", "IsInf",
		"Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Pow", "Mod", "Equal", "Less", "Greater", "LessOrEqual",
		"GreaterOrEqual", "And", "Or", "Xor", "Where", NULL
	};
	static const char *const ones[] = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", NULL};
	const char *name = c->n->op->name;
	const nn_value *x = nn_in(c, 0);

	if (x == NULL || c->n->op->domain[0])
		return false;
	if (named(name, same))
		return follow_elementwise(c, y);
	if (strcmp(name, "Transpose") == 0)
		return follow_transpose(c, x, y);
	if (strcmp(name, "Gather") == 0)
		return follow_gather(c, x, y);
	if (strcmp(name, "GatherND") == 0)
		return follow_gather_nd(c, x, y);
	if (named(name, ones))
		return follow_ones(c, x, y);
	if (strcmp(name, "Slice") == 0)
		return follow_slice(c, x, y);
	if (strcmp(name, "Concat") == 0 || strcmp(name, "Split") == 0)
		return follow_axis(c, y);
	return false;
}

mr_code
nn_follow_dynamic(nn_infer_call *c)
{
	int			from = -1;

	for (int k = 0; k < c->n_in && from < 0; k++)
		if (is_dynamic(nn_in(c, k)))
			from = k;
	if (from < 0)
		return MR_OK;
	for (int k = 0; k < c->n_out; k++)
	{
		nn_value   *y = nn_out(c, k);

		if (y && !follow(c, y))
			return nn_infer_fail(c, MR_UNSUPPORTED, "the size of input %d depends on data, which this operator cannot follow", from);
		/* what a rule took for constant (a mask, a shape) would be too long */
		if (y && y->data && is_dynamic(y))
			return nn_infer_fail(c, MR_UNSUPPORTED, "the size of input %d depends on data, which this operator cannot follow", from);
	}
	return MR_OK;
}
