/*
 * kernels_winograd.c
 *	  3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3): 36 instead of 144
 *	  multiplications for 4 x 4 outputs; or, on small maps with many channels,
 *	  F(2x2, 3x3): 16 instead of 36 for 2 x 2, with fewer weights.
 *
 * Tiles of inputs overlap by two.  Per tile and block of channels the input
 * becomes 36 (16) values V = B' d B, the weights were made as many values
 * U = G g G' when packed; for each of the 36 a product M = V U over the
 * channels of all tiles (the tile family of kernels_drive.c), and A' M A are the
 * outputs.  A block of tiles at a time, so that V and M stay in the L2 cache;
 * M of one of the 36 lies where V of the one before lay, so one region serves
 * both, and stays hot.
 *
 * A tile's result depends on its inputs alone: any slicing into whole rows of
 * tiles gives the same bits.  Rounding is 3 to 5 times that of the direct sum.
 */
#include "nn/kernels_core.h"

#define MAX_XI 36				/* values of a transformed tile */
#define WINO_BYTES (768 * 1024)	/* of V in a block of tiles */
#define WINO_SKEW NN_LANES		/* floats between the 36: no power of two apart */

/* Outputs of a tile each way. */
static inline int
tile_of(const nn_conv *cv)
{
	return cv->form == nn_conv_winograd2 ? 2 : 4;
}

static inline int
xi_of(const nn_conv *cv)
{
	return cv->form == nn_conv_winograd2 ? 16 : 36;
}

bool
nn_winograd_can(const nn_conv *cv)
{
	return (cv->form == nn_conv_winograd2 || cv->form == nn_conv_winograd4) && cv->groups == 1 &&
		cv->kh == 3 && cv->kw == 3 && cv->sh == 1 && cv->sw == 1 && cv->dh == 1 && cv->dw == 1;
}

/* ---- weights ---- */

/* U of a 3x3 kernel: rows of G are (1, p, p^2) over the product of the
 * differences of point p to the others. */
void
nn_winograd_weights(const float *g, int side, float *u)
{
	static const double a = 0.70710678118654752440,
				b = 1.41421356237309504880;
	const double G4[6][3] = {
		{1, 0, 0},
		{-2.0 / 3, -2.0 / 3 * a, -1.0 / 3}, {-2.0 / 3, 2.0 / 3 * a, -1.0 / 3},
		{1.0 / 6, b / 6, 1.0 / 3}, {1.0 / 6, -b / 6, 1.0 / 3},
		{0, 0, 1}
	};
	const double G2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
	const double (*G)[3] = side == 4 ? G2 : G4;
	double		t[6][3];

	for (int i = 0; i < side; i++)
		for (int j = 0; j < 3; j++)
			t[i][j] = G[i][0] * g[j] + G[i][1] * g[3 + j] + G[i][2] * g[6 + j];
	for (int i = 0; i < side; i++)
		for (int j = 0; j < side; j++)
			u[i * side + j] = (float) (G[j][0] * t[i][0] + G[j][1] * t[i][1] + G[j][2] * t[i][2]);
}

size_t
nn_winograd_pack_size(nn_isa isa, const nn_conv *cv)
{
	size_t		width = (size_t) NN_LANES * nn_blocks(cv->cout);

	return sizeof(nn_pack) + sizeof(float) * width * (1 + xi_of(cv) * (size_t) cv->cin);
}

/* Weights: 36 (16) times the panels of a product, cin x cout. */
bool
nn_winograd_pack(const mr_env *env, nn_isa isa, const nn_conv *cv, const float *w, const float *bias, void *dst)
{
	int			width = NN_LANES * nn_panel_blocks(isa),
				couts = NN_LANES * nn_blocks(cv->cout);
	size_t		pitch = (size_t) cv->cin * couts;
	float	   *out;

	nn_pack_head(dst, isa, nn_pack_winograd, cv, nn_winograd_pack_size(isa, cv), bias);
	out = (float *) ((char *) dst + sizeof(nn_pack)) + couts;
	for (int o0 = 0; o0 < couts; o0 += width)
	{
		int			n = couts - o0 < width ? couts - o0 : width;

		if (mr_interrupted(env))
			return false;
		for (int i = 0; i < cv->cin; i++, out += n)
			for (int o = 0; o < n; o++)
			{
				float		u[MAX_XI] = {0};

				if (o0 + o < cv->cout)
					nn_winograd_weights(w + ((size_t) (o0 + o) * cv->cin + i) * 9, tile_of(cv) + 2, u);
				for (int xi = 0; xi < xi_of(cv); xi++)
					out[xi * pitch + o] = u[xi];
			}
	}
	return true;
}

/* ---- the work ---- */

/* How a layer is cut: tiles of a block, and where its data lie. */
typedef struct wino_plan
{
	int			across,			/* tiles of a line of tiles */
				block;			/* tiles of a block */
	size_t		pitch;			/* floats from one of the 36 to the next */
} wino_plan;

static wino_plan
make_plan(const nn_isa_ops *ops, const nn_conv *cv, int tiles, int out_w)
{
	wino_plan	p;
	int			wide = nn_blocks(cv->cin > cv->cout ? cv->cin : cv->cout);
	int			fit = (int) (WINO_BYTES / (xi_of(cv) * sizeof(float) * NN_LANES * wide));
	int			count;

	p.across = (out_w + tile_of(cv) - 1) / tile_of(cv);
	if (fit < 2 * ops->max_mr)
		fit = 2 * ops->max_mr;
	/* blocks of like size, of full tiles of the product */
	count = (tiles + fit - 1) / fit;
	p.block = (tiles + count - 1) / count;
	if (count > 1)
		p.block = (p.block + ops->max_mr - 1) / ops->max_mr * ops->max_mr;
	p.pitch = (size_t) p.block * NN_LANES * wide + WINO_SKEW;
	return p;
}

static wino_plan
plan_lines(const nn_isa_ops *ops, const nn_conv *cv, int lines, int out_w)
{
	int			tile = tile_of(cv);

	return make_plan(ops, cv, (lines + tile - 1) / tile * ((out_w + tile - 1) / tile), out_w);
}

size_t
nn_drive_winograd_scratch(const nn_isa_ops *ops, const nn_conv *cv, int out_h, int out_w)
{
	return sizeof(float) * (xi_of(cv) + 1) * plan_lines(ops, cv, out_h, out_w).pitch;
}

static inline int
at_most(int n, int limit)
{
	return n < limit ? n : limit;
}

/* Where block b of 16 channels begins. */
static inline float *
block_of(const nn_view *v, int b, int per)
{
	return v->data + b / per * v->blk_pitch + b % per * (NN_LANES / per);
}

void
nn_drive_winograd(const nn_isa_ops *ops, const nn_wino_ops *wino, const nn_conv *cv, const void *pack, const nn_view *in,
				  const nn_view *res, const nn_view *out, int y0, int y1, void *scratch)
{
	/* the plan of the whole layer, so that slices need no more scratch */
	wino_plan	p = plan_lines(ops, cv, out->h, out->w);
	int			tile = tile_of(cv);
	float	   *m = scratch;	/* sums; inputs lie one pitch further */
	int			tiles = (y1 - y0 + tile - 1) / tile * p.across;
	const char *u = (const char *) nn_pack_weights(pack, cv->cout);
	size_t		u_pitch = wino->weights(cv);
	void	   *rest = m + (xi_of(cv) + 1) * plan_lines(ops, cv, out->h, out->w).pitch;
	nn_wino_out w = {.out_pitch = out->row_pitch, .res_pitch = res ? res->row_pitch : 0,
	.silu = cv->act.kind == nn_act_silu};

	nn_act_is_clip(cv->act, &w.lo, &w.hi);
	for (int t0 = 0; t0 < tiles; t0 += p.block)
	{
		int			n = at_most(tiles - t0, p.block);
		size_t		blk = (size_t) n * NN_LANES;

		for (int b = 0; b < nn_blocks(cv->cin); b++)
		{
			const float *x0 = block_of(in, b, wino->per);
			float	   *v = m + p.pitch + b / wino->per * blk + b % wino->per * (NN_LANES / wino->per);

			for (int t = t0; t < t0 + n; t++, v += NN_LANES)
			{
				int			y = y0 + t / p.across * tile,
							x = t % p.across * tile;

				wino->input(tile, x0 + (y - cv->pt) * (ptrdiff_t) in->row_pitch + (x - cv->pl) * NN_LANES,
							in->row_pitch, at_most(out->h - y, tile) + 2, at_most(out->w - x, tile) + 2, v, p.pitch);
			}
		}
		for (int xi = 0; xi < xi_of(cv); xi++)
			wino->sums(cv, u + xi * u_pitch, m + (xi + 1) * p.pitch, blk, n, m + xi * p.pitch, blk, rest);
		for (int b = 0; b < nn_blocks(cv->cout); b++)
		{
			const float *s = m + b * blk;

			w.bias = nn_pack_bias(pack) + b * NN_LANES;
			for (int t = t0; t < t0 + n; t++, s += NN_LANES)
			{
				int			y = y0 + t / p.across * tile,
							x = t % p.across * tile;

				wino->output(tile, s, p.pitch, &w,
							 res ? block_of(res, b, wino->per) + y * res->row_pitch + x * NN_LANES : NULL,
							 block_of(out, b, wino->per) + y * out->row_pitch + x * NN_LANES,
							 at_most(out->h - y, tile), at_most(out->w - x, tile));
			}
		}
	}
}
