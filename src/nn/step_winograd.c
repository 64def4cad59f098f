/*
 * step_winograd.c
 *	  Convolutions by Winograd's method: where they pay, and their runs.  Lowering,
 *	  weights and checks are those of all convolutions: step_conv.c.
 */
#include "nn/steps_impl.h"

/* In multiply-adds of a direct convolution, measured: the transforms of a tile
 * and block of channels, and a weight more to read, from the L3 cache or, of
 * layers so large that a network will not stay there, from memory. */
#define TRANSFORM_MACS(side) (270 * (side) * (side))
#define WEIGHT_MACS (small ? 4 : 12)
#define SMALL_WEIGHTS (INT64_C(512) * 1024)

/* Arithmetic and reading go on side by side, almost. */
static int64_t
cost(int64_t macs, int64_t reading)
{
	return macs > reading ? macs + reading / 4 : reading + macs / 4;
}

nn_conv_form
nn_winograd_choose(nn_conv cv, int out_h, int out_w, int per_cycle)
{
	int64_t		in_blocks = nn_blocks(cv.cin),
				out_blocks = nn_blocks(cv.cout);
	int64_t		weights = cv.cin * out_blocks * NN_LANES;
	bool		small = 36 * weights < SMALL_WEIGHTS;
	int64_t		best = cost(9 * weights * out_h * out_w, 9 * weights * WEIGHT_MACS) / per_cycle;
	nn_conv_form form = cv.form;

	cv.form = nn_conv_winograd4;
	/* of many weights, 16 bytes for each instead of 2 would have to come from memory */
	if (per_cycle > 1 && !small)
		return form;
	if (form != nn_conv_blocked || !nn_winograd_can(&cv) || in_blocks * out_blocks >= INT32_MAX / 9216)
		return form;
	for (int tile = 4; tile >= 2; tile -= 2)
	{
		int			side = tile + 2;
		int64_t		tiles = (int64_t) ((out_h + tile - 1) / tile) * ((out_w + tile - 1) / tile);
		int64_t		c = cost(tiles * (side * side * weights / per_cycle + TRANSFORM_MACS(side) * (in_blocks + out_blocks)),
							 side * side * weights * WEIGHT_MACS / per_cycle);

		if (c < best)
		{
			best = c;
			form = tile == 4 ? nn_conv_winograd4 : nn_conv_winograd2;
		}
	}
	return form;
}

static int
tile_of(const nn_fstep *s)
{
	return s->u.conv.form == nn_conv_winograd2 ? 2 : 4;
}

/* Lines of tiles */
int
nn_step_count_winograd(const nn_step_run *c)
{
	return (c->y.h + tile_of(c->s) - 1) / tile_of(c->s);
}

int
nn_step_count_low_winograd(const nn_step_run *c)
{
	return nn_step_count_winograd(c);
}

void
nn_step_run_winograd_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	int			tile = tile_of(s);
	nn_view		res;

	if (s->residual)
		res = nn_step_view(c, 1);
	c->k->winograd(&s->u.conv, c->data, &c->x, s->residual ? &res : NULL, &c->y, tile * y0,
				   tile * y1 < c->y.h ? tile * y1 : c->y.h, c->r->scratch);
}

void
nn_step_run_low_winograd_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	int			tile = tile_of(s);
	nn_low_view x = nn_step_low_view(c, 0),
				y = nn_step_low_view(c, s->n_in),
				res;

	if (s->residual)
		res = nn_step_low_view(c, 1);
	nn_run_low(c)->winograd(&s->u.conv, c->data, &x, s->residual ? &res : NULL, &y, tile * y0,
							tile * y1 < y.v.h ? tile * y1 : y.v.h, c->r->scratch);
}
