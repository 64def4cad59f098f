/*
 * step_winograd.c
 *	  Convolutions by Winograd's method: where they pay, and their runs.  Lowering,
 *	  weights and checks are those of all convolutions: step_conv.c.
 */
#include "nn/steps_impl.h"

/* In multiply-adds of a direct convolution, measured: the transforms of a tile
 * and block of channels, and a weight more to read, from the L3 cache or, of
 * layers so large that a network will not stay there, from memory. */
#define TRANSFORM_MACS 9600
#define WEIGHT_MACS (small ? 4 : 12)
#define SMALL_WEIGHTS (INT64_C(512) * 1024)

bool
nn_winograd_pays(const nn_conv *cv, int out_h, int out_w)
{
	int64_t		tiles = (int64_t) ((out_h + 3) / 4) * ((out_w + 3) / 4),
				in_blocks = nn_blocks(cv->cin),
				out_blocks = nn_blocks(cv->cout);
	int64_t		weights = cv->cin * out_blocks * NN_LANES;
	bool		small = 36 * weights < SMALL_WEIGHTS;

	return nn_winograd_can(cv) && in_blocks * out_blocks < INT32_MAX / 9216 &&
		tiles * 36 * weights + tiles * TRANSFORM_MACS * (in_blocks + out_blocks) + 27 * WEIGHT_MACS * weights <
		9 * weights * out_h * out_w;
}

/* Lines of tiles */
int
nn_step_count_winograd(const nn_step_run *c)
{
	return (c->y.h + 3) / 4;
}

void
nn_step_run_winograd_lines(nn_step_run *c, int y0, int y1)
{
	const nn_fstep *s = c->s;
	nn_view		res;

	if (s->residual)
		res = nn_step_view(c, 1);
	c->k->winograd(&s->u.conv, c->data, &c->x, s->residual ? &res : NULL, &c->y, 4 * y0,
				   4 * y1 < c->y.h ? 4 * y1 : c->y.h, c->r->scratch);
}
