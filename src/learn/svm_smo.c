/*
 * svm_smo.c
 *	  Sequential minimal optimisation of one pair of classes.
 *
 * Fan, Chen and Lin, "Working set selection using second order information for
 * training support vector machines" (JMLR 2005), as in libsvm: the first row
 * violates the optimality conditions most, the second promises the largest
 * decrease.  We keep f_i = sum_j y_j a_j K_ij - y_i, which is y_i times the
 * gradient, so that kernel rows need no signs.  A step of t adds t to y_i a_i
 * and takes it from y_j a_j.
 *
 * Rows that sit at a bound and will most likely stay there are set aside
 * (shrinking): coordinates, f and cached kernel rows of the others are packed.
 * When the rest is solved, f of those set aside is computed and all are looked
 * at again.
 */
#include "learn/svm.h"

#include <math.h>
#include <string.h>

#define SHRINK_EVERY	1000	/* iterations */
#define WORTH_PACKING	0.9		/* pack when fewer than this share stay */
#define SLICE			4e6		/* multiplications, surely less than 10 ms */

typedef struct solver
{
	svm_problem *p;
	int			active;			/* rows */
	int			padded;			/* the same in whole tiles */
	double		work;			/* since interrupts were asked */
	lrn_smo_best best;
} solver;

static void
pack(const svm_problem *p, const float *tiles, const int32_t *rows, int n, float *out)
{
	size_t		d = (size_t) p->d;

	memset(out, 0, SVM_PAD(n) * d * sizeof(float));
	for (int k = 0; k < n; k++)
	{
		const float *from = tiles + (size_t) (rows[k] / LRN_TILE) * d * LRN_TILE + rows[k] % LRN_TILE;
		float	   *to = out + (size_t) (k / LRN_TILE) * d * LRN_TILE + k % LRN_TILE;

		for (size_t j = 0; j < d; j++)
			to[j * LRN_TILE] = from[j * LRN_TILE];
	}
}

static const float *
coordinates(const svm_problem *p, const float *tiles, int row)
{
	const float *from = tiles + (size_t) (row / LRN_TILE) * (size_t) p->d * LRN_TILE + row % LRN_TILE;

	for (int j = 0; j < p->d; j++)
		p->x[j] = from[(size_t) j * LRN_TILE];
	return p->x;
}

static bool
interrupted(solver *s, double work)
{
	s->work += work;
	if (s->work < SLICE)
		return false;
	s->work = 0;
	return mr_interrupted(s->p->env);
}

/* Row k of the active rows' kernel matrix; the other one asked last stays. */
static const float *
kernel_row(solver *s, int k)
{
	svm_problem *p = s->p;
	bool		fresh;
	float	   *row = svm_cache_row(&p->cache, k, &fresh);

	if (fresh)
	{
		p->kernels->rbf_row(p->near, s->padded / LRN_TILE, p->d, coordinates(p, p->near, k), row);
		s->work += (double) s->padded * (p->d + 8);
	}
	return row;
}

static void
set_bounds(solver *s, int k)
{
	svm_problem *p = s->p;
	int			row = p->active[k];
	bool		may_grow = p->a[row] < p->C[row],
				may_fall = p->a[row] > 0,
				positive = row < p->n_positive;

	p->up[k] = (positive ? may_grow : may_fall) ? 0 : -INFINITY;
	p->low[k] = (positive ? may_fall : may_grow) ? 0 : INFINITY;
}

/* Padding takes no part: neither up nor down. */
static void
set_size(solver *s, int n)
{
	svm_problem *p = s->p;

	s->active = n;
	s->padded = (int) SVM_PAD(n);
	for (int k = n; k < s->padded; k++)
	{
		p->f[k] = 0;
		p->up[k] = -INFINITY;
		p->low[k] = INFINITY;
	}
}

/* The worst violators, f unchanged; any finite row serves as a kernel row. */
static void
select_first(solver *s)
{
	svm_problem *p = s->p;

	memset(p->row, 0, (size_t) s->padded * sizeof(float));
	p->kernels->smo_update(p->f, p->row, p->row, 0, p->up, p->low, s->padded, &s->best);
}

static void
activate_all(solver *s)
{
	svm_problem *p = s->p;

	for (int i = 0; i < p->n; i++)
		p->active[i] = i;
	memcpy(p->near, p->tiles, SVM_PAD(p->n) * (size_t) p->d * sizeof(float));
	set_size(s, p->n);
	for (int k = 0; k < p->n; k++)
		set_bounds(s, k);
	svm_cache_reset(&p->cache, p->n);
}

/* Bring back the rows set aside, with their f. */
static mr_code
reconstruct(solver *s, mr_status *st)
{
	svm_problem *p = s->p;
	int			n_away = 0,
				at = 0;
	double	   *f = p->f_all;

	if (s->active == p->n)
		return MR_OK;
	for (int i = 0; i < p->n; i++)
		if (at < s->active && p->active[at] == i)
			at++;
		else
			p->keep[n_away++] = i;
	pack(p, p->tiles, p->keep, n_away, p->near);
	for (int k = 0; k < n_away; k++)
		f[k] = p->keep[k] < p->n_positive ? -1 : 1;
	for (int k = n_away; k < (int) SVM_PAD(n_away); k++)
		f[k] = 0;
	for (int j = 0; j < p->n; j++)
		if (p->a[j] > 0)
		{
			p->kernels->rbf_row(p->near, (int) (SVM_PAD(n_away) / LRN_TILE), p->d, coordinates(p, p->tiles, j), p->row);
			p->kernels->smo_add(f, p->row, j < p->n_positive ? p->a[j] : -p->a[j], (int) SVM_PAD(n_away));
			if (interrupted(s, (double) n_away * (p->d + 8)))
				return lrn_canceled(st);
		}
	/* Both lists ascend: merged from the end, in place. */
	for (int i = p->n - 1, k = s->active - 1, away = n_away - 1; away >= 0; i--)
		p->f[i] = p->keep[away] == i ? f[away--] : p->f[k--];
	activate_all(s);
	select_first(s);
	return MR_OK;
}

/* Keep rows that may move, and those at a bound that want to leave it. */
static void
shrink(solver *s)
{
	svm_problem *p = s->p;
	int			n = 0;

	for (int k = 0; k < s->active; k++)
	{
		double		value = -p->f[k];
		bool		stays = p->up[k] == 0 ? p->low[k] == 0 || value >= s->best.low : value <= s->best.up;

		if (stays)
			p->keep[n++] = k;
	}
	if (n > WORTH_PACKING * s->active || n < 2)
		return;
	svm_cache_compact(&p->cache, p->keep, n);
	for (int k = 0; k < n; k++)
	{
		int			old = p->keep[k];

		p->active[k] = p->active[old];
		p->f[k] = p->f[old];
		p->up[k] = p->up[old];
		p->low[k] = p->low[old];
	}
	set_size(s, n);
	pack(p, p->tiles, p->active, n, p->near);
	select_first(s);
}

/* One step: the pair, how far, and f after it. */
static bool
step(solver *s)
{
	svm_problem *p = s->p;
	int			i = s->best.i,
				j,
				row_i,
				row_j;
	const float *ki = kernel_row(s, i),
			   *kj;
	double		curvature,
				t,
				room_i,
				room_j;

	j = p->kernels->smo_pick(p->f, ki, p->low, s->best.up, s->padded);
	if (j < 0)
		return false;
	kj = kernel_row(s, j);
	row_i = p->active[i];
	row_j = p->active[j];
	curvature = fmax(2 - 2 * (double) ki[j], 1e-12);
	t = (p->f[j] - p->f[i]) / curvature;
	room_i = row_i < p->n_positive ? p->C[row_i] - p->a[row_i] : p->a[row_i];
	room_j = row_j < p->n_positive ? p->a[row_j] : p->C[row_j] - p->a[row_j];
	t = fmin(t, fmin(room_i, room_j));
	/* At a bound it is exactly there. */
	if (row_i < p->n_positive)
		p->a[row_i] = t < room_i ? p->a[row_i] + t : p->C[row_i];
	else
		p->a[row_i] = t < room_i ? p->a[row_i] - t : 0;
	if (row_j < p->n_positive)
		p->a[row_j] = t < room_j ? p->a[row_j] - t : 0;
	else
		p->a[row_j] = t < room_j ? p->a[row_j] + t : p->C[row_j];
	set_bounds(s, i);
	set_bounds(s, j);
	p->kernels->smo_update(p->f, ki, kj, t, p->up, p->low, s->padded, &s->best);
	return true;
}

/* The border: mean of f over rows inside their bounds, else the middle of what bounds allow. */
static double
find_rho(const solver *s)
{
	const svm_problem *p = s->p;
	double		sum = 0;
	int			inside = 0;

	for (int k = 0; k < s->active; k++)
		if (p->up[k] == 0 && p->low[k] == 0)
		{
			sum += p->f[k];
			inside++;
		}
	if (inside)
		return sum / inside;
	/* One class has no rows: everything belongs to the other. */
	if (p->n_positive == 0 || p->n_positive == p->n)
		return p->n_positive ? -1 : 1;
	return -(s->best.up + s->best.low) / 2;
}

mr_code
svm_solve(svm_problem *p, mr_status *st)
{
	solver		s = {.p = p};
	int			until_shrink;
	bool		looked_again = false;
	mr_code		code;

	p->iterations = 0;
	p->converged = false;
	for (int i = 0; i < p->n; i++)
	{
		p->a[i] = 0;
		p->f[i] = i < p->n_positive ? -1 : 1;
	}
	activate_all(&s);
	select_first(&s);
	until_shrink = p->n < SHRINK_EVERY ? p->n : SHRINK_EVERY;
	while (p->max_iter == 0 || p->iterations < p->max_iter)
	{
		double		gap = s.best.up - s.best.low;

		if (--until_shrink == 0)
		{
			if (!looked_again && gap <= p->tol * 10)
			{
				looked_again = true;
				code = reconstruct(&s, st);
				if (code)
					return code;
			}
			shrink(&s);
			until_shrink = s.active < SHRINK_EVERY ? s.active : SHRINK_EVERY;
			if (p->progress)
				p->progress(p->progress_arg, p->iterations, p->max_iter, gap);
			gap = s.best.up - s.best.low;
		}
		/* A pair that promises nothing is as good as none. */
		if (!(gap >= p->tol) || !step(&s))
		{
			if (s.active == p->n)
			{
				p->converged = true;
				break;
			}
			code = reconstruct(&s, st);
			if (code)
				return code;
			/* If it is not solved: one step of all rows, then shrink again. */
			p->converged = s.best.up - s.best.low < p->tol;
			if (p->converged)
				break;
			until_shrink = 2;
			continue;
		}
		p->iterations++;
		if (interrupted(&s, (double) s.padded * 4))
			return lrn_canceled(st);
	}
	code = reconstruct(&s, st);
	if (code)
		return code;
	p->rho = find_rho(&s);
	return MR_OK;
}
