/*
 * quantize_impl.h
 *	  What the files of the quantizer share.
 */
#ifndef MILLRACE_NN_QUANTIZE_IMPL_H
#define MILLRACE_NN_QUANTIZE_IMPL_H

#include "nn/plan.h"
#include "nn/quantize_range.h"

#define NN_QUANT_PROBES 8		/* samples kept to order the layers by */

/* A node with constant weights that can be int8. */
typedef struct nn_quant_layer
{
	int			node;
	const char *name;
	bool		kept;			/* stays float32 */
	double		error;			/* 1 - cosine of the output when it alone is int8; -1: not measured */
} nn_quant_layer;

/* One sample: its inputs, and what the float32 network says. */
typedef struct nn_quant_probe
{
	const void *inputs[NN_MAX_PORTS];
	float	   *output;
} nn_quant_probe;

struct nn_quantizer
{
	const mr_env *env;
	nn_options	opt;
	nn_quant_options options;
	nn_heap		heap;
	nn_graph	g;				/* lightly fused: what is written */
	nn_planner	p;				/* its float32 plan */

	/* the float32 network, run with an observer */
	uint8_t    *file;
	nn_model	model;
	void	   *work;
	void	   *outputs[NN_MAX_PORTS];
	int		   *value_of;		/* by tensor of the plan */
	uint32_t   *last_step;		/* by value: where it is complete */

	/* what becomes int8 (quantize_graph.c) */
	int			n_layers;
	nn_quant_layer *layers;
	bool	   *node;			/* by node: computes on 8 bits */
	bool	   *value;			/* by value: is rounded to 8 bits */
	int		   *group;			/* by value: values of one scale, named by one of them */
	nn_range  **range;			/* by group, NULL: not watched */
	float	   *scale;			/* by group, once the ranges are known */
	int		   *zero;
	bool		ranged;

	/* the last build */
	uint8_t    *onnx;
	size_t		onnx_len;
	uint8_t    *file8;
	nn_model	model8;
	void	   *work8;
	float	   *output8;
	nn_agreement agreement;

	int			n_probes;
	nn_quant_probe probes[NN_QUANT_PROBES];
	bool		ordered;		/* layers[].error is measured */
};

/* quantize_graph.c: find the layers, and which values share a scale. */
extern mr_code nn_quant_layers(nn_quantizer *q);

/* Which nodes and values are 8 bits when the layers with kept set stay float32. */
extern void nn_quant_mark(nn_quantizer *q);

/* The group of a value. */
extern int	nn_quant_group(const nn_quantizer *q, int value);

/* quantize_write.c: the network as marked, as ONNX QDQ. */
extern mr_code nn_quant_write(nn_quantizer *q, uint8_t **onnx, size_t *len);

#endif							/* MILLRACE_NN_QUANTIZE_IMPL_H */
