/*
 * lower.c
 *	  Which nodes blocked kernels can take.  See lower.h.
 */
#include "nn/lower.h"

#include <math.h>
#include <string.h>

#define MAX_SIDE (1 << 24)		/* of a blocked tensor: c, h, w */

bool
nn_blockable(const nn_value *v)
{
	if (v->dtype != nn_float32 || (v->shape.rank != 4 && v->shape.rank != 3) || v->shape.dims[0] != 1)
		return false;
	for (int i = 1; i < v->shape.rank; i++)
		if (v->shape.dims[i] < 1 || v->shape.dims[i] > MAX_SIDE)
			return false;
	return true;
}

/* Constant, or omitted. */
static bool
constant_input(const nn_graph *g, const nn_node *n, int k)
{
	return k >= n->n_in || n->in[k] < 0 || g->values[n->in[k]].data != NULL;
}

bool
nn_conv_lowers(const nn_graph *g, const nn_node *n)
{
	return nn_blockable(&g->values[n->in[0]]) && nn_blockable(&g->values[n->out[0]]) &&
		constant_input(g, n, 1) && constant_input(g, n, 2) && g->values[n->in[1]].elements < INT32_MAX;
}

bool
nn_gemm_lowers(const nn_graph *g, const nn_node *n)
{
	const nn_value *a = &g->values[n->in[0]];
	const nn_value *b = &g->values[n->in[1]];
	const nn_value *bias = n->n_in > 2 && n->in[2] >= 0 ? &g->values[n->in[2]] : NULL;

	if (!constant_input(g, n, 1) || !constant_input(g, n, 2) || b->shape.rank != 2 || a->data ||
		b->elements < 1 || b->elements >= INT32_MAX || a->elements < 1 || a->elements / b->shape.dims[0] >= MAX_SIDE)
		return false;
	if (n->op->kind == nn_kind_matmul)
		return true;
	/* the bias is one row */
	return !n->params.i[0] && (bias == NULL || bias->elements == 1 ||
							   bias->elements == bias->shape.dims[bias->shape.rank - 1]);
}

/* The constant is one number, or one per channel (dimension 1) of x. */
static bool
per_channel(const nn_value *c, const nn_value *x)
{
	int			at;

	if (c->elements == 1)
		return c->shape.rank <= x->shape.rank;
	at = 1 - (x->shape.rank - c->shape.rank);
	return c->shape.rank <= x->shape.rank && at >= 0 && c->elements == x->shape.dims[1] &&
		c->shape.dims[at] == x->shape.dims[1];
}

bool
nn_affine(const nn_graph *g, const nn_node *n, float *scale, float *shift, int *x)
{
	const nn_value *v;
	const float *c;
	int			side;

	if (n->op->kind == nn_kind_batchnorm)
	{
		const float *p[5];

		*x = n->in[0];
		v = &g->values[*x];
		if (!nn_blockable(v))
			return false;
		for (int k = 1; k < 5; k++)
		{
			p[k] = g->values[n->in[k]].data;
			if (p[k] == NULL)
				return false;
		}
		for (int64_t i = 0; scale && i < v->shape.dims[1]; i++)
		{
			scale[i] = p[1][i] / sqrtf(p[4][i] + n->params.f[0]);
			shift[i] = p[2][i] - p[3][i] * scale[i];
		}
		return true;
	}
	if (n->op->kind != nn_kind_binary || n->n_in != 2 || n->params.i[0] > nn_div)
		return false;
	side = g->values[n->in[1]].data ? 1 : 0;
	if (g->values[n->in[side]].data == NULL || (side == 0 && n->params.i[0] == nn_div))
		return false;
	*x = n->in[!side];
	v = &g->values[*x];
	if (v->data || !nn_blockable(v) || !per_channel(&g->values[n->in[side]], v))
		return false;
	c = g->values[n->in[side]].data;
	for (int64_t i = 0; scale && i < v->shape.dims[1]; i++)
	{
		float		f = c[g->values[n->in[side]].elements == 1 ? 0 : i];

		switch (n->params.i[0])
		{
			case nn_add:
				scale[i] = 1;
				shift[i] = f;
				break;
			case nn_sub:
				scale[i] = side ? 1 : -1;
				shift[i] = side ? -f : f;
				break;
			case nn_mul:
				scale[i] = f;
				shift[i] = 0;
				break;
			default:
				scale[i] = 1 / f;
				shift[i] = 0;
		}
	}
	return true;
}

bool
nn_takes_activation(const nn_graph *g, const nn_node *n)
{
	int			x;

	switch (n->op->kind)
	{
		case nn_kind_conv:
			return nn_conv_lowers(g, n);
		case nn_kind_gemm:
		case nn_kind_matmul:
			return nn_gemm_lowers(g, n);
		case nn_kind_batchnorm:
			return nn_affine(g, n, NULL, NULL, &x);
		case nn_kind_binary:
			/* both lowerings of these can: affine, or two tensors of one shape */
			return nn_affine(g, n, NULL, NULL, &x) ||
				(n->n_in == 2 && nn_blockable(&g->values[n->in[0]]) && !g->values[n->in[0]].data &&
				 !g->values[n->in[1]].data &&
				 nn_shape_equal(&g->values[n->in[0]].shape, &g->values[n->in[1]].shape));
		default:
			return false;
	}
}

bool
nn_is_identity(const nn_graph *g, const nn_node *n)
{
	const nn_value *x = n->n_in > 0 && n->in[0] >= 0 ? &g->values[n->in[0]] : NULL;
	const nn_value *y = &g->values[n->out[0]];

	for (int k = 1; k < n->n_out; k++)
		if (n->out[k] >= 0 && g->values[n->out[k]].data == NULL)
			return false;
	if (x == NULL || x->dtype != y->dtype || !nn_shape_equal(&x->shape, &y->shape))
		return false;
	return n->op->kind == nn_kind_alias || (n->op->infer == nn_infer_cast && !n->params.i[0]) ||
		(n->op->kind == nn_kind_concat && n->n_in == 1) ||
		(n->op->kind == nn_kind_binary && n->n_in == 1);
}
