/*
 * lbfgs.c
 *	  L-BFGS with a strong Wolfe line search (Nocedal and Wright, "Numerical
 *	  Optimization", algorithms 7.4, 7.5, 3.5 and 3.6).
 *
 * Memory: 2 x 10 + 5 vectors.
 */
#include "learn/learn_int.h"

#include <math.h>
#include <string.h>

#define HISTORY		10
#define C1			1e-4		/* sufficient decrease */
#define C2			0.9			/* curvature */
#define MAX_STEPS	30			/* evaluations of one line search */

typedef struct solver
{
	size_t		n;
	lrn_objective fg;
	void	   *arg;
	double	   *x;				/* n: where the last step ended */
	double	   *g;				/* n: gradient there */
	double	   *trial;			/* n */
	double	   *trial_g;		/* n */
	double	   *dir;			/* n */
	double	   *s;				/* HISTORY x n: steps */
	double	   *y;				/* HISTORY x n: changes of gradient */
	double		rho[HISTORY];
	int			kept,
				next;
} solver;

static double
dot(const double *a, const double *b, size_t n)
{
	double		s[4] = {0, 0, 0, 0};
	size_t		i = 0;

	for (; i + 4 <= n; i += 4)
		for (int k = 0; k < 4; k++)
			s[k] += a[i + (size_t) k] * b[i + (size_t) k];
	for (; i < n; i++)
		s[0] += a[i] * b[i];
	return (s[0] + s[2]) + (s[1] + s[3]);
}

static double
largest(const double *g, size_t n)
{
	double		m = 0;

	for (size_t i = 0; i < n; i++)
		m = fabs(g[i]) > m ? fabs(g[i]) : m;
	return m;
}

/* dir = -H g, H being the inverse Hessian that the history implies. */
static void
direction(solver *v)
{
	double		alpha[HISTORY];
	size_t		n = v->n;

	for (size_t i = 0; i < n; i++)
		v->dir[i] = -v->g[i];
	for (int k = 1; k <= v->kept; k++)
	{
		int			h = (v->next - k + HISTORY) % HISTORY;
		const double *y = v->y + (size_t) h * n;

		alpha[h] = v->rho[h] * dot(v->s + (size_t) h * n, v->dir, n);
		for (size_t i = 0; i < n; i++)
			v->dir[i] -= alpha[h] * y[i];
	}
	if (v->kept > 0)
	{
		int			h = (v->next - 1 + HISTORY) % HISTORY;
		const double *y = v->y + (size_t) h * n;
		double		scale = 1 / (v->rho[h] * dot(y, y, n));

		for (size_t i = 0; i < n; i++)
			v->dir[i] *= scale;
	}
	for (int k = v->kept; k >= 1; k--)
	{
		int			h = (v->next - k + HISTORY) % HISTORY;
		const double *s = v->s + (size_t) h * n;
		double		beta = v->rho[h] * dot(v->y + (size_t) h * n, v->dir, n);

		for (size_t i = 0; i < n; i++)
			v->dir[i] += (alpha[h] - beta) * s[i];
	}
}

/* Value and slope at x + step * dir. */
static mr_code
look(solver *v, double step, double *f, double *slope)
{
	mr_code		code;

	for (size_t i = 0; i < v->n; i++)
		v->trial[i] = v->x[i] + step * v->dir[i];
	code = v->fg(v->arg, v->trial, f, v->trial_g);
	*slope = dot(v->trial_g, v->dir, v->n);
	return code;
}

/* Least point of the cubic through two points, kept within the inner 80 %. */
static double
cubic(double a, double fa, double ga, double b, double fb, double gb)
{
	double		d1 = ga + gb - 3 * (fa - fb) / (a - b);
	double		square = d1 * d1 - ga * gb;
	double		low = fmin(a, b),
				width = fabs(b - a),
				t = NAN;

	if (square >= 0)
	{
		double		d2 = copysign(sqrt(square), b - a);

		t = b - (b - a) * (gb + d2 - d1) / (gb - ga + 2 * d2);
	}
	if (!(t > low + 0.1 * width))
		t = isnan(t) ? low + 0.5 * width : low + 0.1 * width;
	return t > low + 0.9 * width ? low + 0.9 * width : t;
}

/*
 * A step with both Wolfe conditions; on return trial and trial_g belong to
 * it.  *f is updated; *moved false when nothing lower was found.
 */
static mr_code
line_search(solver *v, double step, double *f, bool *moved)
{
	double		f0 = *f,
				g0 = dot(v->g, v->dir, v->n);
	double		lo = 0,
				flo = f0,
				glo = g0,
				hi = 0,
				fhi = 0,
				ghi = 0;
	bool		bracketed = false;

	*moved = false;
	for (int i = 0; i < MAX_STEPS; i++)
	{
		double		ft,
					gt;
		mr_code		code = look(v, step, &ft, &gt);

		if (code)
			return code;
		/* The tolerance lets the last steps end despite rounding of f. */
		if (!(ft <= f0 + C1 * step * g0 + 1e-15 * fabs(f0)) || (ft >= flo && lo > 0))
		{
			hi = step;
			fhi = ft;
			ghi = gt;
			bracketed = true;
		}
		else
		{
			if (fabs(gt) <= -C2 * g0)
			{
				*f = ft;
				*moved = true;
				return MR_OK;
			}
			if (bracketed ? gt * (hi - lo) >= 0 : gt >= 0)
			{
				hi = lo;
				fhi = flo;
				ghi = glo;
				bracketed = true;
			}
			lo = step;
			flo = ft;
			glo = gt;
		}
		if (!bracketed)
			step *= 2.5;
		else
		{
			if (fabs(hi - lo) <= 1e-14 * fmax(hi, lo))
				break;
			step = isfinite(fhi) ? cubic(lo, flo, glo, hi, fhi, ghi) : (lo + hi) / 2;
		}
	}
	if (lo > 0 && flo < f0)
	{
		double		slope;
		mr_code		code = look(v, lo, f, &slope);

		*moved = code == MR_OK;
		return code;
	}
	return MR_OK;
}

mr_code
lrn_lbfgs(const mr_env *env, size_t n, double *x, lrn_objective fg, void *arg,
		  int max_iter, double tol, lrn_progress progress, void *progress_arg,
		  int *iterations, bool *converged, double *value, mr_status *st)
{
	solver		v = {.n = n, .fg = fg, .arg = arg, .x = x};
	double	   *memory = mr_alloc(env, n * (4 + 2 * HISTORY) * sizeof(double));
	double		f;
	mr_code		code;

	if (memory == NULL)
		return lrn_out_of_memory(st);
	v.g = memory;
	v.trial = v.g + n;
	v.trial_g = v.trial + n;
	v.dir = v.trial_g + n;
	v.s = v.dir + n;
	v.y = v.s + HISTORY * n;

	*converged = false;
	code = fg(arg, x, &f, v.g);
	for (*iterations = 0; code == MR_OK; ++*iterations)
	{
		double	   *s = v.s + (size_t) v.next * n,
				   *y = v.y + (size_t) v.next * n;
		double		sy,
					before = f;
		bool		moved;

		if (largest(v.g, n) <= tol)
		{
			*converged = true;
			break;
		}
		if (*iterations == max_iter)
			break;
		direction(&v);
		if (!(dot(v.g, v.dir, n) < 0))
		{
			/* Rounding spoilt the history: begin anew with the gradient. */
			v.kept = 0;
			direction(&v);
		}
		code = line_search(&v, v.kept ? 1.0 : 1.0 / fmax(sqrt(dot(v.g, v.g, n)), 1e-300), &f, &moved);
		if (code)
			break;
		if (!moved)
		{
			if (v.kept == 0)
			{
				*converged = true;	/* as low as doubles can tell */
				break;
			}
			v.kept = 0;
			continue;
		}
		for (size_t i = 0; i < n; i++)
		{
			s[i] = v.trial[i] - x[i];
			y[i] = v.trial_g[i] - v.g[i];
		}
		sy = dot(s, y, n);
		memcpy(x, v.trial, n * sizeof(double));
		memcpy(v.g, v.trial_g, n * sizeof(double));
		if (sy > 1e-300)
		{
			v.rho[v.next] = 1 / sy;
			v.next = (v.next + 1) % HISTORY;
			v.kept = v.kept < HISTORY ? v.kept + 1 : HISTORY;
		}
		if (progress)
			progress(progress_arg, *iterations + 1, max_iter, f);
		/* As scipy's ftol with scikit-learn's 64 eps. */
		if (before - f <= 64 * 2.220446049250313e-16 * fmax(fmax(fabs(before), fabs(f)), 1) && before >= f)
		{
			*converged = true;
			++*iterations;
			break;
		}
	}
	*value = f;
	mr_free(env, memory);
	return code;
}
