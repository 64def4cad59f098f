/*
 * kernels_low.h
 *	  Arithmetic with fewer bits: int8 and bfloat16, beside the float32 of
 *	  kernels.h, whose rules (pure, no failure, lines [y0, y1)) hold here too.
 *
 * Three kinds of kernels:
 *
 *		nn_low_u8	activations uint8, weights int8, sums int32: exact, so all instruction sets give the
 *					same bits (but for activations with exp: at most one quantum apart)
 *		nn_low_bf16	activations and weights bfloat16, sums float32; only where the CPU has it
 *		nn_low_w16	weights bfloat16, all else float32: half the memory of weights, any CPU
 *
 * A uint8 tensor stands for scale * (x - zero).  Blocked tensors have the same
 * lines of 64 bytes as in float32, so the same geometry in 32-bit words: a pixel
 * of a block holds 16 words, which are 16 float32, 32 bfloat16 or 64 uint8
 * channels; a view's pitches count words.  Its border holds the tensor's zero
 * point (nn_low_border()).  Lanes beyond c: zero in bfloat16, anything in uint8.
 */
#ifndef MILLRACE_NN_KERNELS_LOW_H
#define MILLRACE_NN_KERNELS_LOW_H

#include "nn/kernels.h"

typedef enum nn_low_kind
{
	nn_low_u8 = 0,
	nn_low_bf16 = 1,
	nn_low_w16 = 2
} nn_low_kind;

/* Element type of activations. */
typedef enum nn_elem
{
	nn_elem_f32 = 0,
	nn_elem_bf16 = 1,
	nn_elem_u8 = 2
} nn_elem;

/* Channels of a block (one line of 64 bytes a pixel); bytes of an element. */
static inline int
nn_elem_lanes(nn_elem e)
{
	return NN_LANES << e;
}

static inline int
nn_elem_bytes(nn_elem e)
{
	return 4 >> e;
}

static inline int
nn_elem_blocks(nn_elem e, int c)
{
	return (c + nn_elem_lanes(e) - 1) / nn_elem_lanes(e);
}

/* How numbers are stored.  scale > 0 and 0 <= zero <= 255 matter for uint8 only. */
typedef struct nn_quant
{
	nn_elem		elem;
	float		scale;
	int			zero;
} nn_quant;

/* A blocked tensor: v.data points to words, v.c counts channels, pitches count words. */
typedef struct nn_low_view
{
	nn_view		v;
	nn_quant	q;
} nn_low_view;

/* Rows of a matrix: ld elements apart, any alignment.  Also a plain CHW tensor
 * (ld unused). */
typedef struct nn_low_rows
{
	void	   *data;
	size_t		ld;
	nn_quant	q;
} nn_low_rows;

/* ---- packed weights ---- */

/* Weights to pack: OIHW for convolutions, C x kh x kw for depthwise; for products
 * see nn_low_gemm_pack().  int8 weights have zero point 0: a caller with another
 * one subtracts it, if the results fit. */
typedef struct nn_low_weights
{
	const float *f;				/* bf16, w16 */
	const int8_t *q;			/* u8 */
	const float *scale;			/* u8: one a cout */
	const int32_t *bias_q;		/* u8: NULL, or in units of (input's scale) * scale[o] */
	const float *bias;			/* NULL or added as float32; u8 may have both */
} nn_low_weights;

/* As nn_conv_pack() and its companions; bytes depend on the level nn_low_isa(). */
extern size_t nn_low_conv_pack_size(nn_isa isa, nn_low_kind kind, const nn_conv *cv);
extern bool nn_low_conv_pack(const mr_env *env, nn_isa isa, nn_low_kind kind, const nn_conv *cv, const nn_low_weights *w, void *dst);

/* u8 and bf16 only (w16: depthwise weights stay float32). */
extern size_t nn_low_depthwise_pack_size(nn_isa isa, nn_low_kind kind, const nn_conv *cv);
extern void nn_low_depthwise_pack(nn_isa isa, nn_low_kind kind, const nn_conv *cv, const nn_low_weights *w,
								  void *dst);

/* bf16 and w16: forms nn_conv_winograd2 and 4, as nn_winograd_pack(). */
extern size_t nn_low_winograd_pack_size(nn_isa isa, nn_low_kind kind, const nn_conv *cv);
extern bool nn_low_winograd_pack(const mr_env *env, nn_isa isa, nn_low_kind kind, const nn_conv *cv, const nn_low_weights *w, void *dst);

/* Element (i, j), i < k, j < n, is w->q or w->f [i * rs + j * cs]. */
extern size_t nn_low_gemm_pack_size(nn_isa isa, nn_low_kind kind, int k, int n);
extern bool nn_low_gemm_pack(const mr_env *env, nn_isa isa, nn_low_kind kind, int k, int n, const nn_low_weights *w, size_t rs,
							 size_t cs, void *dst);

extern bool nn_low_pack_check(const void *pack, size_t len, nn_isa isa, nn_low_kind kind, nn_pack_kind what,
							  const nn_conv *cv);

/* ---- the table ---- */

typedef struct nn_low_kernels
{
	nn_isa		isa;			/* a level nn_low_isa() gives */
	nn_low_kind kind;
	nn_elem		elem;			/* of in (unless said) and of scratch; "native" below */
	const char *name;
	double		mac_rate;		/* multiply-adds a millisecond, cautious */

	/* y = act(conv(x) + bias + res).  in: native.  res: NULL, native or float32.
	 * out: native or float32 (native and res native or NULL, act a clipping: all
	 * in the tile, else a second pass in L1).  form planar: conv_planar, whose
	 * input is plain CHW, native or float32 (then converted with in->q.scale and
	 * zero on the way: q.elem says what data is), cin <= 16.  scratch:
	 * conv_scratch() bytes, 64-byte aligned. */
	size_t		(*conv_scratch) (const nn_conv *cv, int in_h, int in_w, int out_h, int out_w);
	void		(*conv) (const nn_conv *cv, const void *pack, const nn_low_view *in, const nn_low_view *res,
						 const nn_low_view *out, int y0, int y1, void *scratch);
	void		(*conv_planar) (const nn_conv *cv, const void *pack, const nn_low_rows *in, int in_h, int in_w,
								const nn_low_view *res, const nn_low_view *out, int y0, int y1, void *scratch);

	/* y = act(a B + bias + res), m rows.  a native or float32 (converted on the
	 * way with a->q: dynamic quantisation), y and res native or float32, res may
	 * be NULL. */
	size_t		(*gemm_scratch) (int m, int k, int n);
	void		(*gemm) (const void *pack, int m, const nn_low_rows *a, const nn_low_rows *res,
						 const nn_low_rows *y, nn_act act, void *scratch);

	/* As nn_kernels.winograd: in, res and out native.  What is rounded are the transformed weights,
	 * in bf16 the transformed inputs too.  NULL: no such thing. */
	size_t		(*winograd_scratch) (const nn_conv *cv, int out_h, int out_w);
	void		(*winograd) (const nn_conv *cv, const void *pack, const nn_low_view *in, const nn_low_view *res,
							 const nn_low_view *out, int y0, int y1, void *scratch);

	/* All below: NULL in w16 tables, whose activations are float32.  Views are
	 * native or float32 alike, each with its own scale and zero point. */

	void		(*depthwise) (const nn_conv *cv, const void *pack, const nn_low_view *in, const nn_low_view *res,
							  const nn_low_view *out, int y0, int y1);
	void		(*maxpool) (const nn_pool *p, const nn_low_view *in, const nn_low_view *out, int y0, int y1);
	void		(*avgpool) (const nn_pool *p, const nn_low_view *in, const nn_low_view *out, int y0, int y1);
	void		(*global_avgpool) (const nn_low_view *in, const nn_low_view *out);	/* out 1 x 1 */

	/* out = act(a op b); b of a's h x w, or 1 x 1: one value a channel.  In place
	 * allowed where elements are of one size. */
	void		(*binary) (nn_binary op, const nn_low_view *a, const nn_low_view *b, const nn_low_view *out,
						   nn_act act, int y0, int y1);

	/* out = act(in): other elements, another scale, an activation of its own. */
	void		(*convert) (const nn_low_view *in, const nn_low_view *out, nn_act act, int y0, int y1);

	/* m rows of n elements, likewise; uint8 rounds x / scale half to even. */
	void		(*convert_rows) (const nn_low_rows *in, const nn_low_rows *out, nn_act act, int m, int n);

	/* Plain CHW (native or float32) <-> blocked native, converting if need be. */
	void		(*from_plain) (const nn_low_rows *chw, const nn_low_view *out, int y0, int y1);
	void		(*to_plain) (const nn_low_view *in, const nn_low_rows *chw, int y0, int y1);

	/* As in nn_kernels; both native; another scale of out is converted to.  The
	 * caller zeroes bfloat16 lanes beyond out's channels with the call that
	 * writes the last one, as there. */
	void		(*copy_channels) (const nn_low_view *in, int from, int n, int sy, int sx,
								  const nn_low_view *out, int to, int y0, int y1);
} nn_low_kernels;

/* The level whose kernels of a kind serve isa (auto: the best here); nn_isa_auto
 * if there are none (bf16 below avx512_bf16). */
extern nn_isa nn_low_isa(nn_isa isa, nn_low_kind kind);

/* The table of that level; NULL if there is none or this machine lacks it. */
extern const nn_low_kernels *nn_low_for(nn_isa isa, nn_low_kind kind);

/* Fill a view's border with its zero point: m lines and pixels around the
 * interior, in every block. */
extern void nn_low_border(const nn_low_view *v, nn_margin m);

/* Quantisation of x[n] over its range and 0, as ONNX's DynamicQuantizeLinear. */
extern nn_quant nn_low_dynamic(const float *x, size_t n);

/* uint8 to uint8: table[x] = out's quantum of act(in's value of x). */
extern void nn_low_table(nn_quant in, nn_act act, nn_quant out, uint8_t table[256]);
extern void nn_low_map(const uint8_t table[256], const nn_low_view *in, const nn_low_view *out, int y0, int y1);

/* May it be the activation of nn_low_kernels.winograd? */
static inline bool
nn_low_winograd_does(nn_low_kind kind, nn_act act)
{
	return kind == nn_low_w16 || act.kind == nn_act_none || act.kind == nn_act_relu || act.kind == nn_act_clip || act.kind == nn_act_silu;
}

static inline uint16_t
nn_to_bf16(float x)
{
	union
	{
		float		f;
		uint32_t	u;
	}			v = {x};

	if (x != x)
		return (uint16_t) (v.u >> 16 | 0x40);
	return (uint16_t) ((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
}

static inline float
nn_from_bf16(uint16_t x)
{
	union
	{
		uint32_t	u;
		float		f;
	}			v = {(uint32_t) x << 16};

	return v.f;
}

#endif							/* MILLRACE_NN_KERNELS_LOW_H */
