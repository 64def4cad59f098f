/*
 * tsne_grid.c
 *	  t-SNE's repulsion in time n: interpolation on a grid and convolution by Fourier transforms.
 *
 * After Linderman, Rachh, Hoskins, Steinerberger and Kluger, "Fast interpolation-based t-SNE for improved visualization
 * of single-cell RNA-seq data" (2019), with these differences.  Cubic B-splines interpolate, one grid for all, whose
 * prefilter is a factor of the kernel's spectrum: at nodes 0.4 apart the error is below 1 % of a kernel whose
 * own width is 1.  The kernel is the force itself, (dx, dy) / (1 + d^2)^2, so that one transform of the points and one
 * back give both components; the sum over all pairs of 1 / (1 + d^2) is read off the spectrum (Parseval).
 *
 * The grid has side x side nodes, transforms twice that, so that they do not wrap around.  Rows of a matrix are the
 * first coordinate.  Transforms take strips of QLT_LANES columns; what the first axis's leave, "lines", is stored
 * [column][strip of frequencies][re, im][QLT_LANES], frequencies 0 .. side of a real function, and read across:
 *
 *	  grid --columns--> lines --frequencies, times the kernel, back--> plus, minus --columns, back--> field
 *
 * The kernel's spectrum depends on the distance of nodes alone, which goes by steps of 2^(1/8): it is seldom new.
 */
#include "quality/latent_int.h"

#include <math.h>
#include <string.h>

#define LEAST_SIDE	128
#define MOST_SIDE	1024
#define MARGIN		20			/* nodes without points: splines' ends, and the prefilter's reach over the seam */
#define FINE		0.4				/* distance of nodes at most, while MOST_SIDE allows it */
#define STEP		(2 * QLT_LANES)	/* floats of a complex vector */

struct qlt_grid
{
	const qlt_work *w;
	const qlt_kernels *kernels;
	int			side;			/* 0: there is no table yet */
	int			strips;			/* side / QLT_LANES + 1 */
	double		apart;			/* distance of nodes */
	float	   *turn;			/* 2 side pairs */
	float	   *table;			/* strips x (side + 1) x 3 x QLT_LANES; see kernels' spectrum() */
	float	   *plus;			/* lines; those of negative frequencies behind them */
	float	   *minus;
	float	   *nodes;			/* side x side, then the field's pairs */
	float	   *field;
	float	   *buffer[4];		/* 2 side x STEP */
};

static size_t
lines_size(int side)
{
	return (size_t) side * (size_t) (side / QLT_LANES + 1) * STEP;
}

static float *
line(const qlt_grid *g, float *lines, int column, int strip)
{
	return lines + ((size_t) column * (size_t) g->strips + (size_t) strip) * STEP;
}

/* 16 columns' transforms, x[frequency][re, im][column], to lines of 16 columns; or back. */
static void
put_lines(const qlt_grid *g, const float *x, float *lines, int column)
{
	for (int s = 0; s < g->strips; s++)
		for (int c = 0; c < QLT_LANES; c++)
		{
			float	   *to = line(g, lines, column + c, s);
			const float *from = x + (size_t) s * QLT_LANES * STEP + c;

			for (int k = 0; k < QLT_LANES; k++)
			{
				to[k] = from[k * STEP];
				to[k + QLT_LANES] = from[k * STEP + QLT_LANES];
			}
		}
}

static void
take_lines(const qlt_grid *g, int column, float *x)
{
	int			n = 2 * g->side;

	for (int c = 0; c < QLT_LANES; c++)
	{
		const float *plus = line(g, g->plus, column + c, 0),
				   *minus = line(g, g->minus, column + c, 0);

		for (int k = 0; k < n; k++)
		{
			int			m = k <= g->side ? k : n - k;
			const float *from = (k <= g->side ? plus : minus) + (size_t) (m / QLT_LANES) * STEP + m % QLT_LANES;

			x[(size_t) k * STEP + (size_t) c] = from[0];
			x[(size_t) k * STEP + (size_t) c + QLT_LANES] = from[QLT_LANES];
		}
	}
}

/* The factor by which splines of order 4 weaken frequency k, for spreading and gathering. */
static double
weakening(const qlt_grid *g, int k)
{
	double		b = (4 + 2 * (double) g->turn[2 * k]) / 6;

	return b * b;
}

/* The spectrum of the force's two components as one complex function, or of the normaliser. */
static mr_code
transform_kernel(qlt_grid *g, bool normaliser, mr_status *st)
{
	int			side = g->side,
				n = 2 * side;

	for (int column = 0; column < n; column += QLT_LANES)
	{
		float	   *x = g->buffer[0];

		for (int r = 0; r < n; r++)
			for (int c = 0; c < QLT_LANES; c++)
			{
				int			k = column + c;
				double		dx = g->apart * (r < side ? r : r - n),
							dy = g->apart * (k < side ? k : k - n),
							q = 1 / (1 + dx * dx + dy * dy);

				/* an odd function is 0 half way round */
				x[(size_t) r * STEP + (size_t) c] = (float) (normaliser ? q : r == side ? 0 : dx * q * q);
				x[(size_t) r * STEP + (size_t) c + QLT_LANES] = (float) (normaliser || k == side ? 0 : dy * q * q);
			}
		put_lines(g, g->kernels->fft(x, g->buffer[1], n, g->turn, false), g->plus, column);
		if (mr_interrupted(g->w->env))
			return qlt_latent_canceled(st);
	}
	for (int s = 0; s < g->strips; s++)
	{
		float	   *x = g->buffer[0];

		for (int c = 0; c < n; c++)
			memcpy(x + (size_t) c * STEP, line(g, g->plus, c, s), STEP * sizeof(float));
		x = g->kernels->fft(x, g->buffer[1], n, g->turn, false);
		for (int k = 0; k <= side; k++)
			for (int l = 0; l < QLT_LANES; l++)
			{
				int			row = s * QLT_LANES + l < n ? s * QLT_LANES + l : 0;
				double		factor = 1 / (weakening(g, row) * weakening(g, k) * n * n);
				float	   *to = g->table + ((size_t) s * (size_t) (side + 1) + (size_t) k) * 3 * QLT_LANES + l;
				const float *from = x + (size_t) k * STEP + l;

				if (normaliser)
					to[2 * QLT_LANES] = (float) (from[0] * factor);
				else
				{
					to[0] = (float) (from[0] * factor);
					to[QLT_LANES] = (float) (from[QLT_LANES] * factor);
				}
			}
		if (mr_interrupted(g->w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

/* A grid that holds points of this span. */
static mr_code
fit(qlt_grid *g, double span, mr_status *st)
{
	/* 2^(k / 8): the same everywhere, as pow() need not be */
	static const double steps[8] = {1, 1.0905077326652577, 1.1892071150027210, 1.2968395546510096,
	1.4142135623730951, 1.5422108254079408, 1.6817928305074290, 1.8340080864093424};
	int			side = LEAST_SIDE,
				e;
	double		least,
				apart = 0;
	mr_code		code;

	while (side < MOST_SIDE && span > FINE * (side - MARGIN))
		side *= 2;
	least = span / (side - MARGIN);
	least = least < 1e-12 ? 1e-12 : least;
	if (side == g->side && least <= g->apart && g->apart <= 1.2 * least)
		return MR_OK;
	(void) frexp(least, &e);
	for (int k = 0; k <= 8 && apart < least; k++)
		apart = ldexp(k < 8 ? steps[k] : 2, e - 1);
	if (side == g->side && apart == g->apart)
		return MR_OK;
	if (side != g->side)
		for (int k = 0; k < 2 * side; k++)
		{
			double		c,
						s;

			qlt_root_of_unity(k, 2 * side, &c, &s);
			g->turn[2 * k] = (float) c;
			g->turn[2 * k + 1] = (float) -s;
		}
	g->side = side;
	g->strips = side / QLT_LANES + 1;
	g->apart = apart;
	g->minus = g->plus + lines_size(side);
	code = transform_kernel(g, false, st);
	if (code == MR_OK)
		code = transform_kernel(g, true, st);
	if (code)
		g->side = 0;
	return code;
}

/* The nodes' charges to the field's pairs; *z: the sum over all pairs of charges. */
static mr_code
convolve(qlt_grid *g, double *z, mr_status *st)
{
	int			side = g->side,
				n = 2 * side;
	size_t		upper = (size_t) side * STEP;
	const qlt_kernels *kernels = g->kernels;
	float	   *x = g->buffer[0],
			   *answer;

	for (int column = 0; column < side; column += QLT_LANES)
	{
		memset(x, 0, 2 * upper * sizeof(float));
		for (int r = 0; r < side; r++)
			memcpy(x + (size_t) r * STEP, g->nodes + (size_t) r * (size_t) side + (size_t) column, QLT_LANES * sizeof(float));
		put_lines(g, kernels->fft(x, g->buffer[1], n, g->turn, false), g->plus, column);
		if (mr_interrupted(g->w->env))
			return qlt_latent_canceled(st);
	}
	*z = 0;
	for (int s = 0; s < g->strips; s++)
	{
		float		lane[QLT_LANES];

		for (int c = 0; c < side; c++)
			memcpy(x + (size_t) c * STEP, line(g, g->plus, c, s), STEP * sizeof(float));
		memset(x + upper, 0, upper * sizeof(float));
		answer = kernels->fft(x, g->buffer[1], n, g->turn, false);
		kernels->spectrum(answer, n, g->table + (size_t) s * (size_t) (side + 1) * 3 * QLT_LANES, g->buffer[2], g->buffer[3], lane);
		/* every frequency but the first and the last stands for its negative, too; beyond the last there are none */
		for (int l = 0; l < QLT_LANES; l++)
		{
			int			k = s * QLT_LANES + l;

			*z += (double) lane[l] * (k == 0 || k == side ? 1 : k < side ? 2 : 0);
		}
		answer = kernels->fft(g->buffer[2], x, n, g->turn, true);
		for (int c = 0; c < side; c++)
			memcpy(line(g, g->plus, c, s), answer + (size_t) c * STEP, STEP * sizeof(float));
		answer = kernels->fft(g->buffer[3], x, n, g->turn, true);
		for (int c = 0; c < side; c++)
			memcpy(line(g, g->minus, c, s), answer + (size_t) c * STEP, STEP * sizeof(float));
		if (mr_interrupted(g->w->env))
			return qlt_latent_canceled(st);
	}
	for (int column = 0; column < side; column += QLT_LANES)
	{
		take_lines(g, column, x);
		answer = kernels->fft(x, g->buffer[1], n, g->turn, true);
		for (int r = 0; r < side; r++)
			for (int c = 0; c < QLT_LANES; c++)
			{
				float	   *to = g->field + 2 * ((size_t) r * (size_t) side + (size_t) (column + c));

				to[0] = answer[(size_t) r * STEP + (size_t) c];
				to[1] = answer[(size_t) r * STEP + (size_t) c + QLT_LANES];
			}
		if (mr_interrupted(g->w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

mr_code
qlt_grid_repel(qlt_grid *g, const float *y, size_t stride, int64_t n, float *force, double *z, mr_status *st)
{
	const int64_t block = 65536;
	float		low[2] = {y[0], y[stride]},
				high[2] = {y[0], y[stride]},
				origin[2],
				scale;
	mr_code		code;

	for (int c = 0; c < 2; c++)
		for (int64_t i = 0; i < n; i++)
		{
			float		v = y[(size_t) c * stride + (size_t) i];

			low[c] = v < low[c] ? v : low[c];
			high[c] = v > high[c] ? v : high[c];
		}
	code = fit(g, fmax((double) high[0] - (double) low[0], (double) high[1] - (double) low[1]), st);
	if (code)
		return code;
	scale = (float) (1 / g->apart);
	for (int c = 0; c < 2; c++)
		origin[c] = (float) ((double) low[c] - 2 * g->apart);
	memset(g->nodes, 0, (size_t) g->side * (size_t) g->side * sizeof(float));
	for (int64_t i = 0; i < n; i += block)
	{
		g->kernels->spread(y + i, y + stride + i, n - i < block ? n - i : block, origin, scale, g->nodes, (size_t) g->side);
		if (mr_interrupted(g->w->env))
			return qlt_latent_canceled(st);
	}
	code = convolve(g, z, st);
	if (code)
		return code;
	*z -= (double) n;			/* each point and itself */
	for (int64_t i = 0; i < n; i += block)
	{
		g->kernels->gather(y + i, y + stride + i, n - i < block ? n - i : block, origin, scale, g->field, (size_t) g->side,
						   force + i, force + stride + i);
		if (mr_interrupted(g->w->env))
			return qlt_latent_canceled(st);
	}
	return MR_OK;
}

/* Floats of all arrays of the largest grid. */
static size_t
floats(size_t *at)
{
	size_t		n = 2 * MOST_SIDE,
				sum = 0,
				sizes[] = {2 * n, (size_t) (MOST_SIDE / QLT_LANES + 1) * (MOST_SIDE + 1) * 3 * QLT_LANES, 2 * lines_size(MOST_SIDE),
				(size_t) MOST_SIDE * MOST_SIDE, 2 * (size_t) MOST_SIDE * MOST_SIDE, n * STEP, n * STEP, n * STEP, n * STEP};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		if (at)
			at[i] = sum;
		sum += (sizes[i] + 63) & ~(size_t) 63;
	}
	return sum;
}

double
qlt_grid_memory(void)
{
	return (double) floats(NULL) * sizeof(float);
}

mr_code
qlt_grid_begin(const qlt_work *w, const qlt_kernels *kernels, qlt_grid **grid, mr_status *st)
{
	size_t		at[9];
	qlt_grid   *g = mr_alloc(w->env, sizeof(qlt_grid));
	float	   *all = mr_alloc(w->env, floats(at) * sizeof(float));

	if (g == NULL || all == NULL)
	{
		mr_free(w->env, g);
		mr_free(w->env, all);
		return qlt_latent_no_memory(st);
	}
	*g = (qlt_grid) {.w = w,.kernels = kernels,.turn = all + at[0],.table = all + at[1],.plus = all + at[2],
		.nodes = all + at[3],.field = all + at[4],
	.buffer = {all + at[5], all + at[6], all + at[7], all + at[8]}};
	*grid = g;
	return MR_OK;
}

void
qlt_grid_end(qlt_grid *g)
{
	const mr_env *env = g->w->env;

	mr_free(env, g->turn);		/* where all of them begin */
	mr_free(env, g);
}
