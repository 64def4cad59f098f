/*
 * fuse_softmax.c
 *	  Transpose, Softmax along the last axis, Transpose: a Softmax along another
 *	  axis and one Transpose (the tail of YOLO's heads).
 */
#include <string.h>

#include "nn/lower.h"

static nn_node *
sole_producer(nn_graph *g, int v)
{
	if (v < 0 || g->values[v].uses != 1 || g->values[v].producer < 0 || nn_is_output(g, v) || !nn_may_skip(g, v))
		return NULL;
	return &g->nodes[g->values[v].producer];
}

/* Which input axis a Transpose's output axis is. */
static int
axis_from(const nn_graph *g, const nn_node *n, int i)
{
	const nn_attr *perm = nn_find_attr(n, "perm");

	return perm ? (int) perm->ints[i] : g->values[n->in[0]].shape.rank - 1 - i;
}

static bool
is_transpose(const nn_node *n)
{
	return n && !n->dead && n->op->run == nn_run_transpose;
}

static void
rewrite(nn_graph *g, nn_node *second)
{
	nn_node    *softmax = sole_producer(g, second->in[0]);
	nn_node    *first = softmax && softmax->op->kind == nn_kind_softmax ? sole_producer(g, softmax->in[0]) : NULL;
	const nn_shape *x;
	int64_t    *p,
				stride[NN_MAX_RANK];
	int			rank,
				axis;

	if (!is_transpose(first))
		return;
	x = &g->values[first->in[0]].shape;
	p = softmax->params.i;
	rank = x->rank;
	axis = rank ? axis_from(g, first, rank - 1) : 0;
	if (rank == 0 || axis == rank - 1 || p[2] != 1 || p[1] != x->dims[axis])
		return;
	for (int i = 0; i < rank; i++)
		stride[i] = first->params.i[nn_c_stride + axis_from(g, second, i)];
	memcpy(second->params.i + nn_c_stride, stride, (size_t) rank * sizeof(int64_t));
	softmax->in[0] = first->in[0];
	g->values[softmax->out[0]].shape = *x;
	p[0] = p[2] = 1;
	for (int i = 0; i < rank; i++)
		if (i != axis)
			p[i < axis ? 0 : 2] *= x->dims[i];
	first->dead = true;
}

mr_code
nn_fuse_softmax(nn_graph *g)
{
	nn_count_uses(g);
	for (int i = 0; i < g->n_nodes; i++)
		if (is_transpose(&g->nodes[i]))
			rewrite(g, &g->nodes[i]);
	nn_count_uses(g);
	return MR_OK;
}
