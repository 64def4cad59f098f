/*
 * fuse_gemm.c
 *	  What is added to a product goes into it: a bias by columns, a residual.
 */
#include "nn/fuse.h"

/* The product that only feeds v and can still take something. */
static nn_node *
open_product(nn_graph *g, int v)
{
	nn_node    *n = nn_sole_producer(g, v);

	if (n == NULL || (n->op->kind != nn_kind_matmul && n->op->kind != nn_kind_gemm) || n->act.kind != nn_act_none ||
		n->residual >= 0 || !nn_gemm_lowers(g, n))
		return NULL;
	return n;
}

/* MatMul plus a constant row: its third input, as Gemm's. */
static bool
fuse_bias(nn_graph *g, nn_node *n, nn_node *product, int bias)
{
	const nn_value *c = &g->values[bias];
	int64_t		width = g->values[n->out[0]].shape.dims[g->values[n->out[0]].shape.rank - 1];
	int		   *in;

	if (product->op->kind != nn_kind_matmul || product->n_in != 2 || c->data == NULL || c->elements != width ||
		c->shape.rank < 1 || c->shape.dims[c->shape.rank - 1] != width)
		return false;
	in = nn_heap_alloc(g->heap, 3, sizeof(int));
	if (in == NULL)
		return false;
	in[0] = product->in[0];
	in[1] = product->in[1];
	in[2] = bias;
	product->in = in;
	product->n_in = 3;
	product->params.f[1] = 1;	/* beta */
	nn_take_output(g, product, n);
	return true;
}

bool
nn_fuse_gemm_add(nn_graph *g, nn_node *n)
{
	nn_node    *best = NULL;
	int			side = 0;

	if (n->op->kind != nn_kind_binary || n->params.i[0] != nn_add || n->n_in != 2 || n->in[0] == n->in[1] ||
		g->values[n->out[0]].dtype != nn_float32 || n->act.kind != nn_act_none || g->values[n->out[0]].shape.rank < 1)
		return false;
	for (int k = 0; k < 2; k++)
	{
		nn_node    *p = open_product(g, n->in[k]);

		if (p == NULL || !nn_shape_equal(&g->values[n->in[k]].shape, &g->values[n->out[0]].shape))
			continue;
		if (fuse_bias(g, n, p, n->in[!k]))
			return true;
		if (nn_shape_equal(&g->values[n->in[!k]].shape, &g->values[n->out[0]].shape) && (!best || p > best))
		{
			best = p;
			side = k;
		}
	}
	if (best == NULL)
		return false;
	/* The product moves to where the residual is known. */
	{
		int			other = n->in[!side];
		int		   *out = n->out;
		nn_node		moved = *best;

		best->dead = true;
		moved.residual = other;
		moved.out = out;
		*n = moved;
		g->values[out[0]].producer = (int) (n - g->nodes);
	}
	return true;
}
