/*
 * ops.h
 *	  The operators: one table, each entry with its shape rule and its plain kernel.
 *
 * infer() reads a node's attributes and constant inputs, checks everything that
 * does not depend on data, sets the outputs' dtypes and shapes and leaves in
 * node->params what run() needs.  run() computes on plain row-major tensors in
 * portable C; it checks what depends on data (indices).  Operators that the
 * planner can give to blocked kernels (kernels.h) say so by their kind.
 * How to add an operator: README.md.
 */
#ifndef MILLRACE_NN_OPS_H
#define MILLRACE_NN_OPS_H

#include "nn/graph.h"

/* What fusion and planning must recognise; all else is plain. */
typedef enum nn_kind
{
	nn_kind_plain = 0,
	nn_kind_alias,				/* output has the input's elements in the same order */
	nn_kind_activation,			/* one float input; node->params by nn_activation() */
	nn_kind_conv,
	nn_kind_batchnorm,
	nn_kind_binary,				/* params.i[0]: nn_binary */
	nn_kind_maxpool,
	nn_kind_avgpool,
	nn_kind_global_avgpool,
	nn_kind_global_maxpool,
	nn_kind_gemm,
	nn_kind_matmul,
	nn_kind_concat,
	nn_kind_slice,
	nn_kind_split,
	nn_kind_resize,
	nn_kind_pad,
	nn_kind_softmax,
	nn_kind_layernorm,
	nn_kind_attention			/* made by fusion: fuse_attention.c */
} nn_kind;

/* An infer() at work. */
typedef struct nn_infer_call
{
	nn_graph   *g;
	nn_node    *n;
	nn_params  *p;				/* = &n->params, zeroed */
	int			n_in;
	int			n_out;
} nn_infer_call;

/* A run() at work.  Omitted inputs have data NULL and dtype nn_none. */
typedef struct nn_run_call
{
	const nn_params *p;
	const struct nn_op *op;
	const nn_kernels *kernels;
	const mr_env *env;
	mr_status  *st;
	int			n_in;
	int			n_out;
	nn_tensor  *in;
	nn_tensor  *out;
	int64_t    *counts;			/* sizes found at run time, NN_MAX_SLOTS: dynamic.c */
} nn_run_call;

typedef struct nn_op
{
	const char *name;
	const char *domain;			/* "": ai.onnx */
	int			since;			/* opsets, both inclusive */
	int			until;
	nn_kind		kind;
	int			min_in,
				max_in;
	mr_code		(*infer) (nn_infer_call *c);
	mr_code		(*run) (nn_run_call *c);
	int			arg;			/* which of a family: nn_binary, nn_unary, ... */
} nn_op;

/* nn_op.arg of plain operators over a table that treat each of its rows alone:
 * images of a batch may be further rows. */
#define NN_ROWS_ALONE 1000

extern const nn_op nn_ops[];
extern const int nn_n_ops;

/* The entry for a node, NULL with *known set if only the opset does not fit. */
extern const nn_op *nn_find_op(const char *domain, const char *name, int opset, bool *known);

/* Changes whenever the table's order or names do: part of the file header. */
extern uint32_t nn_ops_fingerprint(void);

/* ---- for infer functions (infer.c) ---- */

/* Input k; NULL if omitted. */
static inline nn_value *
nn_in(nn_infer_call *c, int k)
{
	return k < c->n->n_in && c->n->in[k] >= 0 ? &c->g->values[c->n->in[k]] : NULL;
}

static inline nn_value *
nn_out(nn_infer_call *c, int k)
{
	return k < c->n->n_out && c->n->out[k] >= 0 ? &c->g->values[c->n->out[k]] : NULL;
}

/* Set output k (silently nothing if it is omitted); checks the size. */
extern mr_code nn_set_out(nn_infer_call *c, int k, int dtype, const nn_shape *shape);

/* Attributes with defaults; a wrong attribute type fails. */
extern mr_code nn_get_int(nn_infer_call *c, const char *name, int64_t dflt, int64_t *out);
extern mr_code nn_get_float(nn_infer_call *c, const char *name, float dflt, float *out);
/* *n < 0 on return: absent.  More than max ints: error. */
extern mr_code nn_get_ints(nn_infer_call *c, const char *name, int max, int64_t *out, int *n);
extern bool nn_get_string(nn_infer_call *c, const char *name, const char *dflt, char out[32]);

/* Integers of a constant int32/int64 input; *n < 0 if the input is omitted. */
extern mr_code nn_const_ints(nn_infer_call *c, int k, int max, int64_t *out, int *n);
/* One float of a constant input (any float or integer type); dflt if omitted. */
extern mr_code nn_const_float(nn_infer_call *c, int k, float dflt, float *out);

/* MR_UNSUPPORTED unless input k is constant or omitted; says what to bind. */
extern mr_code nn_need_const(nn_infer_call *c, int k);

/* Negative axis made positive, checked against [0, limit). */
extern mr_code nn_norm_axis(nn_infer_call *c, int64_t *axis, int64_t limit);

/* numpy broadcasting of two shapes. */
extern mr_code nn_broadcast(nn_infer_call *c, const nn_shape *a, const nn_shape *b, nn_shape *out);
extern mr_code nn_infer_product(nn_infer_call *c, nn_shape a, nn_shape b, nn_shape *out);	/* of matrices, numpy rules */

/* dynamic.c: a new slot for a size that depends on data, and its marks. */
#define NN_MAX_SLOTS 32			/* a power of two */
extern mr_code nn_new_slot(nn_infer_call *c, int *slot);
extern void nn_set_dynamic(nn_infer_call *c, int k, int dim, int slot);

/* dynamic.c: after a shape rule, which sizes of the outputs depend on data. */
extern mr_code nn_follow_dynamic(nn_infer_call *c);

extern mr_code nn_infer_fail(nn_infer_call *c, mr_code code, const char *fmt,...) MR_PRINTF(3, 4);

#define NN_TRY(expr) do { mr_code rc_ = (expr); if (rc_ != MR_OK) return rc_; } while (0)

/* ---- shared by operator files ---- */

/* The activation that node n computes, from its params; false if it has none
 * of nn_act_kind. */
extern bool nn_activation(const nn_node *n, nn_act *act);

/* Iterate over a strided operand: see ops_math.c. */
typedef struct nn_bcast
{
	int			rank;
	int64_t		dims[NN_MAX_RANK];
	int64_t		stride[3][NN_MAX_RANK];
} nn_bcast;

#endif							/* MILLRACE_NN_OPS_H */
