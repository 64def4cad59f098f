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
 * kh * kw * cin values in the order tap row > tap column > channel.
 */
#ifndef MILLRACE_NN_KERNELS_CORE_H
#define MILLRACE_NN_KERNELS_CORE_H

#include <math.h>
#include <string.h>

#include "nn/kernels.h"

#define NN_MAX_STEPS 64			/* steps of one chunk of K: 128 KB of a 32-cout panel */
#define NN_MAX_MR 14			/* pixels of the largest tile of any set */

typedef struct nn_step
{
	ptrdiff_t	off;			/* floats from a tile's first pixel */
	int			ki;				/* consecutive floats used */
} nn_step;

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
} nn_tile_job;

/* One tile: its first pixels (all of them if the tile is of one line) are at a0,
 * o0, r0, the others, of the next line, at a1, o1, r1.  r0 NULL: no residual. */
typedef void (*nn_tile_fn) (const nn_tile_job *j, const float *a0, const float *a1,
							float *o0, float *o1, const float *r0, const float *r1);

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

/* ---- pack.c ---- */

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
