/*
 * kernels_core.h
 *	  Inside the kernels: the tile interface between the shared loops
 *	  (kernels_drive.c) and the code of an instruction set, and the geometry of
 *	  packed weights (pack.c).
 *
 * All convolutions and products are one computation: for a tile of MR pixels and
 * NB blocks of 16 output channels, run down a list of steps; a step is an offset
 * into the input and a count of consecutive input values (ki <= 16 channels of
 * one tap); weights are one stream in the order of use,
 *
 *		panel (NB blocks of couts) > block of 16 cins > tap row > tap column > cin > NB * 16 couts
 *
 * so a tile reads them front to back.  K is real (no padded cins); couts are
 * padded to 16 with zeros.  A planar (stem) pack is one "channel" run of
 * kh * kw * cin values in the order channel > tap row > tap column.
 */
#ifndef MILLRACE_NN_KERNELS_CORE_H
#define MILLRACE_NN_KERNELS_CORE_H

#include <math.h>
#include <string.h>

#include "nn/kernels.h"

#define NN_MAX_STEPS 64			/* steps of one chunk of K: 128 KB of a 32-cout panel */
#define NN_MAX_MR 14			/* pixels of the largest tile of any set */
#define NN_MAX_PANEL 2			/* blocks of the widest panel */

typedef struct nn_step
{
	ptrdiff_t	off;			/* floats from a tile's first pixel */
	int			ki;				/* consecutive floats used */
} nn_step;

#define NN_PAGE 4096

/*
 * Have the addresses of n bytes at p translated, before they are fetched line by
 * line.  A prefetch waits for its page's translation, and instructions behind it
 * do too: in a virtual machine, where that is two walks through tables, pages one
 * at a time cost more than their lines.  These all wait at once.
 */
static inline void
nn_translate(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i += NN_PAGE)
		__builtin_prefetch(p + i, 0, 2);
}

/* What all tiles of a (panel, chunk of K) have in common. */
typedef struct nn_tile_job
{
	const float *b;				/* the panel's weights from the chunk's first step */
	const nn_step *step;
	int			nsteps;
	const float *bias;			/* the panel's */
	size_t		out_pix,		/* floats between pixels and between blocks of 16 */
				out_blk,
				res_pix,
				res_blk;
	bool		first;			/* start from bias, else from what out holds */
	bool		last;			/* add the residual and clip to [lo, hi] */
	float		lo,
				hi;
	const char *ahead,			/* weights wanted next: each step of a tile asks for */
			   *ahead_end;		/* so many cache lines of them */
	int			ahead_lines;
} nn_tile_job;

/* One tile: its first pixels (all of them if the tile is of one line) are at a0,
 * o0, r0, the others, of the next line, at a1, o1, r1.  r0 NULL: no residual. */
typedef void (*nn_tile_fn) (const nn_tile_job *j, const float *a0, const float *a1,
							float *o0, float *o1, const float *r0, const float *r1);

/* What all lines of a block of depthwise channels have in common. */
typedef struct nn_dw_job
{
	int			kh,
				kw;
	size_t		tap_step,		/* floats from a tap to its neighbour, */
				pix_step;		/* from a pixel to the next */
	const float *w,
			   *bias;
	bool		clip;			/* the activation is clipping to [lo, hi] */
	float		lo,
				hi;
} nn_dw_job;

/* What outputs of Winograd's method have in common: one block of couts. */
typedef struct nn_wino_out
{
	const float *bias;
	size_t		res_pitch,		/* floats from line to line */
				out_pitch;
	float		lo,
				hi;
	bool		silu;			/* instead of a clip */
} nn_wino_out;

/* Winograd's transforms of one tile and block of channels: kernels_winograd.h. */
typedef struct nn_wino_ops
{
	void		(*input) (int tile, const float *x, size_t row_pitch, int rows, int cols, float *v, size_t pitch);
	void		(*output) (int tile, const float *m, size_t pitch, const nn_wino_out *w, const float *res,
						   float *o, int rows, int cols);
	int			per;			/* blocks of 16 channels in a line of 64 bytes: 2 of bfloat16 */
	size_t		(*weights) (const nn_conv *cv);	/* bytes of one of the products' weights */
	/* o = a B for m tiles, as nn_drive_sums(); a in lines of 64 bytes, rest: scratch behind what the method needs. */
	void		(*sums) (const nn_conv *cv, const void *b, const float *a, size_t a_blk, int m, float *o, size_t o_blk,
						 void *rest);
} nn_wino_ops;

/* What the shared loops need of an instruction set. */
typedef struct nn_isa_ops
{
	nn_isa		isa;
	int			max_mr;
	/* Tile of mr pixels, the first half of them (a count, mr: all) in the first
	 * line, by nb blocks, pixels stride floats apart; NULL if there is none. */
	nn_tile_fn	(*tile) (int mr, int nb, int stride, int half);
	/* Tile of mr pixels, stride 1, by one block, whose steps are lines of three
	 * taps; max_mr3 = 0: none. */
	int			max_mr3;
	nn_tile_fn	(*tile3) (int mr);
	void		(*activate) (const float *x, float *y, size_t n, nn_act act);
	/* One output line of one block; line[ky]: the first tap of the first pixel.
	 * The activation is included. */
	void		(*depthwise_line) (const nn_conv *cv, const nn_dw_job *j, const float *const *line,
								   const float *res, float *out, int width);
	nn_wino_ops wino;
} nn_isa_ops;

extern const nn_isa_ops nn_ops_portable;
#if defined(__x86_64__)
extern const nn_isa_ops nn_ops_avx2;
extern const nn_isa_ops nn_ops_avx512;
#endif

/* ---- kernels_drive.c: the loops around the tiles ---- */

extern size_t nn_drive_conv_scratch(const nn_isa_ops *ops, const nn_conv *cv, int in_h, int in_w,
									int out_h, int out_w);
extern void nn_drive_conv(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, const nn_view *in,
						  const nn_view *res, const nn_view *out, int y0, int y1, void *scratch);
extern void nn_drive_conv_planar(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, const float *in,
								 int in_h, int in_w, const nn_view *res, const nn_view *out, int y0, int y1,
								 void *scratch);

/* One panel of a 1x1 convolution of stride 1 without groups: all lines of in;
 * out holds the panel's couts, [16 * ob, ...), alone. */
extern void nn_drive_panel(const nn_isa_ops *ops, const nn_conv *cv, const void *pack, int ob, const nn_view *in,
						   const nn_view *out);

/* ---- kernels_mbconv.c ---- */

extern size_t nn_drive_mbconv_scratch(const nn_isa_ops *ops, const nn_mbconv *mb, int in_h, int in_w,
									  int out_h, int out_w);
extern void nn_drive_mbconv(const nn_isa_ops *ops, const nn_mbconv *mb, const void *const *packs, const nn_view *in,
							const nn_view *res, const nn_view *out, int y0, int y1, void *scratch);

/* o = a B for m pixels of k values: a and o are blocks of 16 values at pitches, b
 * the panels of a product of k x n.  Plain sums: no bias, no activation. */
extern void nn_drive_sums(const nn_isa_ops *ops, int k, int n, const float *b, const float *a, size_t a_blk,
						  int m, float *o, size_t o_blk);

/* What tiles cannot do: the other activations, and clean padding lanes. */
extern void nn_drive_finish(const nn_isa_ops *ops, nn_act act, const nn_view *out, int y0, int y1);

/* ---- kernels_winograd.c ---- */

/* The transform of one 3 x 3 kernel into side x side weights. */
extern void nn_winograd_weights(const float *g, int side, float *u);

extern size_t nn_drive_winograd_scratch(const nn_isa_ops *ops, const nn_conv *cv, int out_h, int out_w);
/* Activations: clips and SiLU; nn_drive_finish() does the others, and padding lanes. */
extern void nn_drive_winograd(const nn_isa_ops *ops, const nn_wino_ops *wino, const nn_conv *cv, const void *pack,
							  const nn_view *in, const nn_view *res, const nn_view *out, int y0, int y1, void *scratch);

/* ---- pack.c ---- */

/* Write a pack's head and its bias, padded with zeros. */
extern void nn_pack_head(void *dst, nn_isa isa, nn_pack_kind kind, const nn_conv *cv, size_t bytes,
						 const float *bias);

/* A panel of packed weights: couts [16 * ob, 16 * (ob + nb)) from cin blocks
 * [cb, cb + ncb), k values of cin and taps, k * nb * 16 floats. */
typedef struct nn_panel
{
	int			ob,
				nb,
				cb,
				ncb;
	size_t		k;
} nn_panel;

extern int	nn_panel_blocks(nn_isa isa);	/* blocks of a full panel */
extern nn_panel nn_panel_at(nn_isa isa, const nn_conv *cv, int ob);

static inline const float *
nn_pack_bias(const void *pack)
{
	return (const float *) ((const char *) pack + sizeof(nn_pack));
}

static inline const float *
nn_pack_weights(const void *pack, int cout)
{
	return nn_pack_bias(pack) + (size_t) NN_LANES * nn_blocks(cout);
}

/* ---- activations ---- */

/* Is act a clipping to [*lo, *hi]?  Tiles do those themselves. */
static inline bool
nn_act_is_clip(nn_act act, float *lo, float *hi)
{
	*lo = -INFINITY;
	*hi = INFINITY;
	if (act.kind == nn_act_relu)
		*lo = 0;
	else if (act.kind == nn_act_clip)
	{
		*lo = act.a;
		*hi = act.b;
	}
	return act.kind == nn_act_none || act.kind == nn_act_relu || act.kind == nn_act_clip;
}

/* Block b of a depthwise convolution. */
static inline nn_dw_job
nn_dw_block(const nn_conv *cv, const void *pack, int b)
{
	nn_dw_job	j = {
		.kh = cv->kh, .kw = cv->kw, .tap_step = (size_t) cv->dw * NN_LANES, .pix_step = (size_t) cv->sw * NN_LANES,
		.w = nn_pack_weights(pack, cv->cout) + (size_t) b * cv->kh * cv->kw * NN_LANES,
		.bias = nn_pack_bias(pack) + (size_t) b * NN_LANES
	};

	j.clip = nn_act_is_clip(cv->act, &j.lo, &j.hi);
	return j;
}

/* Does act turn the zero of a padding lane into something else? */
static inline bool
nn_act_moves_zero(nn_act act)
{
	switch (act.kind)
	{
		case nn_act_clip:
			return act.a > 0 || act.b < 0;
		case nn_act_hardsigmoid:
			return act.b > 0;
		case nn_act_sigmoid:
		case nn_act_exp:
			return true;
		default:
			return false;
	}
}

/* Zero the padding lanes of lines [y0, y1), if v has any. */
extern void nn_zero_lanes(const nn_view *v, int y0, int y1);

#endif							/* MILLRACE_NN_KERNELS_CORE_H */
