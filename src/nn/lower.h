/*
 * lower.h
 *	  What fuse.c and the planner must agree on: which nodes a blocked kernel
 *	  takes, and as what.
 */
#ifndef MILLRACE_NN_LOWER_H
#define MILLRACE_NN_LOWER_H

#include "nn/file.h"
#include "nn/ops_impl.h"

/* Parameters of a shortcut (nn_node.shortcut) in nn_params.i. */
enum nn_shortcut_param
{
	nn_s_before,				/* zero channels before x's */
	nn_s_y0, nn_s_x0, nn_s_sy, nn_s_sx
};

/* Of an attention (nn_kind_attention) in nn_params.i; f[0]: scale.  Inputs: queries,
 * keys, values, up to two masks. */
enum nn_attention_param
{
	nn_a_batch, nn_a_heads, nn_a_queries, nn_a_keys,
	nn_a_dim,					/* of queries and keys */
	nn_a_vdim,					/* of values */
	nn_a_safe,					/* rows without a score are 0 */
	nn_a_joined,				/* the result's heads lie side by side in each row */
	nn_a_at						/* of each input four: first element, strides of rows, heads, batch */
};

/* Can this value lie in blocked layout?  float32, one image, 1-D or 2-D. */
extern bool nn_blockable(const nn_value *v);

/* Will this Conv become a conv, planar or depthwise step?  Weights constant. */
extern bool nn_conv_lowers(const nn_graph *g, const nn_node *n);

/* Will this Gemm or MatMul become a gemm step?  B and bias constant. */
extern bool nn_gemm_lowers(const nn_graph *g, const nn_node *n);

/* Does n multiply and shift each channel of input *x by constants?
 * (BatchNormalization; Add, Sub, Mul, Div with a constant.)  Fills scale and
 * shift, a float per channel each, unless NULL. */
extern bool nn_affine(const nn_graph *g, const nn_node *n, float *scale, float *shift, int *x);

/* Can an activation be folded into n's own step? */
extern bool nn_takes_activation(const nn_graph *g, const nn_node *n);

/* May a value vanish between two nodes that become one?  Not if it is rounded
 * and limited to 8 bits there. */
extern bool nn_may_skip(const nn_graph *g, int value);

/* Will this Conv compute on int8, and not as a depthwise one?  Such a step can
 * limit its sums to what the value between held before it adds a residual. */
extern bool nn_conv_is_int8(const nn_graph *g, const nn_node *n);

/* Does n pass its input through, type and shape included? */
extern bool nn_is_identity(const nn_graph *g, const nn_node *n);

#endif							/* MILLRACE_NN_LOWER_H */
