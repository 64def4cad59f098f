/*
 * boost_hist.c
 *	  Histograms of a leaf: where nearly all the time of training goes.
 *
 * Eight columns at a time: their bins of a row are one word, their histograms
 * (33 kB) stay in the first-level cache, and a tile of rows stays in the
 * second while one group of columns follows the other.  Everything is an
 * integer addition of 16 bytes, so that order does not matter.
 */
#include "learn/boost.h"

#include <string.h>

#define TILE	1024
#define AHEAD	24				/* rows fetched before they are needed */

/* A row as it is added up. */
static inline boost_sum
sum_of(boost_pair p, int row_bits)
{
	return (boost_sum) {p.g, (int64_t) ((uint64_t) p.h << row_bits | 1)};
}

boost_sum
boost_total(const boost_builder *b, const uint32_t *row, uint32_t n)
{
	boost_sum	sum = {0, 0};

	for (uint32_t i = 0; i < n; i++)
		sum += sum_of(b->pair[row ? row[i] : i], b->row_bits);
	return sum;
}

static inline void
add_row(boost_sum *hist, uint64_t bins, boost_sum s)
{
	for (int c = 0; c < BOOST_GROUP; c++)
		hist[c * BOOST_STRIDE + (int) (bins >> (8 * c) & 255)] += s;
}

/* One group of columns, one tile of rows. */
static void
add_rows(const boost_builder *b, const uint32_t *row, uint32_t n, int group, boost_sum *hist)
{
	const uint64_t *bins = b->bins + group;
	const boost_pair *pair = b->pair;
	size_t		stride = (size_t) b->stride;
	int			bits = b->row_bits;
	uint32_t	i = 0;

	for (; i + AHEAD < n; i++)
	{
		uint32_t	r = row[i];

		__builtin_prefetch(bins + row[i + AHEAD] * stride);
		__builtin_prefetch(pair + row[i + AHEAD]);
		add_row(hist, bins[r * stride], sum_of(pair[r], bits));
	}
	for (; i < n; i++)
		add_row(hist, bins[row[i] * stride], sum_of(pair[row[i]], bits));
}

/* The same for rows that follow each other. */
static void
add_stretch(const boost_builder *b, uint32_t first, uint32_t n, int group, boost_sum *hist)
{
	const uint64_t *bins = b->bins + (size_t) first * (size_t) b->stride + (size_t) group;
	size_t		stride = (size_t) b->stride;

	for (uint32_t i = 0; i < n; i++)
		add_row(hist, bins[i * stride], sum_of(b->pair[first + i], b->row_bits));
}

mr_code
boost_histogram(boost_builder *b, const uint32_t *row, uint32_t n, boost_sum *hist, mr_status *st)
{
	memset(hist, 0, b->slot_size * sizeof(boost_sum));
	for (uint32_t i = 0; i < n; i += TILE)
	{
		uint32_t	take = n - i < TILE ? n - i : TILE;

		for (int g = 0; g < b->stride; g++)
		{
			boost_sum  *h = hist + (size_t) g * BOOST_GROUP * BOOST_STRIDE;

			if (!b->use_group[g])
				continue;
			if (row)
				add_rows(b, row + i, take, g, h);
			else
				add_stretch(b, i, take, g, h);
			if (boost_work(b, (int64_t) take * BOOST_GROUP, st))
				return MR_CANCELED;
		}
	}
	return boost_work(b, (int64_t) b->slot_size / 2, st);
}

void
boost_subtract(const boost_builder *b, boost_sum *a, const boost_sum *other)
{
	for (int c = 0; c < b->n_columns; c++)
	{
		boost_sum  *x = a + (size_t) c * BOOST_STRIDE;
		const boost_sum *y = other + (size_t) c * BOOST_STRIDE;

		for (int bin = 0; bin <= b->column[c].n_bins; bin++)
			x[bin] -= y[bin];
	}
}
