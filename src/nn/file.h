/*
 * file.h
 *	  The compiled file: what nn_compile() writes and nn_run() reads in place.
 *
 *	header | heads of plans | plan, plan, ... | constants and packed weights
 *	plan: tensors | operands | steps | ports
 *
 * One plan for each class of shapes; what several need of the weights is there
 * once.  All offsets count from the start of the file, in bytes; everything is in
 * the byte order and the struct layout of the machine (header.layout tells).
 * nn_open() checks the header's and one plan's sha256, then every offset, count
 * and extent of that plan.  The weights' sha256 is in the header: nn_verify().
 */
#ifndef MILLRACE_NN_FILE_H
#define MILLRACE_NN_FILE_H

#include "nn/kernels_low.h"
#include "nn/ops.h"

#define NN_FILE_MAGIC UINT64_C(0x32304e4e4543524d)	/* "MRCENN02" */

#define NN_LABEL_SIZE 64
#define NN_MAX_OPERANDS 4096	/* of a step: a Concat of many */

/* Where a tensor lies. */
typedef enum nn_place
{
	nn_place_arena = 0,
	nn_place_const = 1,			/* in the file */
	nn_place_input = 2			/* the caller's, read in place */
} nn_place;

typedef struct nn_ftensor
{
	nn_shape	shape;			/* as the graph sees it */
	int64_t		elements;
	int32_t		dtype;
	int32_t		place;			/* nn_place */
	int32_t		blocked;		/* 0: plain, row-major */
	int32_t		c,
				h,
				w;				/* blocked: the view */
	nn_margin	margin;			/* border that readers need */
	uint64_t	offset;			/* of the first element, in arena or file; input: its index */
	uint64_t	row_pitch,		/* blocked: 32-bit words */
				blk_pitch;
	float		scale;			/* uint8 that stand for scale * (x - zero) */
	int32_t		zero;
} nn_ftensor;

typedef enum nn_step_kind
{
	nn_step_plain = 0,			/* op's run(); operands: inputs, outputs */
	nn_step_conv,				/* x, [res] -> y; data: pack; the same for the next two */
	nn_step_conv_planar,
	nn_step_depthwise,
	nn_step_maxpool,
	nn_step_avgpool,
	nn_step_global_avgpool,
	nn_step_global_maxpool,
	nn_step_binary,				/* a, b -> y */
	nn_step_scale_shift,		/* x -> y; data: scale, shift (16 * blocks floats each) or none */
	nn_step_gemm,				/* a -> y; data: pack */
	nn_step_to_blocked,
	nn_step_from_blocked,
	nn_step_copy_channels,		/* n channels of x -> channels [to, to + n) of y */
	nn_step_shortcut,			/* strided pixels of x -> y, channels shifted by to, rest 0 */
	nn_step_winograd,			/* as conv, by Winograd's method */
	nn_step_mbconv,				/* x, [res] -> y; data: packs of expand, depthwise, project */
	nn_step_resize,				/* x -> y, params as the plain operator's */
	nn_step_low_conv,			/* the same with uint8, bfloat16 or bfloat16 weights: s.low */
	nn_step_low_planar,
	nn_step_low_depthwise,
	nn_step_low_gemm,			/* op 1: input rounded by its own range */
	nn_step_low_maxpool,
	nn_step_low_avgpool,
	nn_step_low_global_avgpool,
	nn_step_low_binary,
	nn_step_low_convert,		/* blocked x -> y in other elements, or another scale */
	nn_step_low_from_plain,
	nn_step_low_to_plain,
	nn_step_low_rows,			/* plain -> plain */
	nn_step_low_copy,			/* strided pixels of x -> channels from `to` on of y; op 1: the rest is 0 */
	nn_step_low_winograd,		/* as low_conv, by Winograd's method */
	nn_step_low_resize,			/* nearest; the last with fewer bits */
	nn_step_layernorm,			/* x -> y; data: scale, [shift] */
	nn_step_attention,			/* q, k, v, masks -> y */
	nn_step_last = nn_step_attention
} nn_step_kind;

typedef struct nn_fstep
{
	int32_t		kind;			/* nn_step_kind */
	int32_t		op;				/* plain: index into nn_ops; binary: nn_binary */
	int32_t		n_in,
				n_out;
	uint32_t	operands;		/* first one: inputs, then outputs; tensor index or -1 */
	int32_t		residual;		/* 1: the last input is a residual */
	int32_t		low;			/* nn_low_kind of a step with fewer bits */
	float		scale;			/* ... that rounds its input to uint8 on the way */
	int32_t		zero;
	int32_t		folds;			/* 1: images of a batch are further rows */
	uint64_t	data;			/* pack, scale and shift */
	uint64_t	data_len;
	uint64_t	wanted;			/* bit per output that depends on this step */
	int64_t		macs;			/* multiply-adds, of one output line if it has lines */
	nn_act		act;
	char		label[NN_LABEL_SIZE];	/* the node it computes, for explain.c */
	union
	{
		nn_params	params;		/* plain */
		nn_conv		conv;
		nn_pool		pool;
		nn_mbconv	mbconv;
		struct
		{
			int32_t		m,
						k,
						n;
		}			gemm;
		struct
		{
			int32_t		rows,
						width;
			int32_t		rms;
			float		eps;
		}			norm;
		struct
		{
			nn_attend	shape;
			int32_t		batch;
			uint64_t	at[5];	/* first element of each input */
			uint64_t	batch_pitch[5];
		}			attention;
		struct
		{
			int32_t		n,
						from,
						to;		/* channels */
			int32_t		y0,
						x0,
						sy,
						sx;
		}			move;
	}			u;
} nn_fstep;

#define NN_MAX_GROUP 128

typedef struct nn_port
{
	nn_tensor_info info;
	int32_t		tensor;			/* outputs: where it is found after the run */
	int32_t		bound;			/* inputs: the plan is for one value only, */
	uint64_t	value;			/* which is there */
} nn_port;

/* The head of a plan. */
typedef struct nn_fplan
{
	uint64_t	at,				/* its bytes */
				len;
	uint64_t	workspace;		/* arena, then scratch, then operand tensors */
	uint64_t	arena;			/* of one image */
	uint64_t	scratch;
	uint32_t	group;			/* images that go through the steps together */
	uint32_t	reserved;
	uint32_t	n_tensors,
				n_operands,
				n_steps,
				n_inputs,
				n_outputs,
				max_operands;	/* of one plain step */
	uint64_t	tensors,		/* offsets */
				operands,
				steps,
				ports;
	uint8_t		sha[32];		/* of its bytes */
} nn_fplan;

typedef struct nn_file_header
{
	uint64_t	magic;
	uint32_t	version;		/* NN_COMPILER_VERSION */
	uint32_t	isa;
	uint32_t	layout;			/* of the structs above */
	uint32_t	ops;			/* nn_ops_fingerprint() */
	uint64_t	total_len;
	uint64_t	content;		/* where constants and weights begin */
	uint32_t	n_plans;
	uint32_t	reserved;
	uint8_t		content_sha[32];	/* of [content, total_len) */
	uint8_t		head_sha[32];	/* of this header, with these bytes zero, and the plans' heads */
} nn_file_header;

/* The plans' heads stand behind the header. */
#define NN_FILE_PLANS ((sizeof(nn_file_header) + 63) / 64 * 64)

/* Bytes of both, padding included. */
static inline uint64_t
nn_file_heads(uint32_t n_plans)
{
	return (NN_FILE_PLANS + n_plans * sizeof(nn_fplan) + 63) & ~UINT64_C(63);
}

static inline const nn_fplan *
nn_file_plans(const void *file)
{
	return (const nn_fplan *) (const void *) ((const uint8_t *) file + NN_FILE_PLANS);
}

#define NN_FILE_LAYOUT \
	((uint32_t) (sizeof(nn_ftensor) + 1021 * sizeof(nn_fstep) + 65537 * sizeof(nn_port) + \
				 16777259 * sizeof(nn_file_header) + 257 * sizeof(nn_fplan)))

/* emit.c: write all checksums; MR_CANCELED if asked to stop. */
extern mr_code nn_file_seal(uint8_t *file, const mr_env *env);

/* Elements of a tensor as kernels see them. */
static inline nn_elem
nn_ftensor_elem(const nn_ftensor *t)
{
	return t->dtype == nn_uint8 ? nn_elem_u8 : t->dtype == nn_bfloat16 ? nn_elem_bf16 : nn_elem_f32;
}

static inline nn_quant
nn_ftensor_quant(const nn_ftensor *t)
{
	nn_quant	q = {nn_ftensor_elem(t), t->scale, t->zero};

	return q;
}

/* A blocked tensor's view at base (its offset already added). */
static inline nn_view
nn_tensor_view(const nn_ftensor *t, uint8_t *p)
{
	nn_view		v;

	v.data = (float *) (void *) p;
	v.c = t->c;
	v.h = t->h;
	v.w = t->w;
	v.row_pitch = t->row_pitch;
	v.blk_pitch = t->blk_pitch;
	return v;
}

#endif							/* MILLRACE_NN_FILE_H */
