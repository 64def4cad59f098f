/*
 * kernels.h
 *	  The arithmetic of the engine: what the planner may ask, for any
 *	  instruction set.
 *
 * Tensors are float32.  Inside a network they are "blocked": 16 channels of a
 * pixel lie together (64 bytes, 64-byte aligned), pixels of a line follow each
 * other, lines follow at row_pitch, and blocks of 16 channels at blk_pitch:
 *
 *		x[c][y][x] = data[(c / 16) * blk_pitch + y * row_pitch + x * 16 + c % 16]
 *
 * Channels beyond c in the last block are zero ("padding lanes"): every kernel
 * keeps that so.  Around the h x w interior a tensor has a border of zeros as
 * wide as its readers' pads: convolutions read it instead of testing for edges.
 * Producers write the interior only; nn_border() zeroes the rest.
 *
 * Every function is pure: no allocation, no state, no failure; arguments are
 * trusted (the planner checked shapes, nn_pack_check() the weights).  Results
 * are deterministic, equal for an image alone or in any batch and for any
 * slicing by rows; they differ in the last bits between instruction sets.
 * out must not overlap in or res, except where "in place" is said.  A tensor of
 * one image is one view; batches are loops of the caller.
 *
 * Long work is cut by the caller: [y0, y1) are output lines.  mac_rate in the
 * table tells about how many multiply-adds a millisecond does.
 */
#ifndef MILLRACE_NN_KERNELS_H
#define MILLRACE_NN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/env.h"
#include "nn/isa.h"

#define NN_LANES 16				/* channels of a block */
#define NN_ALIGN 64				/* bytes: data of views, packs, scratch */

static inline int
nn_blocks(int c)
{
	return (c + NN_LANES - 1) / NN_LANES;
}

/* A blocked tensor of one image, or a slice of one: whole blocks of channels
 * (data + n * blk_pitch), lines (data + y * row_pitch).  Pitches in floats,
 * multiples of 16; row_pitch >= 16 * (left + w + right). */
typedef struct nn_view
{
	float	   *data;			/* first interior pixel, 64-byte aligned */
	int			c,
				h,
				w;
	size_t		row_pitch,
				blk_pitch;
} nn_view;

/* What happens to a result before it is stored.  Stored in compiled files:
 * never renumber. */
typedef enum nn_act_kind
{
	nn_act_none = 0,
	nn_act_relu = 1,
	nn_act_clip = 2,			/* min(max(x, a), b); either may be infinite */
	nn_act_leaky = 3,			/* x < 0 ? a * x : x */
	nn_act_sigmoid = 4,
	nn_act_silu = 5,			/* x * sigmoid(x) */
	nn_act_tanh = 6,
	nn_act_hardsigmoid = 7,		/* min(max(a * x + b, 0), 1) */
	nn_act_hardswish = 8,		/* x * min(max(x / 6 + 1/2, 0), 1) */
	nn_act_gelu = 9,			/* x/2 (1 + erf(x / sqrt 2)) */
	nn_act_elu = 10,			/* x < 0 ? a * (exp(x) - 1) : x */
	nn_act_exp = 11,
	nn_act_gelu_tanh = 12,		/* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
	nn_act_gelu_quick = 13,		/* x * sigmoid(1.702 x) */
	nn_act_last = nn_act_gelu_quick
} nn_act_kind;

typedef struct nn_act
{
	nn_act_kind kind;
	float		a,
				b;
} nn_act;

/* Element type of packed weights; others than f32 are for later. */
typedef enum nn_weight_type
{
	nn_f32 = 0,
	nn_bf16 = 1,
	nn_s8 = 2
} nn_weight_type;

/* ---- packed weights: position-independent bytes, 64-byte aligned in the file ---- */

#define NN_PACK_MAGIC 0x4b504e4eu	/* "NNPK" */

typedef enum nn_pack_kind
{
	nn_pack_conv = 1,
	nn_pack_depthwise = 2,
	nn_pack_gemm = 3,
	nn_pack_winograd = 4
} nn_pack_kind;

/* First 64 bytes of each pack; then bias[16 * nn_blocks(cout)], then weights. */
typedef struct nn_pack
{
	uint32_t	magic;
	uint8_t		kind;			/* nn_pack_kind */
	uint8_t		dtype;			/* nn_weight_type */
	uint8_t		isa;			/* nn_isa it is laid out for */
	uint8_t		form;			/* nn_conv_form for convolutions */
	uint64_t	bytes;			/* of the whole pack */
	int32_t		cin,			/* gemm: k */
				cout;			/* gemm: n */
	int32_t		kh,
				kw,
				groups;
	int32_t		panel;			/* couts of a full panel */
	uint32_t	reserved[6];
} nn_pack;

/* ---- convolution ---- */

typedef enum nn_conv_form
{
	nn_conv_blocked = 0,		/* input is a view */
	nn_conv_planar = 1,			/* input is plain CHW: the stem, few channels */
	nn_conv_winograd2 = 2,		/* a view, by Winograd's F(2x2, 3x3) */
	nn_conv_winograd4 = 3		/* ... by F(4x4, 3x3) */
} nn_conv_form;

/* y[o][Y][X] = act(bias[o] + sum w[o][i][ky][kx] x[i][Y*sh - pt + ky*dh][X*sw - pl + kx*dw] + res[o][Y][X])
 * Pads below and to the right follow from the output's size.  groups: any
 * divisor of cin and cout (depthwise has its own kernel, far faster). */
typedef struct nn_conv
{
	int			cin,
				cout;			/* of all groups together */
	int			groups;			/* >= 1 */
	int			kh,
				kw,
				sh,
				sw,
				dh,
				dw,
				pt,
				pl;
	nn_conv_form form;
	nn_act		act;
	float		lo,				/* kernels_low.h, uint8: bounds of a value before res is */
				hi;				/* added; both 0: none */
} nn_conv;

/* w is OIHW (cout x cin/groups x kh x kw), bias cout floats or NULL.  Scale of a
 * folded batch norm is the caller's to multiply in.  nn_conv.act and pads do
 * not matter for packing.  dst: nn_*_pack_size() bytes, 64-byte aligned.  False:
 * interrupted, as of all that take an env. */
extern size_t nn_conv_pack_size(nn_isa isa, const nn_conv *cv);
extern bool nn_conv_pack(const mr_env *env, nn_isa isa, const nn_conv *cv, const float *w, const float *bias, void *dst);

/* Forms nn_conv_winograd2 and 4, for 3x3, stride 1, no groups: 16 / 4 or 36 / 16
 * multiplications an output instead of 9, 16 / 9 or four times the weights. */
extern bool nn_winograd_can(const nn_conv *cv);
extern size_t nn_winograd_pack_size(nn_isa isa, const nn_conv *cv);
extern bool nn_winograd_pack(const mr_env *env, nn_isa isa, const nn_conv *cv, const float *w, const float *bias, void *dst);

#define NN_MAX_DW_LINES 32		/* of taps; taller kernels are grouped convolutions */

/* Depthwise: cin = cout = groups; w is C x kh x kw; any stride and dilation.  The same
 * bytes for every isa (the head names the isa asked for). */
extern size_t nn_depthwise_pack_size(nn_isa isa, const nn_conv *cv);
extern void nn_depthwise_pack(nn_isa isa, const nn_conv *cv, const float *w, const float *bias, void *dst);

/* B of y = act(a B + bias): element (i, j), i < k, j < n, is b[i * rs + j * cs]
 * (row-major: rs = n, cs = 1; ONNX transB = 1: rs = 1, cs = k). */
extern size_t nn_gemm_pack_size(nn_isa isa, int k, int n);
extern bool nn_gemm_pack(const mr_env *env, nn_isa isa, int k, int n, const float *b, size_t rs, size_t cs, const float *bias, void *dst);

/* Are these len bytes a whole pack of this isa and shape?  For validating a
 * mapped file: afterwards kernels stay inside the pack.  k and n of a gemm are
 * given as cin and cout with kh = kw = groups = 1. */
extern bool nn_pack_check(const void *pack, size_t len, nn_isa isa, nn_pack_kind kind, const nn_conv *cv);

/* Border of zeros that a convolution reads around an in_h x in_w view to yield
 * out_h x out_w: lines above and below, pixels left and right. */
typedef struct nn_margin
{
	int			top,
				left,
				bottom,
				right;
} nn_margin;
extern nn_margin nn_conv_margin(const nn_conv *cv, int in_h, int in_w, int out_h, int out_w);

/* Zero the border of a view: m lines and pixels around its interior (corners
 * included), in every block. */
extern void nn_border(const nn_view *v, nn_margin m);

/* ---- blocks of mobile networks ---- */

/* Expand 1x1 -> depthwise -> project 1x1 (+ residual) as one computation.  The
 * 1x1 convolutions have stride 1, no pads and no groups; either may be missing
 * (cout 0), not both. */
typedef struct nn_mbconv
{
	nn_conv		expand,
				dw,
				project;
} nn_mbconv;

/* ---- pools ---- */

typedef struct nn_pool
{
	int			kh,
				kw,
				sh,
				sw,
				dh,
				dw,
				pt,
				pl;
	int			pb,				/* pads below and right as the node states them: */
				pr;				/* they count in count_include_pad */
	bool		count_pad;		/* average: divide by cells incl. stated pads */
} nn_pool;

typedef enum nn_binary
{
	nn_add = 0,
	nn_sub = 1,
	nn_mul = 2,
	nn_div = 3,
	nn_min = 4,
	nn_max = 5
} nn_binary;

/* ---- attention ---- */

/* y[i][e] = sum over j of softmax over j (scale q[i] . k[j] + masks[i][j]) v[j][e], for
 * each head.  Rows lie at *_row floats, heads at *_head; the elements of a row
 * follow each other.  Masks are added: NULL, or rows of keys floats. */
typedef struct nn_attend
{
	int			heads,
				queries,
				keys,
				dim,			/* of queries and keys */
				vdim;			/* of values and results */
	bool		safe;			/* no key allowed (all -inf, or NaN): 0 instead of NaN */
	float		scale;
	size_t		q_row,
				q_head,
				k_row,
				k_head,
				v_row,
				v_head,
				y_row,
				y_head,
				m_row[2],		/* 0: the same for all rows */
				m_head[2];
} nn_attend;

/* ---- the table ---- */

typedef struct nn_kernels
{
	nn_isa		isa;
	const char *name;
	double		mac_rate;		/* multiply-adds a millisecond, cautious */

	/* Convolution of output lines [y0, y1).  in: a view whose border covers
	 * nn_conv_margin().  res: NULL or a view of out's shape.  scratch:
	 * conv_scratch() bytes, 64-byte aligned (0: NULL will do).  form planar:
	 * use conv_planar: in is plain CHW floats of cin x in_h x in_w, no border,
	 * any alignment. */
	size_t		(*conv_scratch) (const nn_conv *cv, int in_h, int in_w, int out_h, int out_w);
	void		(*conv) (const nn_conv *cv, const void *pack, const nn_view *in, const nn_view *res,
						 const nn_view *out, int y0, int y1, void *scratch);
	void		(*conv_planar) (const nn_conv *cv, const void *pack, const float *in, int in_h, int in_w,
								const nn_view *res, const nn_view *out, int y0, int y1, void *scratch);

	/* The same by Winograd's method, where nn_winograd_can(); y0 a multiple of 4 or 2,
	 * y1 too or the last line's end. */
	size_t		(*winograd_scratch) (const nn_conv *cv, int out_h, int out_w);
	void		(*winograd) (const nn_conv *cv, const void *pack, const nn_view *in, const nn_view *res,
							 const nn_view *out, int y0, int y1, void *scratch);

	/* Depthwise, with optional residual; in's border covers nn_conv_margin(). */
	void		(*depthwise) (const nn_conv *cv, const void *pack, const nn_view *in, const nn_view *res,
							  const nn_view *out, int y0, int y1);

	/* A block; packs: of expand, depthwise, project.  Without expand in's border
	 * covers the depthwise nn_conv_margin(), else it is not read; without project
	 * there is no residual.  scratch: mbconv_scratch() bytes.  Lines [y0, y1) at
	 * once cost less than in parts: a part expands what its first lines read. */
	size_t		(*mbconv_scratch) (const nn_mbconv *mb, int in_h, int in_w, int out_h, int out_w);
	void		(*mbconv) (const nn_mbconv *mb, const void *const *packs, const nn_view *in, const nn_view *res,
						   const nn_view *out, int y0, int y1, void *scratch);

	/* Pools.  The border is not read: max sees only the interior. */
	void		(*maxpool) (const nn_pool *p, const nn_view *in, const nn_view *out, int y0, int y1);
	void		(*avgpool) (const nn_pool *p, const nn_view *in, const nn_view *out, int y0, int y1);

	/* Mean (or max) of each channel: out is 16 * nn_blocks(c) floats, padding
	 * lanes 0; as a view of h = w = 1 and blk_pitch 16 it is the same memory. */
	void		(*global_avgpool) (const nn_view *in, float *out);
	void		(*global_maxpool) (const nn_view *in, float *out);

	/* out = act(a op b), lines [y0, y1).  b of a's h x w, or 1 x 1: one value a
	 * channel.  out may be a or b (in place). */
	void		(*binary) (nn_binary op, const nn_view *a, const nn_view *b, const nn_view *out, nn_act act,
						   int y0, int y1);

	/* out = act(in * scale[c] + shift[c]), in place allowed; scale and shift are c
	 * floats each (no padding needed); shift NULL = 0, scale NULL = 1. */
	void		(*scale_shift) (const nn_view *in, const float *scale, const float *shift, const nn_view *out,
								nn_act act, int y0, int y1);

	/* y = act(a B + bias + res): a is m rows of k floats at lda, y m rows of n at
	 * ldy, res NULL or m rows of n at ldres; any alignment.  scratch:
	 * gemm_scratch() bytes, 64-byte aligned. */
	size_t		(*gemm_scratch) (int m, int k, int n);
	void		(*gemm) (const void *pack, int m, const float *a, size_t lda, const float *res, size_t ldres,
						 float *y, size_t ldy, nn_act act, void *scratch);

	/* Rows [i0, i1) of head h; a head's calls go through its rows in order with one
	 * scratch of attend_scratch() bytes, 64-byte aligned: the first packs its keys. */
	size_t		(*attend_scratch) (const nn_attend *at);
	void		(*attend) (const nn_attend *at, int h, int i0, int i1, const float *q, const float *k, const float *v,
						   const float *const mask[2], float *y, void *scratch);

	/* y = (x - mean) / sqrt(variance + eps) * scale + shift by rows of n floats, in
	 * place allowed; shift NULL: 0.  rms: no mean is taken. */
	void		(*layernorm) (const float *x, const float *scale, const float *shift, float *y, size_t rows, size_t n,
							  float eps, bool rms);

	/* Plain arrays, any alignment, in place allowed.  softmax: rows of n floats,
	 * log: log-softmax instead. */
	void		(*softmax) (const float *x, float *y, size_t rows, size_t n, bool log);
	void		(*activate) (const float *x, float *y, size_t n, nn_act act);
	void		(*binary_flat) (nn_binary op, const float *a, const float *b, float *y, size_t n, nn_act act);

	/* Plain CHW <-> blocked, lines [y0, y1).  to_blocked zeroes padding lanes. */
	void		(*to_blocked) (const float *chw, const nn_view *out, int y0, int y1);
	void		(*from_blocked) (const nn_view *in, float *chw, int y0, int y1);

	/* Channels [from, from + n) of in become channels [to, to + n) of out, taking
	 * each sy-th line and sx-th pixel (concat, split, shuffle by runs, strided
	 * slices); other lanes of out stay.  The one that writes out's last channel
	 * zeroes the padding lanes. */
	void		(*copy_channels) (const nn_view *in, int from, int n, int sy, int sx,
								  const nn_view *out, int to, int y0, int y1);
} nn_kernels;

/* The table of an instruction set (auto: the best; above avx512: that of
 * avx512); NULL when this machine or build lacks it. */
extern const nn_kernels *nn_kernels_for(nn_isa isa);

/* The tables themselves; use nn_kernels_for(). */
extern const nn_kernels nn_kernels_portable;
#if defined(__x86_64__)
extern const nn_kernels nn_kernels_avx2;
extern const nn_kernels nn_kernels_avx512;
#endif

#endif							/* MILLRACE_NN_KERNELS_H */
