/*
 * eigen.c
 *	  Leading eigenpairs of a symmetric matrix, in double, interruptible.
 *
 * 1. Householder reflections make the matrix tridiagonal (as EISPACK's tred2,
 *	  from the last row up, by the lower triangle).  O(n^3), done by kernels.
 * 2. Implicit QL gives all eigenvalues of the tridiagonal matrix.  O(n^2).
 * 3. Inverse iteration gives the k eigenvectors wanted, made orthogonal to
 *	  those of close eigenvalues (as LAPACK's dstein).  O(n k^2) at worst.
 * 4. The reflections take them back.  O(n^2 k).
 */
#include "learn/learn_int.h"

#include <float.h>
#include <math.h>
#include <string.h>

size_t
lrn_eigen_memory(int n, int k)
{
	(void) k;
	return lrn_padded(n) * 14 * sizeof(double);
}

static double
dot(const double *a, const double *b, int n)
{
	double		s[4] = {0, 0, 0, 0};
	int			i = 0;

	for (; i + 4 <= n; i += 4)
		for (int k = 0; k < 4; k++)
			s[k] += a[i + k] * b[i + k];
	for (; i < n; i++)
		s[0] += a[i] * b[i];
	return (s[0] + s[2]) + (s[1] + s[3]);
}

/*
 * Row i of the lower triangle is left with its reflection's vector v (length
 * i), H = I - v v' / half where half = |v|^2 / 2; half[i] = 0 means none.
 */
static mr_code
tridiagonalise(const mr_env *env, const lrn_kernels *kern, double *a, int n, int ld,
			   double *diag, double *off, double *half, double *p, mr_status *st)
{
	for (int i = n - 1; i > 0; i--)
	{
		double	   *row = a + (size_t) i * (size_t) ld;
		double		scale = 0,
					norm,
					f,
					k;

		diag[i] = row[i];
		half[i] = 0;
		for (int j = 0; j < i; j++)
			scale = fmax(scale, fabs(row[j]));
		if (i == 1 || scale == 0)
		{
			off[i] = row[i - 1];
			continue;
		}
		/* Scaled so that squares neither vanish nor overflow. */
		for (int j = 0; j < i; j++)
			row[j] /= scale;
		norm = dot(row, row, i);
		f = row[i - 1];
		if (norm - f * f <= 0)
		{
			/* Already reduced. */
			off[i] = scale * f;
			continue;
		}
		norm = f >= 0 ? -sqrt(norm) : sqrt(norm);
		off[i] = scale * norm;
		row[i - 1] = f - norm;
		half[i] = norm * norm - f * norm;

		/* p = A v / half; then A -= v w' + w v' with w = p - (p'v / 2 half) v. */
		kern->symv(a, ld, i, row, p);
		for (int j = 0; j < i; j++)
			p[j] /= half[i];
		k = dot(p, row, i) / (2 * half[i]);
		for (int j = 0; j < i; j++)
			p[j] -= k * row[j];
		kern->syr2(a, ld, i, row, p);
		if (mr_interrupted(env))
			return lrn_canceled(st);
	}
	diag[0] = a[0];
	off[0] = 0;
	half[0] = 0;
	return MR_OK;
}

/* Eigenvalues of the tridiagonal matrix by implicit QL; e[i] couples i-1, i. */
static mr_code
ql_values(double *d, double *e, int n, mr_status *st)
{
	for (int i = 1; i < n; i++)
		e[i - 1] = e[i];
	e[n - 1] = 0;
	for (int l = 0; l < n; l++)
		for (int turn = 0;; turn++)
		{
			int			m = l;
			double		g,
						r,
						s = 1,
						c = 1,
						p = 0;
			int			i;

			for (; m < n - 1; m++)
				if (fabs(e[m]) <= DBL_EPSILON * (fabs(d[m]) + fabs(d[m + 1])))
					break;
			if (m == l)
				break;
			if (turn == 60)
				return mr_fail(st, MR_INTERNAL, "eigenvalues did not converge");
			g = (d[l + 1] - d[l]) / (2 * e[l]);
			r = hypot(g, 1);
			g = d[m] - d[l] + e[l] / (g + copysign(r, g));
			for (i = m - 1; i >= l; i--)
			{
				double		f = s * e[i],
							b = c * e[i];

				r = hypot(f, g);
				e[i + 1] = r;
				if (r == 0)
				{
					d[i + 1] -= p;
					e[m] = 0;
					break;
				}
				s = f / r;
				c = g / r;
				g = d[i + 1] - p;
				r = (d[i] - g) * s + 2 * c * b;
				p = s * r;
				d[i + 1] = g + p;
				g = c * r - b;
			}
			if (r == 0 && i >= l)
				continue;
			d[l] -= p;
			e[l] = g;
			e[m] = 0;
		}
	return MR_OK;
}

/* A triangular factor of T - lambda I with row exchanges. */
typedef struct factor
{
	double	   *u0,
			   *u1,
			   *u2;				/* diagonals of U */
	double	   *l;				/* multipliers */
	bool	   *swapped;
} factor;

static void
factorise(const double *diag, const double *off, int n, double lambda, double tiny, factor *f)
{
	double		a = diag[0] - lambda,
				b = n > 1 ? off[1] : 0;

	for (int i = 0; i < n - 1; i++)
	{
		double		c = off[i + 1],
					next_a = diag[i + 1] - lambda,
					next_b = i + 2 < n ? off[i + 2] : 0;

		f->swapped[i] = fabs(c) > fabs(a);
		if (f->swapped[i])
		{
			f->u0[i] = c;
			f->u1[i] = next_a;
			f->u2[i] = next_b;
			f->l[i] = a / c;
			a = b - f->l[i] * next_a;
			b = -f->l[i] * next_b;
		}
		else
		{
			f->u0[i] = a == 0 ? tiny : a;
			f->u1[i] = b;
			f->u2[i] = 0;
			f->l[i] = c / f->u0[i];
			a = next_a - f->l[i] * b;
			b = next_b;
		}
	}
	f->u0[n - 1] = a == 0 ? tiny : a;
	f->u1[n - 1] = f->u2[n - 1] = 0;
}

static void
solve(const factor *f, int n, double *x)
{
	for (int i = 0; i < n - 1; i++)
	{
		if (f->swapped[i])
		{
			double		t = x[i];

			x[i] = x[i + 1];
			x[i + 1] = t - f->l[i] * x[i];
		}
		else
			x[i + 1] -= f->l[i] * x[i];
	}
	for (int i = n - 1; i >= 0; i--)
	{
		double		t = x[i];

		if (i + 1 < n)
			t -= f->u1[i] * x[i + 1];
		if (i + 2 < n)
			t -= f->u2[i] * x[i + 2];
		x[i] = t / f->u0[i];
	}
}

/*
 * Unit eigenvectors for the first k values (descending).  Close values share
 * a subspace in which any base will do: theirs are made orthogonal.
 */
static mr_code
inverse_iterate(const mr_env *env, const double *diag, const double *off, int n, int k,
				const double *values, double *vectors, double norm, factor *f, mr_status *st)
{
	double		close = 1e-3 * norm,
				tiny = DBL_EPSILON * norm;
	int			group = 0;
	double		used = INFINITY;
	lrn_rng		rng;

	if (tiny == 0)
		tiny = DBL_MIN;
	lrn_rng_seed(&rng, 1, 0);
	for (int c = 0; c < k; c++)
	{
		double	   *x = vectors + (size_t) c * (size_t) n;
		double		lambda = values[c];

		if (c > 0 && values[c - 1] - values[c] > close)
			group = c;
		/* Equal values: part the shifts a little, as dstein does. */
		if (c > group && used - lambda < 10 * tiny)
			lambda = used - 10 * tiny;
		used = lambda;
		factorise(diag, off, n, lambda, tiny, f);
		for (int i = 0; i < n; i++)
			x[i] = (double) (lrn_rng_next(&rng) >> 11) * 0x1p-53 - 0.5;
		for (int turn = 0; turn < 5; turn++)
		{
			double		length,
						top = 0;

			for (int i = 0; i < n; i++)
				top = fmax(top, fabs(x[i]));
			for (int i = 0; i < n; i++)
				x[i] *= tiny / top;
			solve(f, n, x);
			for (int again = 0; again < 2; again++)
				for (int other = group; other < c; other++)
				{
					const double *o = vectors + (size_t) other * (size_t) n;
					double		s = dot(x, o, n);

					for (int i = 0; i < n; i++)
						x[i] -= s * o[i];
				}
			length = sqrt(dot(x, x, n));
			if (!(length > 0) || !isfinite(length))
			{
				for (int i = 0; i < n; i++)
					x[i] = (double) (lrn_rng_next(&rng) >> 11) * 0x1p-53 - 0.5;
				continue;
			}
			for (int i = 0; i < n; i++)
				x[i] /= length;
		}
		if (!isfinite(x[0]) || fabs(dot(x, x, n) - 1) > 1e-8)
			return mr_fail(st, MR_INTERNAL, "eigenvector %d did not converge", c + 1);
		if (mr_interrupted(env))
			return lrn_canceled(st);
	}
	return MR_OK;
}

mr_code
lrn_eigen(const mr_env *env, double *a, int n, int k, double *values, double *vectors, mr_status *st)
{
	const lrn_kernels *kern = lrn_kernels_for(LRN_ISA_AUTO);
	size_t		ld = lrn_padded(n);
	double	   *memory = mr_alloc(env, ld * 12 * sizeof(double));
	bool	   *swapped = mr_alloc(env, ld * sizeof(bool));
	double	   *diag,
			   *off,
			   *half,
			   *e;
	double		norm = 0;
	factor		f;
	mr_code		code;

	if (memory == NULL || swapped == NULL)
	{
		mr_free(env, memory);
		mr_free(env, swapped);
		return lrn_out_of_memory(st);
	}
	diag = memory;
	off = memory + ld;
	half = memory + 2 * ld;
	e = memory + 3 * ld;
	f = (factor) {memory + 4 * ld, memory + 5 * ld, memory + 6 * ld, memory + 7 * ld, swapped};

	code = tridiagonalise(env, kern, a, n, (int) ld, diag, off, half, memory + 8 * ld, st);
	if (code == MR_OK)
	{
		memcpy(values, diag, (size_t) n * sizeof(double));
		memcpy(e, off, (size_t) n * sizeof(double));
		for (int i = 0; i < n; i++)
			norm = fmax(norm, fabs(diag[i]) + fabs(off[i]) + (i + 1 < n ? fabs(off[i + 1]) : 0));
		code = ql_values(values, e, n, st);
	}
	if (code == MR_OK)
	{
		/* Nearly sorted: insertion is enough. */
		for (int i = 1; i < n; i++)
		{
			double		v = values[i];
			int			j = i;

			for (; j > 0 && values[j - 1] < v; j--)
				values[j] = values[j - 1];
			values[j] = v;
		}
		code = inverse_iterate(env, diag, off, n, k, values, vectors, norm, &f, st);
	}
	/* The reflections were applied from the last row up: undo from row 2 on. */
	for (int i = 2; i < n && code == MR_OK; i++)
	{
		const double *v = a + (size_t) i * ld;

		if (half[i] == 0)
			continue;
		for (int c = 0; c < k; c++)
		{
			double	   *x = vectors + (size_t) c * (size_t) n;
			double		s = dot(v, x, i) / half[i];

			for (int j = 0; j < i; j++)
				x[j] -= s * v[j];
		}
		if ((i & 15) == 0 && mr_interrupted(env))
			code = lrn_canceled(st);
	}
	mr_free(env, memory);
	mr_free(env, swapped);
	return code;
}
