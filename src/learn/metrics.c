/*
 * metrics.c
 *	  Figures of probabilities and of values, by scikit-learn's definitions.
 */
#include "learn/metrics.h"

#include <math.h>

int
lrn_bin_of(double p, int n)
{
	double		width = 1.0 / n;
	int			b = (int) (p * n);

	b = b < 0 ? 0 : b >= n ? n - 1 : b;
	/* p x n is rounded: the edges themselves decide. */
	while (b > 0 && p <= b * width)
		b--;
	while (b < n - 1 && p > (b + 1) * width)
		b++;
	return b;
}

double
lrn_calibration_error(const lrn_bin *bin, int n)
{
	double		error = 0;
	int64_t		rows = 0;

	for (int b = 0; b < n; b++)
	{
		rows += bin[b].n;
		error += fabs(bin[b].sum - (double) bin[b].right);
	}
	return rows ? error / (double) rows : NAN;
}

double
lrn_log_loss(double p)
{
	return -log(fmin(fmax(p, 2.220446049250313e-16), 1));
}

/* Mean and spread by Welford, "Note on a method for calculating corrected sums
 * of squares and products" (1962). */
void
lrn_residuals_add(lrn_residuals *s, double truth, double predicted)
{
	double		error = predicted - truth,
				delta = truth - s->mean;

	s->n++;
	s->absolute += fabs(error);
	s->square += error * error;
	s->mean += delta / (double) s->n;
	s->spread += delta * (truth - s->mean);
}

/* Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
 * computing sample variances" (1979). */
void
lrn_residuals_merge(lrn_residuals *s, const lrn_residuals *o)
{
	double		n = (double) (s->n + o->n),
				delta = o->mean - s->mean;

	if (o->n == 0)
		return;
	s->spread += o->spread + delta * delta * (double) s->n * (double) o->n / n;
	s->mean += delta * (double) o->n / n;
	s->n += o->n;
	s->absolute += o->absolute;
	s->square += o->square;
}

double
lrn_r2(const lrn_residuals *s)
{
	if (s->n < 2)
		return NAN;
	if (s->spread > 0)
		return 1 - s->square / s->spread;
	return s->square > 0 ? 0 : 1;
}
