/*
 * step_resize.c
 *	  Resize of lines and pixels of a blocked tensor: nearest, linear, cubic.
 *
 * The taps are ops_resize.c's.  Those of the columns are found once a run of
 * lines; each then serves 16 channels.
 */
#include "nn/steps_impl.h"

#include <string.h>

#define MAX_TAPS 4				/* of an axis: cubic */
#define COLUMNS 512				/* at a time */

nn_lowered
nn_lower_resize(nn_planner *p, nn_node *n)
{
	const nn_value *x = &p->g->values[n->in[0]],
			   *y = &p->g->values[n->out[0]];
	nn_act		none = {nn_act_none, 0, 0};
	nn_pstep   *s;
	int			in;

	if (!nn_plan_has_blocked(p, n->in[0]) || !nn_blockable(y) || x->shape.rank != 4 ||
		x->shape.dims[1] != y->shape.dims[1] || !nn_resize_is_plane(&n->params))
		return nn_lower_no;
	in = nn_plan_blocked(p, n->in[0]);
	s = in < 0 ? NULL : nn_plan_blocked_step(p, nn_step_resize, 1, &in, n->out[0], none);
	if (s == NULL)
		return nn_lower_failed;
	s->s.u.params = n->params;
	return nn_lower_done;
}

bool
nn_step_check_resize(const nn_step_check *c)
{
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	return x->blocked && x->c == y->c && nn_resize_is_plane(&c->s->u.params);
}

bool
nn_resize_picks(const nn_graph *g, const nn_node *n)
{
	const nn_value *x = &g->values[n->in[0]],
			   *y = &g->values[n->out[0]];

	return nn_blockable(x) && nn_blockable(y) && x->shape.rank == 4 && x->shape.dims[1] == y->shape.dims[1] &&
		nn_resize_is_plane(&n->params) && n->params.i[nn_z_mode] == nn_resize_nearest;
}

bool
nn_step_check_low_resize(const nn_step_check *c)
{
	const nn_ftensor *x = c->t[0],
			   *y = c->t[1];

	return nn_check_low(c) && c->s->low == nn_low_bf16 && x->dtype == nn_bfloat16 && y->dtype == nn_bfloat16 &&
		nn_step_check_resize(c) && c->s->u.params.i[nn_z_mode] == nn_resize_nearest;
}

/* Taps of columns [from, from + n): tap k of column j at [k * COLUMNS + j]. */
static int
column_taps(const nn_step_run *c, int from, int n, int32_t *at, float *w)
{
	int			taps = 0;

	for (int j = 0; j < n; j++)
		taps = nn_resize_taps(&c->s->u.params, 3, c->x.w, c->y.w, from + j, at + j, w + j, COLUMNS);
	return taps;
}

/* 16 channels of a line: o = sum over taps of lines and columns. */
static void
blend(const float *const *line, const float *wy, int ny, const int32_t *at, const float *wx, int nx, int n, float *o)
{
	for (int j = 0; j < n; j++, o += NN_LANES)
	{
		float		acc[NN_LANES] = {0};

		for (int ky = 0; ky < ny; ky++)
			for (int kx = 0; kx < nx; kx++)
			{
				const float *x = line[ky] + (size_t) at[kx * COLUMNS + j] * NN_LANES;
				float		f = wy[ky] * wx[kx * COLUMNS + j];

				for (int i = 0; i < NN_LANES; i++)
					acc[i] += f * x[i];
			}
		memcpy(o, acc, sizeof(acc));
	}
}

/* blocks: of 64 bytes a pixel */
static void
resize_lines(const nn_step_run *c, int blocks, int y0, int y1)
{
	int32_t		at[MAX_TAPS * COLUMNS];
	float		wx[MAX_TAPS * COLUMNS];

	for (int from = 0; from < c->y.w; from += COLUMNS)
	{
		int			n = c->y.w - from < COLUMNS ? c->y.w - from : COLUMNS;
		int			nx = column_taps(c, from, n, at, wx);

		for (int y = y0; y < y1; y++)
		{
			int32_t		row[MAX_TAPS];
			float		wy[MAX_TAPS];
			int			ny = nn_resize_taps(&c->s->u.params, 2, c->x.h, c->y.h, y, row, wy, 1);

			for (int b = 0; b < blocks; b++)
			{
				const float *line[MAX_TAPS];
				float	   *o = c->y.data + b * c->y.blk_pitch + y * c->y.row_pitch + (size_t) from * NN_LANES;

				for (int k = 0; k < ny; k++)
					line[k] = c->x.data + b * c->x.blk_pitch + (size_t) row[k] * c->x.row_pitch;
				if (nx * ny == 1)
					for (int j = 0; j < n; j++)
						memcpy(o + (size_t) j * NN_LANES, line[0] + (size_t) at[j] * NN_LANES, NN_LANES * sizeof(float));
				else
					blend(line, wy, ny, at, wx, nx, n, o);
			}
		}
	}
}

void
nn_step_run_resize_lines(nn_step_run *c, int y0, int y1)
{
	resize_lines(c, nn_blocks(c->y.c), y0, y1);
}

/* Each pixel is one of x's: a tap of weight 1. */
void
nn_step_run_low_resize_lines(nn_step_run *c, int y0, int y1)
{
	resize_lines(c, nn_elem_blocks(nn_elem_bf16, c->y.c), y0, y1);
}
