/*
 * fuse.h
 *	  The passes of fusion, and what they share.
 *
 * A pass looks for patterns of several nodes and turns the last of them into
 * one node; it need not care who else reads what is between: nn_sweep() drops
 * the nodes that nobody reads any more.
 */
#ifndef MILLRACE_NN_FUSE_H
#define MILLRACE_NN_FUSE_H

#include "nn/lower.h"

/* fuse_norm.c: GELU, Swish, LayerNorm and RMSNorm written out. */
extern mr_code nn_fuse_norm(nn_graph *g);

/* fuse_attention.c: attention of any exporter's writing -> one node. */
extern mr_code nn_fuse_attention(nn_graph *g);

/* fuse_gemm.c: Add of a bias or of a residual goes into the product before it.
 * n is an Add; false: it stays. */
extern bool nn_fuse_gemm_add(nn_graph *g, nn_node *n);

/* The node that makes v, NULL if it is none or v must be kept. */
static inline nn_node *
nn_producer(const nn_graph *g, int v)
{
	return v < 0 || g->values[v].data || g->values[v].producer < 0 || !nn_may_skip(g, v) ? NULL : &g->nodes[g->values[v].producer];
}

/* The same if n is the only reader of v, which is no output. */
extern nn_node *nn_sole_producer(nn_graph *g, int v);

/* Node `into` takes over the output of node `from`, which dies. */
extern void nn_take_output(nn_graph *g, nn_node *into, nn_node *from);

/* A new constant of floats, zeroed; -1: no memory. */
extern int	nn_add_constant(nn_graph *g, const nn_shape *shape, float **data);

/* Is v one constant float? */
extern bool nn_const_number(const nn_graph *g, int v, float *f);

/* ... close to f? */
extern bool nn_is_number(const nn_graph *g, int v, float f);

/* Count uses; drop nodes that nobody reads. */
extern void nn_sweep(nn_graph *g);

#endif							/* MILLRACE_NN_FUSE_H */
