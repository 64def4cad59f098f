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
#define NN_COMPILER_VERSION 18

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

/* Bytes of an element; 0: not a fixed-size type. */
extern size_t nn_dtype_size(int dtype);

typedef struct nn_shape
{
	int32_t		rank;
	int64_t		dims[NN_MAX_RANK];
} nn_shape;

/*
 * A shape class: what the open dimensions of a model's inputs are.  A plan is
 * made for it.  What a class leaves open stays as declared: the first dimension
 * is the batch, which nn_run() loops over; any other becomes NN_OPEN_DIM, or
 * NN_OPEN_IMAGE in an input of four dimensions.  Dimensions of one name agree.
 */
typedef struct nn_class
{
	int			n_inputs;		/* in the model's order; the rest are as declared */
	const nn_shape *shapes;		/* rank -1: as declared, and so is a dimension of -1 */
	const void *const *values;	/* NULL, or per input NULL or its elements: a value that
								 * shapes depend on and that every run must repeat */
	const char *const *names;	/* NULL, or whose shapes these are instead of the order */
	bool		open_only;		/* a shape counts where a dimension is open, and is
								 * no claim about others */
} nn_class;

#define NN_OPEN_DIM 16
#define NN_OPEN_IMAGE 224
#define NN_MAX_BOUND 4096		/* elements of a value in a class */
#define NN_MAX_CLASSES 64		/* of one compiled file */

typedef struct nn_options
{
	nn_isa		isa;			/* nn_isa_auto: the best of this CPU */
	nn_dtype	precision;		/* nn_bfloat16: weights in bfloat16, and arithmetic where
								 * the CPU has it; else float32.  Quantised graphs
								 * are int8 in any case. */
	size_t		max_model_bytes;	/* ONNX file */
	size_t		max_nodes;		/* of the graph */
	size_t		max_memory;		/* workspace of a run plus compiled file, bytes */
	int			n_classes;		/* 0: one, all as declared */
	const nn_class *classes;
	int		   *need;			/* if not NULL, set: the input whose value a shape rule
								 * asked for, -1 if none */
} nn_options;

/* 1 GB, 100,000 nodes, 1 GB, best instruction set. */
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
	int64_t		declared[NN_MAX_RANK];	/* inputs: as in the model, -1: open */
	uint8_t		dynamic[NN_MAX_RANK];	/* outputs: not 0: depends on data, dims has the most */
} nn_tensor_info;

/* What a model over rows of numbers answers. */
typedef enum nn_task
{
	nn_task_none,				/* cannot be told */
	nn_task_classify,			/* a score for each class, or one for the second of two */
	nn_task_regress,			/* one number */
	nn_task_cluster				/* a distance from each centre */
} nn_task;

typedef struct nn_answer
{
	nn_task		task;
	int			output;			/* that has it */
	int			n_labels;		/* of classes, in the order of the scores */
	char	  **labels;			/* UTF-8; integers as decimal numbers */
} nn_answer;

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
	nn_answer	answer;			/* as scikit-learn's and similar exports show it */
} nn_summary;

/* An opened compiled file.  Points into it; needs no release. */
typedef struct nn_model
{
	const struct nn_file_header *header;
	const struct nn_fplan *plan;	/* of the class at hand */
	const uint8_t *bytes;
	const struct nn_kernels *kernels;
	const struct nn_low_kernels *low[3];	/* by nn_low_kind; NULL: none here */
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
 * Names of classes in the file's metadata (Ultralytics' "names"): *n strings one
 * behind the other, each with its NUL, in *text (from env; NULL if there are
 * none).  MR_NOMEM only.
 */
extern mr_code nn_read_names(const mr_env *env, const uint8_t *onnx, size_t len, char **text, int *n, mr_status *st);

/*
 * ONNX bytes to a compiled file (from env, to be released with mr_free).
 * Deterministic: the same bytes and instruction set give the same file.
 */
extern mr_code nn_compile(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
						  uint8_t **file, size_t *file_len, mr_status *st);

/*
 * The same for exactly these inputs (shapes: no -1; values: one pointer each).
 * Values are bound where shape rules ask for them, and only those.
 */
extern mr_code nn_compile_for(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
							  int n_inputs, const nn_shape *shapes, const void *const *values,
							  uint8_t **file, size_t *file_len, mr_status *st);

/*
 * Validate a compiled file and open it; file must be 64-byte aligned (a map
 * is) and outlive the model.  MR_CORRUPT if it is damaged, of another version
 * or for an instruction set that this CPU lacks: rebuild it then.  The cost is
 * that of the plan (some 100 steps), not of the weights: the content's sha256
 * is in the header and nn_verify() checks it, once per file.
 */
extern mr_code nn_open(const void *file, size_t len, nn_model *model, mr_status *st);

/* nn_open() opens the first class; these the i-th, and the one that fits inputs
 * of these shapes (rank or dimension -1: any) and, where values are given, is bound to
 * them.  MR_INVALID: there is none. */
extern mr_code nn_open_plan(const void *file, size_t len, int i, nn_model *model, mr_status *st);
extern mr_code nn_open_class(const void *file, size_t len, int n_inputs, const nn_shape *shapes,
							 const void *const *values, nn_model *model, mr_status *st);
extern int	nn_n_plans(const nn_model *model);

extern mr_code nn_verify(const void *file, size_t len, mr_status *st);

/* Bytes of workspace that a run needs, 64-byte aligned.  Any batch: same size. */
extern size_t nn_workspace(const nn_model *model);

/* Is the plan for one value of that input only?  Other values: MR_INVALID. */
extern bool nn_input_bound(const nn_model *model, int i);

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

/* The same, and shapes[image * outputs + i] tells what each output became, where
 * sizes depend on data; its elements then lie closed up at the beginning of the
 * image's room.  With shapes NULL the rest is filled with zeros instead. */
extern mr_code nn_run_shaped(const nn_model *model, const mr_env *env, void *workspace, int batch,
							 const void *const *inputs, void *const *outputs, nn_shape *shapes, mr_status *st);

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

/* An operator that models may use; opsets are those of its domain, inclusive. */
typedef struct nn_operator_info
{
	const char *domain;			/* "": ai.onnx */
	const char *name;
	int			since,
				until;
	const char *kernel;			/* "vector", "plain", "none": only memory is renamed */
} nn_operator_info;

extern int	nn_n_operators(void);

/* False: line i of the table is the planner's own, not for models. */
extern bool nn_describe_operator(int i, nn_operator_info *info);

#endif							/* MILLRACE_NN_H */
