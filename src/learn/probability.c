/*
 * probability.c
 *	  Tails of the distributions that tests of drift need.
 *
 * Relative error about 1e-10, except lrn_kolmogorov_tail (asymptotic).
 */
#include "learn/sketch.h"

#include <math.h>

double
lrn_normal_two_sided(double z)
{
	return erfc(fabs(z) / M_SQRT2);
}

/* By bisection of erfc: 60 steps, wherever p is. */
double
lrn_normal_quantile(double p)
{
	double		lo = -39,
				hi = 39;

	if (!(p >= 0 && p <= 1))
		return NAN;
	for (int i = 0; i < 60; i++)
	{
		double		mid = (lo + hi) / 2;

		if (erfc(-mid / M_SQRT2) / 2 < p)
			lo = mid;
		else
			hi = mid;
	}
	return (lo + hi) / 2;
}

/*
 * Series for P below a + 1, Lentz's continued fraction for Q above
 * (Abramowitz and Stegun 6.5.29, 6.5.31).  The number of terms grows with
 * sqrt(a); past a = 1e5 the Wilson-Hilferty cube root is as good.
 */
double
lrn_gamma_q(double a, double x)
{
	double		scale;

	if (!(a > 0) || !(x >= 0))
		return NAN;
	if (x == 0)
		return 1;
	if (isinf(x))
		return 0;
	if (a > 1e5)
	{
		double		z = (cbrt(x / a) - (1 - 1 / (9 * a))) * 3 * sqrt(a);

		return erfc(z / M_SQRT2) / 2;
	}
	scale = exp(a * log(x) - x - lgamma(a));
	if (x < a + 1)
	{
		double		term = 1 / a,
					sum = term;

		for (int n = 1; n < 100000 && term > sum * 1e-16; n++)
		{
			term *= x / (a + n);
			sum += term;
		}
		return 1 - fmin(sum * scale, 1);
	}
	else
	{
		double		b = x + 1 - a,
					c = 1e300,
					d = 1 / b,
					h = d;

		for (int i = 1; i < 100000; i++)
		{
			double		an = i * (a - i),
						step;

			b += 2;
			d = an * d + b;
			d = 1 / (fabs(d) < 1e-300 ? 1e-300 : d);
			c = b + an / c;
			c = fabs(c) < 1e-300 ? 1e-300 : c;
			step = d * c;
			h *= step;
			if (fabs(step - 1) < 1e-15)
				break;
		}
		return fmin(h * scale, 1);
	}
}

double
lrn_chi2_tail(double x, double df)
{
	return lrn_gamma_q(df / 2, x / 2);
}

/* Kolmogorov's series with Stephens' (1970) correction for a finite sample. */
double
lrn_kolmogorov_tail(double d, double n)
{
	double		root = sqrt(n);
	double		t = (root + 0.12 + 0.11 / root) * d;
	double		sum = 0;

	if (!(d > 0) || !(n > 0))
		return 1;
	if (t < 0.3)				/* there the series converges slowly, to 1 - 1e-5 */
		return 1;
	for (int k = 1; k <= 100; k++)
	{
		double		term = exp(-2 * t * t * k * k);

		sum += k % 2 ? term : -term;
		if (term < 1e-17 * sum)
			break;
	}
	return fmin(fmax(2 * sum, 0), 1);
}

/*
 * Lentz's continued fraction (Numerical Recipes 6.4, Abramowitz and Stegun
 * 26.5.8); the number of terms grows with sqrt(max(a, b)).
 */
double
lrn_beta_i(double a, double b, double x)
{
	double		scale,
				c = 1,
				d,
				h;

	if (!(a > 0) || !(b > 0) || !(x >= 0 && x <= 1))
		return NAN;
	if (x == 0 || x == 1)
		return x;
	if (x > (a + 1) / (a + b + 2))
		return 1 - lrn_beta_i(b, a, 1 - x);
	scale = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
	d = 1 / (1 - (a + b) * x / (a + 1));
	h = d;
	for (int m = 1; m < 10000; m++)
	{
		double		even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
					odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
					before = h;

		d = 1 / (1 + even * d);
		c = 1 + even / c;
		h *= d * c;
		d = 1 / (1 + odd * d);
		c = 1 + odd / c;
		h *= d * c;
		if (fabs(h - before) < 1e-14 * fabs(h))
			break;
	}
	return fmin(fmax(scale * h, 0), 1);
}
