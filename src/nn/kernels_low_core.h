/*
 * kernels_low_core.h
 *	  Inside the kernels of few bits: the tile interface between the shared loops
 *	  (kernels_low_drive.c) and an instruction set, and the geometry of packs
 *	  (pack_low.c).
 *
 * The computation is that of kernels_core.h with words for floats: a word of
 * activations holds 1 float32, 2 bfloat16 or 4 uint8 consecutive channels, and a
 * step is an offset and a count of consecutive words.  Weights are one stream,
 *
 *		panel (NB blocks of 16 couts) > block of 16 words > tap row > tap column > word > NB * 16 couts
 *
 * where a cout has the 1, 2 or 4 weights of the word's channels side by side:
 * what one dot-product instruction takes.  A pack is
 *
 *		head | bias | for uint8 also: bias_q, scale, sum of weights | weights
 *
 * with 16 * nn_blocks(cout) words in each array.
 */
#ifndef MILLRACE_NN_KERNELS_LOW_CORE_H
#define MILLRACE_NN_KERNELS_LOW_CORE_H

#include <math.h>
#include <string.h>

#include "nn/kernels_core.h"
#include "nn/kernels_low.h"

#define NN_LOW_MAX_MR 32		/* pixels of the largest tile of any set */
#define NN_LOW_MAX_NB 2

static inline nn_elem
nn_low_elem(nn_low_kind kind)
{
	return kind == nn_low_u8 ? nn_elem_u8 : kind == nn_low_bf16 ? nn_elem_bf16 : nn_elem_f32;
}

/* Channels in a word of activations; bytes of weights a word and cout. */
static inline int
nn_low_per_word(nn_low_kind kind)
{
	return 1 << nn_low_elem(kind);
}

static inline int
nn_low_weight_bytes(nn_low_kind kind)
{
	return kind == nn_low_w16 ? 2 : 4;
}

/* What a tile's sums become by way of memory, where registers do not do. */
typedef enum nn_low_through
{
	nn_through_none = 0,
	nn_through_wide,			/* float32 instead of native elements, without a residual */
	nn_through_sums,			/* what wide means, of whole tiles of one line without limits */
	nn_through_silu				/* where nn_low_ops.silu says so: native, SiLU instead of the clip */
} nn_low_through;

/* What all tiles of a panel have in common.  Distances in bytes. */
typedef struct nn_low_job
{
	const char *b;				/* the panel's weights */
	const nn_step *step;		/* off in bytes, ki in words */
	int			nsteps;
	const char *ahead,			/* weights wanted next: each step of a tile asks for */
			   *ahead_end;		/* so many cache lines of them */
	int			ahead_lines;
	size_t		stride;			/* between pixels, for tiles made for any */
	const void *start;			/* first value of each sum: int32 or float32 */
	const float *mult;			/* u8: sum * mult + add; add may be NULL */
	const float *add;
	size_t		out_pix,		/* between pixels and between blocks of 16 couts */
				out_blk,
				res_pix,
				res_blk;
	nn_low_through through;
	float		lo,				/* u8: in quanta relative to the zero point */
				hi;
	int			zero;			/* u8: out's */
	int16_t		least,			/* u8: lo and hi as out's quanta */
				most;
	float		res_mult,		/* u8: residual = (r - res_zero) * res_mult */
				res_zero;
	float		pre_lo,			/* bounds before it is added */
				pre_hi;
} nn_low_job;

/* As nn_tile_fn. */
typedef void (*nn_low_tile_fn) (const nn_low_job *j, const char *a0, const char *a1, char *o0, char *o1,
								const char *r0, const char *r1);

/* The second pass over what a tile left in float32: n pixels of couts channels.
 * Distances in bytes, blocks of 16. */
typedef struct nn_low_post
{
	nn_act		act;
	nn_quant	out,
				res;
	size_t		out_pix,
				out_blk,
				res_pix,
				res_blk;
} nn_low_post;

typedef struct nn_low_ops
{
	nn_isa		isa;
	nn_low_kind kind;
	int			max_mr;
	/* Tile of mr <= max_mr pixels, the first half of them (a count, mr: all) in
	 * the first line, by nb blocks, pixels stride bytes apart; stride 0: any.
	 * NULL if there is none. */
	nn_low_tile_fn (*tile) (int mr, int nb, int stride, int half);
	nn_low_tile_fn (*stem_tile) (int mr, int nb, int stride, int half);	/* of planar input */
	/* Called before tiles of another mr, and with 0 after the last; may be NULL. */
	void		(*configure) (int mr);
	bool		silu;			/* tiles know nn_through_silu */
	void		(*post) (const nn_low_post *p, const float *tile, size_t blk, int n, int couts,
						 char *o, const char *r);
	/* n elements of in (native or float32, q) as native ones, contiguous. */
	void		(*row) (const void *in, nn_quant q, char *out, int n);
	/* The stem's input: word x of out is up to 4 channels c[i][x], missing ones NULL. */
	void		(*words) (const void *const *c, nn_quant q, uint32_t *out, int n);
} nn_low_ops;

/* ---- kernels_low_drive.c ---- */

extern size_t nn_low_drive_scratch(const nn_low_ops *ops, const nn_conv *cv, int in_h, int in_w,
								   int out_h, int out_w);
extern void nn_low_drive_conv(const nn_low_ops *ops, const nn_conv *cv, const void *pack, const nn_low_view *in,
							  const nn_low_view *res, const nn_low_view *out, int y0, int y1, void *scratch);
extern void nn_low_drive_planar(const nn_low_ops *ops, const nn_conv *cv, const void *pack,
								const nn_low_rows *in, int in_h, int in_w, const nn_low_view *res,
								const nn_low_view *out, int y0, int y1, void *scratch);
extern size_t nn_low_drive_gemm_scratch(const nn_low_ops *ops, int m, int k, int n);
extern void nn_low_drive_gemm(const nn_low_ops *ops, const void *pack, int m, const nn_low_rows *a,
							  const nn_low_rows *res, const nn_low_rows *y, nn_act act, void *scratch);

/* o = a B for m pixels, sums of bfloat16 or int8 in float32 (or int32) lines: as nn_drive_sums(), a_blk and o_blk in
 * floats; scratch: nn_low_drive_sums_scratch() bytes. */
extern size_t nn_low_drive_sums_scratch(const nn_low_ops *ops, int k);
extern void nn_low_drive_sums(const nn_low_ops *ops, int k, int n, const void *b, const float *a, size_t a_blk, int m,
							  float *o, size_t o_blk, void *scratch);

/* ---- pack_low.c ---- */

/* Bytes of one of the products' weights of Winograd's method. */
extern size_t nn_low_winograd_bytes(nn_low_kind kind, const nn_conv *cv);

/* A panel: couts [16 * ob, 16 * (ob + nb)) from words [w0, w1) of the input's channels. */
typedef struct nn_low_panel
{
	int			ob,
				nb,
				w0,
				w1;
} nn_low_panel;

extern int	nn_low_panel_blocks(nn_isa isa);
extern nn_low_panel nn_low_panel_at(nn_isa isa, nn_low_kind kind, const nn_conv *cv, int ob);

static inline size_t
nn_low_array(int cout)
{
	return sizeof(float) * NN_LANES * nn_blocks(cout);
}

static inline const float *
nn_low_bias(const void *pack)
{
	return (const float *) ((const char *) pack + sizeof(nn_pack));
}

static inline const int32_t *
nn_low_bias_q(const void *pack, int cout)
{
	return (const int32_t *) ((const char *) nn_low_bias(pack) + nn_low_array(cout));
}

static inline const float *
nn_low_scale(const void *pack, int cout)
{
	return (const float *) ((const char *) nn_low_bias(pack) + 2 * nn_low_array(cout));
}

static inline const int32_t *
nn_low_sums(const void *pack, int cout)
{
	return (const int32_t *) ((const char *) nn_low_bias(pack) + 3 * nn_low_array(cout));
}

static inline const char *
nn_low_weights_of(const void *pack, nn_low_kind kind, int cout)
{
	return (const char *) nn_low_bias(pack) + (kind == nn_low_u8 ? 4 : 1) * nn_low_array(cout);
}

/* Words of a pixel of a planar input. */
static inline int
nn_low_planar_words(nn_low_kind kind, int cin)
{
	return (cin + nn_low_per_word(kind) - 1) / nn_low_per_word(kind);
}

/* Zero the bfloat16 lanes of lines [y0, y1) that no cout of v writes. */
extern void nn_low_zero_lanes(const nn_low_view *v, int y0, int y1);

/* ---- the tiles of a kind on a set, and kernels_low_body.h on a set ---- */

#define NN_LOW_JOIN_(what, kind, set) nn_low_##what##_##kind##_##set
#define NN_LOW_JOIN(what, kind, set) NN_LOW_JOIN_(what, kind, set)
#define NN_LOW_NAME_(what, set) nn_low_##what##_##set
#define NN_LOW_NAME(what, set) NN_LOW_NAME_(what, set)

#define NN_LOW_TILES(kind, set) \
extern nn_low_tile_fn nn_low_tile_##kind##_##set(int mr, int nb, int stride, int half); \
extern const nn_low_kernels nn_low_##kind##_##set

NN_LOW_TILES(u8, portable);
NN_LOW_TILES(w16, portable);
#if defined(__x86_64__)
NN_LOW_TILES(u8, avx2);
NN_LOW_TILES(u8, avx512);
NN_LOW_TILES(u8, avx512_vnni);
NN_LOW_TILES(u8, amx);
NN_LOW_TILES(bf16, avx512_bf16);
NN_LOW_TILES(bf16, amx);
NN_LOW_TILES(w16, avx2);
NN_LOW_TILES(w16, avx512);
#endif


#define NN_LOW_BODY(set) \
extern void nn_low_post_##set(const nn_low_post *p, const float *tile, size_t blk, int n, int couts, char *o, \
							  const char *r); \
extern void nn_low_row_u8_##set(const void *in, nn_quant q, char *out, int n); \
extern void nn_low_row_bf16_##set(const void *in, nn_quant q, char *out, int n); \
extern void nn_low_words_u8_##set(const void *const *c, nn_quant q, uint32_t *out, int n); \
extern void nn_low_words_bf16_##set(const void *const *c, nn_quant q, uint32_t *out, int n); \
extern void nn_low_depthwise_##set(const nn_conv *cv, const void *pack, const nn_low_view *in, \
								   const nn_low_view *res, const nn_low_view *out, int y0, int y1); \
extern void nn_low_maxpool_##set(const nn_pool *p, const nn_low_view *in, const nn_low_view *out, int y0, int y1); \
extern void nn_low_avgpool_##set(const nn_pool *p, const nn_low_view *in, const nn_low_view *out, int y0, int y1); \
extern void nn_low_global_avgpool_##set(const nn_low_view *in, const nn_low_view *out); \
extern void nn_low_binary_##set(nn_binary op, const nn_low_view *a, const nn_low_view *b, const nn_low_view *out, \
								nn_act act, int y0, int y1); \
extern void nn_low_convert_##set(const nn_low_view *in, const nn_low_view *out, nn_act act, int y0, int y1); \
extern void nn_low_convert_rows_##set(const nn_low_rows *in, const nn_low_rows *out, nn_act act, int m, int n); \
extern void nn_low_from_plain_##set(const nn_low_rows *chw, const nn_low_view *out, int y0, int y1); \
extern void nn_low_to_plain_##set(const nn_low_view *in, const nn_low_rows *chw, int y0, int y1); \
extern void nn_low_copy_channels_##set(const nn_low_view *in, int from, int n, int sy, int sx, \
									   const nn_low_view *out, int to, int y0, int y1)

NN_LOW_BODY(portable);
#if defined(__x86_64__)
NN_LOW_BODY(avx2);
NN_LOW_BODY(avx512);
#endif

/* Float32 activations need no conversion. */
extern void nn_low_row_f32(const void *in, nn_quant q, char *out, int n);
extern void nn_low_words_f32(const void *const *c, nn_quant q, uint32_t *out, int n);

#endif							/* MILLRACE_NN_KERNELS_LOW_CORE_H */
