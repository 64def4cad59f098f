/*
 * quantize.h
 *	  float32 to int8: a network and sample inputs in, an ONNX QDQ model out.
 *
 *	nn_quantizer_open()		read the network, choose what becomes int8
 *	nn_quantizer_observe()	one sample: the ranges of all tensors in question
 *	nn_quantizer_build()	write the QDQ model and compile it
 *	nn_quantizer_compare()	one sample of the hold-out, by both networks
 *	nn_quantizer_next()		good enough?  Else one more layer stays float32: build again
 *
 * Weights become int8, one scale per output channel, symmetric; activations
 * uint8, one scale and zero point per tensor; biases int32.  What is compared is
 * the very file that will run.  No file, no thread, no callback: the caller
 * feeds samples and owns the loops.
 */
#ifndef MILLRACE_NN_QUANTIZE_H
#define MILLRACE_NN_QUANTIZE_H

#include "nn/nn.h"

typedef enum nn_quant_method
{
	nn_quant_minmax,			/* all that was seen */
	nn_quant_percentile,		/* all but the outermost of it */
	nn_quant_entropy			/* least loss of information (Kullback-Leibler) */
} nn_quant_method;

typedef struct nn_quant_options
{
	nn_quant_method method;
	double		percentile;		/* of the values to be covered, 50 to 100 */
	bool		keep_first,		/* layers that stay float32 */
				keep_last;
	int			n_keep;
	const char *const *keep;	/* ... by the names of their nodes */
	int			output;			/* index of the output that is compared */
	double		min_cosine;		/* agreement asked for */
	int			max_kept;		/* layers that may stay float32 to reach it */
} nn_quant_options;

/* minmax, percentile 99.99, cosine 0.99, 8 layers. */
extern const nn_quant_options nn_quant_defaults;

/* "minmax", "percentile", "entropy"; false if unknown. */
extern bool nn_quant_method_by_name(const char *name, nn_quant_method *method);

/* int8 against float32 on the hold-out. */
typedef struct nn_agreement
{
	int64_t		rows;
	int64_t		top1;			/* rows whose largest output is the same */
	double		cosine;			/* sum over rows */
	double		min_cosine;		/* of the worst row */
	double		max_error;		/* largest difference of a number */
	double		max_value;		/* largest number of the float32 network */
} nn_agreement;

typedef struct nn_quantizer nn_quantizer;

/* MR_UNSUPPORTED if the network has no layer that could be int8; MR_INVALID if
 * a name to keep is none of its layers.  Everything lives in env's memory. */
extern mr_code nn_quantizer_open(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
								 const nn_quant_options *options, nn_quantizer **q, mr_status *st);
extern void nn_quantizer_close(nn_quantizer *q);

/* The float32 network, for its inputs and outputs. */
extern const nn_model *nn_quantizer_model(const nn_quantizer *q);

/* inputs: as nn_run_typed() takes them, one image.  MR_INVALID if the network
 * yields NaN or infinity for it. */
extern mr_code nn_quantizer_observe(nn_quantizer *q, const void *const *inputs, mr_status *st);
extern mr_code nn_quantizer_build(nn_quantizer *q, mr_status *st);
extern mr_code nn_quantizer_compare(nn_quantizer *q, const void *const *inputs, mr_status *st);

/* *again: compare the hold-out once more after another build.  MR_INVALID if
 * the agreement asked for cannot be reached. */
extern mr_code nn_quantizer_next(nn_quantizer *q, bool *again, mr_status *st);

/* Of the last build: the ONNX bytes (the quantizer's), the agreement so far. */
extern const uint8_t *nn_quantizer_bytes(const nn_quantizer *q, size_t *len);
extern const nn_agreement *nn_quantizer_agreement(const nn_quantizer *q);

/* Layers that could be int8, in the network's order; which are kept float32. */
extern int	nn_quantizer_n_layers(const nn_quantizer *q);
extern const char *nn_quantizer_layer(const nn_quantizer *q, int i, bool *kept);

#endif							/* MILLRACE_NN_QUANTIZE_H */
