/*
 * graph.h
 *	  The graph of a model while it is compiled.
 *
 * Everything lives in one nn_heap and is dropped with it.  Values and nodes are
 * named by index; nodes stand in topological order, as ONNX demands.  A pass
 * removes a node by setting dead and replaces a value by renaming its uses.
 *
 * float16, bfloat16 and float64 values are float32 here: constants are
 * converted when read, the arithmetic is float32 (README.md, "Precision").
 */
#ifndef MILLRACE_NN_GRAPH_H
#define MILLRACE_NN_GRAPH_H

#include "nn/kernels.h"
#include "nn/nn.h"
#include "nn/protobuf.h"

#define NN_MAX_NAME 65536		/* bytes of any name or string */
#define NN_MAX_DIM INT32_MAX
#define NN_MAX_ELEMENTS ((int64_t) 1 << 36)
#define NN_N_INTS 40			/* integer parameters of a node */
#define NN_N_FLOATS 4

/* ---- heap: many small allocations, one release ---- */

typedef struct nn_heap
{
	const mr_env *env;
	mr_status  *st;
	struct nn_chunk *chunks;
	size_t		used,
				limit;
} nn_heap;

extern void nn_heap_init(nn_heap *h, const mr_env *env, size_t limit, mr_status *st);

/* Zeroed, 64-byte aligned; NULL with h->st set (MR_NOMEM or MR_LIMIT). */
extern void *nn_heap_alloc(nn_heap *h, size_t count, size_t size);
extern void nn_heap_free(nn_heap *h);

/* ---- tensors ---- */

/* A plain (row-major) tensor at hand: operand of a plain operator. */
typedef struct nn_tensor
{
	int32_t		dtype;
	nn_shape	shape;
	int64_t		elements;
	void	   *data;
} nn_tensor;

extern bool nn_shape_elements(const nn_shape *s, int64_t *elements);	/* false: too large */
extern bool nn_shape_equal(const nn_shape *a, const nn_shape *b);

/* ---- nodes ---- */

typedef enum nn_attr_type
{
	nn_attr_float = 1,
	nn_attr_int = 2,
	nn_attr_string = 3,
	nn_attr_tensor = 4,
	nn_attr_graph = 5,
	nn_attr_floats = 6,
	nn_attr_ints = 7,
	nn_attr_strings = 8,
	nn_attr_other = 99
} nn_attr_type;

typedef struct nn_attr
{
	const char *name;
	nn_attr_type type;
	int64_t		i;
	float		f;
	pb_bytes	s;				/* string, or tensor message */
	int			n;				/* of ints, floats or strings */
	int64_t    *ints;
	float	   *floats;
	pb_bytes   *strings;		/* in the file */
} nn_attr;

/* What an operator needs to know at run time, found once by its infer(): axes,
 * strides, slopes; each operator's file says what stands where. */
typedef struct nn_params
{
	int64_t		i[NN_N_INTS];
	float		f[NN_N_FLOATS];
} nn_params;

struct nn_op;

/* Rounded to scale * (x - zero), x = 0 .. 255, wherever it is kept.  int8 values
 * are the same with zero point and numbers raised by 128. */
typedef struct nn_stored
{
	float		scale;
	int			zero;
} nn_stored;

typedef struct nn_node
{
	const char *name;
	const char *op_type;
	const struct nn_op *op;
	int			opset;			/* of the node's domain */
	int			n_in,
				n_out;
	int		   *in;				/* values, -1: omitted */
	int		   *out;			/* values, -1: omitted */
	int			n_attrs;
	nn_attr    *attrs;
	nn_params	params;
	bool		dead;
	bool		shortcut;		/* Slice or Pad as one strided copy: lower.h */
	/* set by fusion */
	nn_act		act;			/* applied to the result */
	int			residual;		/* value added before act, -1: none */
	const struct nn_stored *mid;	/* int8 Conv with a residual: what its own sum is limited to */
	bool		dynamic;		/* MatMul whose input is rounded to 8 bits by its own range */
} nn_node;

/* What a float32 constant was made of: q * scale, by index of an axis or (one
 * scale) all alike. */
typedef struct nn_int8_weights
{
	const int8_t *q;
	const float *scale;
	int64_t		n_scales;
	int			axis;
} nn_int8_weights;

typedef struct nn_value
{
	const char *name;
	int32_t		dtype;			/* nn_none: not inferred yet */
	int32_t		declared;		/* dtype in the file: float16 stays float16 here */
	nn_shape	shape;
	int64_t		elements;
	void	   *data;			/* constant */
	bool		initializer;	/* data comes from the file, not from folding */
	bool		batch;			/* its first dimension is the batch */
	bool		bound;			/* input whose value the class fixes: data is it */
	uint8_t		dynamic[NN_MAX_RANK];	/* slot + 1 of a dimension that depends on data: dynamic.c */
	int			producer;		/* node, -1: input, initializer */
	int			uses;			/* by living nodes and as graph output: nn_count_uses() */
	/* set by fuse_quant.c, else NULL */
	const nn_stored *stored;
	const nn_int8_weights *int8;
} nn_value;

/* An input as the model declares it. */
typedef struct nn_decl
{
	bool		shaped;
	nn_shape	shape;			/* -1: open */
	const char *names[NN_MAX_RANK]; /* of open dimensions, NULL: unnamed */
} nn_decl;

typedef struct nn_graph
{
	nn_heap    *heap;
	const mr_env *env;
	mr_status  *st;
	const nn_options *opt;
	int64_t		ir_version;
	int			opset;			/* default domain, 0: not imported */
	int			opset_ml;		/* ai.onnx.ml */
	char	   *producer;
	int			n_nodes,
				n_values,
				cap_values;
	nn_node    *nodes;
	nn_value   *values;
	int			n_inputs,
				n_outputs;
	int			inputs[NN_MAX_PORTS];	/* values */
	int			outputs[NN_MAX_PORTS];
	nn_decl		decls[NN_MAX_PORTS];	/* of inputs */
	int			n_slots;		/* sizes that depend on data */
	int			need;			/* input whose value a shape rule asked for, -1: none */
	int64_t		n_parameters;
	int64_t		n_texts;		/* a table of strings, kept as positions: */
	const pb_bytes *texts;		/* NULL: there is none */
	struct nn_names *names;
} nn_graph;

/* onnx.c: read a model; checks everything that needs no shapes. */
extern mr_code nn_read_onnx(nn_graph *g, const uint8_t *onnx, size_t len);

/* onnx.c: a TensorProto to a constant (half types become float32). */
extern mr_code nn_read_tensor(nn_graph *g, pb_bytes message, nn_tensor *out, int32_t *declared,
							  pb_bytes *name, const char *what);

/* graph.c */
extern int	nn_find_value(nn_graph *g, pb_bytes name);	/* -1: unknown */
extern int	nn_add_value(nn_graph *g, pb_bytes name);	/* -1: no memory; name may be empty */
extern char *nn_copy_string(nn_graph *g, pb_bytes s);
extern const nn_attr *nn_find_attr(const nn_node *n, const char *name);
extern bool nn_is_output(const nn_graph *g, int value);
extern void nn_count_uses(nn_graph *g);	/* sets values[].uses, producer */

/* The name as it may stand in a message: printable ASCII, at most 60 bytes. */
extern const char *nn_printable(const char *name, char buf[64]);

/* class.c: give every input the shape (and value) of a class. */
extern mr_code nn_bind_class(nn_graph *g, const nn_class *c);

/* class.c: the unbound input that a value is computed from, -1: none of use. */
extern int	nn_class_need(nn_graph *g, int value);

/* infer.c: types, shapes and constants of all values for a batch of that many. */
extern mr_code nn_infer(nn_graph *g, int64_t batch);

/* compile.c: a model read and inferred, for passes of one's own; opt and st must
 * stay.  The heap is to be freed in any case. */
extern mr_code nn_graph_open(nn_graph *g, nn_heap *heap, const mr_env *env, const uint8_t *onnx, size_t len,
							 const nn_options *opt, mr_status *st);

/* answer.c: fills in summary->answer. */
extern mr_code nn_find_answer(nn_graph *g, nn_summary *summary);

/* fuse.c: fold batch norm, activations, residuals, pads; drop identities. */
extern mr_code nn_fuse(nn_graph *g);

/* fuse_softmax.c: a Softmax between two Transposes loses one of them. */
extern mr_code nn_fuse_softmax(nn_graph *g);

/* fuse_quant.c: quantised operators become float ones between stored values. */
extern mr_code nn_fuse_quant(nn_graph *g);

/* nn_fuse() without residuals, patterns and activations other than Relu and Clip:
 * every node is still one ONNX operator, or one with such an activation. */
extern mr_code nn_fuse_lightly(nn_graph *g);

/* compile.c: input or (from n_inputs on) output i as callers see it. */
extern void nn_describe_port(const nn_graph *g, int i, nn_tensor_info *info);

/* "Conv node "x" (opset 13): ..." */
extern mr_code nn_node_fail(nn_graph *g, const nn_node *n, mr_code code, const char *fmt,...) MR_PRINTF(4, 5);

#endif							/* MILLRACE_NN_GRAPH_H */
