/*
 * nn.h
 *	  The inference engine: ONNX bytes in, a compiled file, runs of it.
 *
 *	nn_check()		what a model is: inputs, outputs, operators; every import error
 *	nn_compile()	parse, check, fold, fuse, plan and pack into one byte string,
 *					position independent, for one instruction set
 *	nn_open()		validate such bytes (mapped read-only, say) and point into them
 *	nn_run()		one inference per image of a batch, in the caller's workspace
 *
 * Everything is pure: memory comes from the mr_env or from the caller, no file,
 * thread or global state is touched.  Design and file format: README.md.
 */
#ifndef MILLRACE_NN_H
#define MILLRACE_NN_H

#include <stddef.h>
#include <stdint.h>

#include "core/env.h"
#include "core/status.h"
#include "nn/isa.h"

/* Part of a compiled file's name: raised whenever its bytes may differ. */
#define NN_COMPILER_VERSION 5

#define NN_MAX_RANK 8
#define NN_NAME_SIZE 256		/* names of inputs and outputs, with the NUL */
#define NN_MAX_PORTS 64			/* inputs, and outputs, of a model */

/* Element types, by ONNX TensorProto.DataType. */
typedef enum nn_dtype
{
	nn_none = 0,
	nn_float32 = 1,
	nn_uint8 = 2,
	nn_int8 = 3,
	nn_uint16 = 4,
	nn_int16 = 5,
	nn_int32 = 6,
	nn_int64 = 7,
	nn_string = 8,
	nn_bool = 9,
	nn_float16 = 10,
	nn_float64 = 11,
	nn_uint32 = 12,
	nn_uint64 = 13,
	nn_bfloat16 = 16
} nn_dtype;

/* "float32", "int64", ... */
extern const char *nn_dtype_name(nn_dtype dtype);

typedef struct nn_options
{
	nn_isa		isa;			/* nn_isa_auto: the best of this CPU */
	size_t		max_model_bytes;	/* ONNX file */
	size_t		max_nodes;		/* of the graph */
	size_t		max_memory;		/* workspace of a run plus compiled file, bytes */
} nn_options;

/* 256 MB, 100,000 nodes, 1 GB, best instruction set. */
extern const nn_options nn_default_options;

/* An input or output.  Lives inside the compiled file: fixed size, no pointers. */
typedef struct nn_tensor_info
{
	char		name[NN_NAME_SIZE];
	int32_t		rank;
	int32_t		dtype;			/* nn_dtype as the caller sees it: a float16 graph
								 * takes and yields float32 */
	int64_t		dims[NN_MAX_RANK];	/* dims[0] = -1: the batch */
	int64_t		elements;		/* of one image (batch 1) */
} nn_tensor_info;

/* What nn_check() found; nn_summary_free() releases it. */
typedef struct nn_summary
{
	int			n_inputs;
	int			n_outputs;
	nn_tensor_info *inputs;
	nn_tensor_info *outputs;
	int			opset;			/* of the default domain */
	int64_t		ir_version;
	int64_t		n_parameters;	/* elements of all float weights */
	int			n_nodes;
	int			n_operators;	/* distinct ones, in order of first use */
	const char **operators;
	char	   *producer;		/* "pytorch 2.1.0", may be empty */
} nn_summary;

/* An opened compiled file.  Points into it; needs no release. */
typedef struct nn_model
{
	const struct nn_file_header *header;
	const uint8_t *bytes;
	const struct nn_kernels *kernels;
} nn_model;

/*
 * Everything that import checks.  MR_INVALID for a malformed or inconsistent
 * file, MR_UNSUPPORTED for operators, types or features the engine lacks,
 * MR_LIMIT past opt; the message names node, operator and opset.
 */
extern mr_code nn_check(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
						nn_summary *out, mr_status *st);
extern void nn_summary_free(const mr_env *env, nn_summary *summary);

/*
 * ONNX bytes to a compiled file (from env, to be released with mr_free).
 * Deterministic: the same bytes and instruction set give the same file.
 */
extern mr_code nn_compile(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
						  uint8_t **file, size_t *file_len, mr_status *st);

/*
 * Validate a compiled file and open it; file must be 64-byte aligned (a map
 * is) and outlive the model.  MR_CORRUPT if it is damaged, of another version
 * or for an instruction set that this CPU lacks: rebuild it then.  The cost is
 * that of the plan (some 100 steps), not of the weights: the content's sha256
 * is in the header and nn_verify() checks it, once per file.
 */
extern mr_code nn_open(const void *file, size_t len, nn_model *model, mr_status *st);
extern mr_code nn_verify(const void *file, size_t len, mr_status *st);

/* Bytes of workspace that a run needs, 64-byte aligned.  Any batch: same size. */
extern size_t nn_workspace(const nn_model *model);

extern int	nn_n_inputs(const nn_model *model);
extern int	nn_n_outputs(const nn_model *model);
extern const nn_tensor_info *nn_input(const nn_model *model, int i);
extern const nn_tensor_info *nn_output(const nn_model *model, int i);

/* Index of the output of that name, -1 if there is none; likewise inputs. */
extern int	nn_find_output(const nn_model *model, const char *name);
extern int	nn_find_input(const nn_model *model, const char *name);

extern nn_isa nn_model_isa(const nn_model *model);

/*
 * Run batch images: inputs[i] holds batch x elements floats, image after image,
 * so does outputs[i] (NULL: not wanted).  Every image is computed on its own, so
 * its result is bit-equal whatever the batch.  Denormals are flushed during the
 * run; the caller's MXCSR is restored.  Interrupts are asked for at least each
 * 10 ms: MR_CANCELED.  MR_UNSUPPORTED if an input or wanted output is not
 * float32: use nn_run_typed().
 */
extern mr_code nn_run(const nn_model *model, const mr_env *env, void *workspace, int batch,
					  const float *const *inputs, float *const *outputs, mr_status *st);

/* The same with each input and output in its own nn_tensor_info.dtype. */
extern mr_code nn_run_typed(const nn_model *model, const mr_env *env, void *workspace, int batch,
							const void *const *inputs, void *const *outputs, mr_status *st);

/* The same; adds the milliseconds of each step to ms[0 .. nn_n_steps() - 1]. */
extern mr_code nn_run_timed(const nn_model *model, const mr_env *env, void *workspace, int batch,
							const void *const *inputs, void *const *outputs, double *ms, mr_status *st);

/* ---- explain.c: what a plan does ---- */

/* A step of the plan.  Text points into the compiled file or the program. */
typedef struct nn_step_info
{
	const char *kernel;			/* "conv", "gemm"; a plain step: its operator */
	const char *label;			/* the node */
	const char *layout;			/* of the result: "plain", "blocked" */
	const char *dtype;			/* of the result */
	bool		plain;			/* no special kernel */
	char		detail[96];		/* "3x3 stride 2, relu, + residual" */
	int32_t		rank;			/* the result's shape */
	int64_t		dims[NN_MAX_RANK];
	int64_t		weight_bytes;	/* read from the file */
	int64_t		data_bytes;		/* read and written in the arena, inputs, constants */
	int64_t		flops;			/* of one image */
} nn_step_info;

extern int	nn_n_steps(const nn_model *model);
extern void nn_describe_step(const nn_model *model, int step, nn_step_info *info);

#endif							/* MILLRACE_NN_H */
