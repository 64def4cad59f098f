/*
 * quantize_range.c
 *	  Ranges of activations: see quantize_range.h.
 */
#include "nn/quantize_range.h"

#include <math.h>
#include <string.h>

#define HALF NN_RANGE_HALF
#define LEVELS 256				/* of a uint8 */

static void
widen(nn_range *r, float most)
{
	if (r->reach == 0)
	{
		r->reach = ldexp(1, ilogbf(most) + 1);
		return;
	}
	while (most >= r->reach)
	{
		uint64_t	joined[2 * HALF] = {0};

		for (int i = 0; i < 2 * HALF; i++)
			joined[HALF / 2 + i / 2] += r->bins[i];
		memcpy(r->bins, joined, sizeof(joined));
		r->reach *= 2;
	}
}

void
nn_range_add(nn_range *r, const float *x, size_t n)
{
	float		lo = r->lo,
				hi = r->hi;
	float		most;
	float		bins_per_unit;

	for (size_t i = 0; i < n; i++)
	{
		if (!isfinite(x[i]))
		{
			r->not_finite = true;
			return;
		}
		lo = x[i] < lo ? x[i] : lo;
		hi = x[i] > hi ? x[i] : hi;
	}
	r->lo = lo;
	r->hi = hi;
	r->seen += (int64_t) n;
	most = hi > -lo ? hi : -lo;
	if (most < 1e-30f)
		return;
	widen(r, most);
	bins_per_unit = (float) (HALF / r->reach);
	for (size_t i = 0; i < n; i++)
		if (x[i] != 0)
		{
			int			b = (int) floorf(x[i] * bins_per_unit) + HALF;

			r->bins[b < 0 ? 0 : b >= 2 * HALF ? 2 * HALF - 1 : b]++;
		}
}

/* What is left when (100 - percentile) % of the non-zero values are cut off,
 * each tail its share. */
static void
by_percentile(const nn_range *r, double percentile, float *lo, float *hi)
{
	double		width = r->reach / HALF;
	double		total = 0,
				cut,
				sum;
	int			b;

	for (b = 0; b < 2 * HALF; b++)
		total += (double) r->bins[b];
	cut = total * (100 - percentile) / 100 / 2;
	for (b = 0, sum = 0; b < HALF && sum + (double) r->bins[b] <= cut; b++)
		sum += (double) r->bins[b];
	*lo = fmaxf(r->lo, (float) ((b - HALF) * width));
	for (b = 2 * HALF - 1, sum = 0; b >= HALF && sum + (double) r->bins[b] <= cut; b--)
		sum += (double) r->bins[b];
	*hi = fminf(r->hi, (float) ((b + 1 - HALF) * width));
}

/*
 * Kullback-Leibler divergence of the values as they are, those outside of bins
 * [from, to) moved to its ends, from the same after rounding to 256 levels.
 */
static double
divergence(const nn_range *r, int from, int to)
{
	double		below = 0,
				above = 0,
				total = 0,
				kl = 0;
	double		levels = to - from < LEVELS ? to - from : LEVELS;

	for (int b = 0; b < 2 * HALF; b++)
	{
		total += (double) r->bins[b];
		if (b < from)
			below += (double) r->bins[b];
		else if (b >= to)
			above += (double) r->bins[b];
	}
	for (int level = 0; level < (int) levels; level++)
	{
		int			b0 = from + (int) (level * (to - from) / levels);
		int			b1 = from + (int) ((level + 1) * (to - from) / levels);
		double		sum = 0;
		int			used = 0;

		/* outliers are in the original, and not in what 8 bits can tell apart */
		for (int b = b0; b < b1; b++)
		{
			sum += (double) r->bins[b];
			used += r->bins[b] > 0;
		}
		for (int b = b0; b < b1; b++)
		{
			double		p = (double) r->bins[b] + (b == from ? below : 0) + (b == to - 1 ? above : 0);
			double		q = r->bins[b] > 0 ? sum / used : 0;

			if (p > 0)
				kl += p / total * log(p / fmax(q, 1e-3));
		}
	}
	return kl;
}

static void
by_entropy(const nn_range *r, float *lo, float *hi)
{
	double		width = r->reach / HALF;
	int			low = HALF,
				high = HALF;
	int			best = 0;
	double		least = INFINITY;

	for (int b = 0; b < 2 * HALF; b++)
		if (r->bins[b])
		{
			low = b < low ? b : low;
			high = b + 1 > high ? b + 1 : high;
		}
	/* the threshold is alike on both sides, as far as there are values */
	for (int t = LEVELS / 2; t <= HALF; t += HALF / 128)
	{
		int			from = HALF - t > low ? HALF - t : low;
		int			to = HALF + t < high ? HALF + t : high;
		double		kl = from < to ? divergence(r, from, to) : INFINITY;

		if (kl < least)
		{
			least = kl;
			best = t;
		}
		if (from == low && to == high)
			break;
	}
	*lo = fmaxf(r->lo, (float) (-best * width));
	*hi = fminf(r->hi, (float) (best * width));
}

void
nn_range_limits(const nn_range *r, nn_quant_method method, double percentile, float *lo, float *hi)
{
	*lo = r->lo;
	*hi = r->hi;
	if (r->reach == 0)
		*lo = *hi = 0;
	else if (method == nn_quant_percentile)
		by_percentile(r, percentile, lo, hi);
	else if (method == nn_quant_entropy)
		by_entropy(r, lo, hi);
}

void
nn_range_scale(float lo, float hi, float *scale, int *zero)
{
	float		s = (hi - lo) / (LEVELS - 1);

	if (!(s > 1e-30f))
	{
		*scale = 1;
		*zero = 0;
		return;
	}
	*scale = s;
	*zero = (int) lrintf(-lo / s);
	*zero = *zero < 0 ? 0 : *zero > 255 ? 255 : *zero;
}
