/*
 * boost_bin.c
 *	  Columns to bins of one byte.
 *
 * Numbers: a bin per distinct value where there are few, else bins of about
 * equal numbers of rows, in which a frequent value has a bin of its own
 * (LightGBM's GreedyFindBin).  Past SAMPLE rows the borders come from a
 * stratified sample.  Categories: the most frequent codes have a bin each,
 * the others share one.
 *
 * Bins are kept twice: by row, all columns of a row together, for histograms;
 * and by column, for moving rows to their leaf.
 */
#include "learn/boost.h"

#include <math.h>
#include <string.h>

#define SAMPLE	200000
#define TILE	4096			/* rows that stay in the cache while columns change */

/* Order-preserving map of a float's bits, and back. */
static inline uint32_t
key_of(float x)
{
	uint32_t	u;

	x += 0.0f;					/* -0 is 0 */
	memcpy(&u, &x, sizeof(u));
	return u ^ ((uint32_t) ((int32_t) u >> 31) | 0x80000000u);
}

static inline float
value_of(uint32_t key)
{
	uint32_t	u = key & 0x80000000u ? key ^ 0x80000000u : ~key;
	float		x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

/* Sort n keys: three passes of 11, 11 and 10 bits. */
static uint32_t *
radix_sort(uint32_t *a, uint32_t *b, size_t n)
{
	static const int shift[3] = {0, 11, 22};
	uint32_t	count[2048];

	for (int pass = 0; pass < 3; pass++)
	{
		int			s = shift[pass];
		uint32_t	sum = 0;
		uint32_t   *swap = a;

		memset(count, 0, sizeof(count));
		for (size_t i = 0; i < n; i++)
			count[(a[i] >> s) & 2047]++;
		for (int i = 0; i < 2048; i++)
		{
			uint32_t	c = count[i];

			count[i] = sum;
			sum += c;
		}
		for (size_t i = 0; i < n; i++)
			b[count[(a[i] >> s) & 2047]++] = a[i];
		a = b;
		b = swap;
	}
	return a;
}

/* A number x with low <= x < high, in the middle where there is one. */
static float
between(float low, float high)
{
	float		middle = (float) (((double) low + (double) high) / 2);

	return middle < high ? middle : low;
}

/*
 * Borders of at most max_bins bins over n > max_bins distinct values with
 * their counts; returns the number of bins.
 */
static int
share_out(const float *value, const uint32_t *count, uint32_t n, int max_bins, float *upper)
{
	double		rest = 0,
				filled = 0,
				frequent,
				mean;
	int			rest_bins = max_bins,
				bins = 1;

	for (uint32_t i = 0; i < n; i++)
		rest += count[i];
	/* Frequent values take a bin each; the others share what is left. */
	frequent = rest / max_bins;
	for (uint32_t i = 0; i < n; i++)
		if (count[i] >= frequent)
		{
			rest_bins--;
			rest -= count[i];
		}
	mean = rest / (rest_bins > 0 ? rest_bins : 1);
	for (uint32_t i = 0; i + 1 < n && bins < max_bins; i++)
	{
		bool		big = count[i] >= frequent;

		filled += count[i];
		if (!big)
			rest -= count[i];
		if (big || filled >= mean || (count[i + 1] >= frequent && filled >= fmax(1, mean / 2)))
		{
			upper[bins++ - 1] = between(value[i], value[i + 1]);
			filled = 0;
			if (!big)
			{
				rest_bins--;
				mean = rest / (rest_bins > 0 ? rest_bins : 1);
			}
		}
	}
	return bins;
}

static int
find_borders(const float *value, const uint32_t *count, uint32_t n, int max_bins, float *upper)
{
	if (n > (uint32_t) max_bins)
		return share_out(value, count, n, max_bins, upper);
	for (uint32_t i = 0; i + 1 < n; i++)
		upper[i] = between(value[i], value[i + 1]);
	return n ? (int) n : 1;
}

/*
 * Zero is a border of its own where a column has both signs, as in LightGBM:
 * what is measured around zero often changes its meaning there.
 */
static int
find_signed_borders(const float *value, const uint32_t *count, uint32_t n, int max_bins, float *upper)
{
	uint32_t	below = 0,		/* distinct values */
				zeros = 0;
	double		rows_below = 0,
				rows = 0;
	int			bins_below,
				bins;

	for (uint32_t i = 0; i < n; i++)
	{
		below += value[i] < 0;
		zeros += value[i] == 0;
		rows_below += value[i] < 0 ? count[i] : 0;
		rows += value[i] != 0 ? count[i] : 0;
	}
	if (below == 0 || below + zeros == n || n <= (uint32_t) max_bins || max_bins < 4)
		return find_borders(value, count, n, max_bins, upper);
	bins_below = (int) (rows_below / rows * (max_bins - 1));
	bins_below = bins_below < 1 ? 1 : bins_below > max_bins - 2 ? max_bins - 2 : bins_below;
	bins = find_borders(value, count, below, bins_below, upper);
	upper[bins++ - 1] = between(value[below - 1], 0);
	if (zeros)
		upper[bins++ - 1] = between(0, value[below + 1]);
	return bins - 1 + find_borders(value + below + zeros, count + below + zeros, n - below - zeros,
								   max_bins - bins + 1, upper + bins - 1);
}

typedef struct scratch
{
	uint32_t   *key;			/* SAMPLE each */
	uint32_t   *tmp;
	float	   *value;
	uint32_t   *count;
} scratch;

/* Borders of a column of numbers; upper holds BOOST_MAX_BINS. */
static void
number_borders(boost_builder *b, boost_column *col, const scratch *s)
{
	const float *x = b->m->col[col->feature];
	uint32_t	n = 0,
				distinct = 0;
	uint32_t   *key;

	if (b->rows <= SAMPLE)
	{
		for (uint32_t i = 0; i < b->rows; i++)
			if (!isnan(x[i]))
				s->key[n++] = key_of(x[i]);
	}
	else
	{
		lrn_rng		rng;

		lrn_rng_seed(&rng, b->p->random_state, 1);
		for (uint64_t i = 0; i < SAMPLE; i++)
		{
			uint32_t	first = (uint32_t) (i * b->rows / SAMPLE),
						end = (uint32_t) ((i + 1) * b->rows / SAMPLE);
			float		v = x[first + lrn_rng_below(&rng, end - first)];

			if (!isnan(v))
				s->key[n++] = key_of(v);
		}
	}
	key = radix_sort(s->key, s->tmp, n);
	for (uint32_t i = 0; i < n; i++)
		if (i == 0 || key[i] != key[i - 1])
		{
			s->value[distinct] = value_of(key[i]);
			s->count[distinct++] = 1;
		}
		else
			s->count[distinct - 1]++;
	col->n_bins = find_signed_borders(s->value, s->count, distinct, b->p->max_bins, col->upper);
}

/* How many borders lie below x, branchless: 16 values search side by side. */
static void
bin_numbers(const boost_column *col, const float *x, uint32_t n, uint8_t *bin)
{
	float		upper[256];
	uint32_t	n_upper = (uint32_t) col->n_bins - 1;

	for (uint32_t i = 0; i < 256; i++)
		upper[i] = i < n_upper ? col->upper[i] : INFINITY;
	for (uint32_t i = 0; i < n; i += 16)
	{
		uint32_t	at[16] = {0};
		uint32_t	take = n - i < 16 ? n - i : 16;

		for (uint32_t half = 128; half > 0; half /= 2)
			for (uint32_t lane = 0; lane < take; lane++)
				at[lane] += x[i + lane] > upper[at[lane] + half - 1] ? half : 0;
		for (uint32_t lane = 0; lane < take; lane++)
			bin[i + lane] = (uint8_t) (isnan(x[i + lane]) ? (uint32_t) col->n_bins : at[lane]);
	}
}

/* Codes out of range were refused before. */
static void
bin_codes(const boost_column *col, const uint8_t *bin_of, const float *x, uint32_t n, uint8_t *bin)
{
	for (uint32_t i = 0; i < n; i++)
		bin[i] = isnan(x[i]) ? (uint8_t) col->n_bins : bin_of[(uint32_t) x[i]];
}

/* The most frequent codes of a category column, ties by code; bin_of: a byte a category. */
static mr_code
find_codes(boost_builder *b, boost_column *col, boost_codes *codes, uint8_t **bin_of, mr_status *st)
{
	const float *x = b->m->col[col->feature];
	uint32_t	n = (uint32_t) b->m->n_categories[col->feature];
	uint32_t   *count = boost_alloc(b, n, sizeof(uint32_t), st);
	int			most = b->p->max_bins - 1 < BOOST_MOST_OWN ? b->p->max_bins - 1 : BOOST_MOST_OWN;
	mr_code		code = MR_OK;

	if (count == NULL)
		return st->code;
	*bin_of = boost_alloc(b, n, 1, st);
	codes->own = *bin_of ? boost_alloc(b, (size_t) most, sizeof(int32_t), st) : NULL;
	if (codes->own == NULL)
	{
		boost_free(b, count, n, sizeof(uint32_t));
		return st->code;
	}
	codes->n_categories = (int32_t) n;
	memset(count, 0, n * sizeof(uint32_t));
	for (uint32_t i = 0; i < b->rows && code == MR_OK; i++)
	{
		if (i % TILE == 0)
			code = boost_work(b, TILE * 2, st);
		if (isnan(x[i]) || code)
			continue;
		if (!(x[i] >= 0 && x[i] < (float) n) || x[i] != floorf(x[i]))
			code = mr_fail(st, MR_INVALID, "column %d holds %g, which is no category of 0 to %u",
						   col->feature + 1, x[i], n - 1);
		else
			count[(uint32_t) x[i]]++;
	}
	/* A histogram of counts would be faster; categories are few. */
	while (code == MR_OK && codes->n_own < most)
	{
		uint32_t	best = 0;

		for (uint32_t c = 1; c < n; c++)
			if (count[c] > count[best])
				best = c;
		if (count[best] == 0)
			break;
		codes->own[codes->n_own++] = (int32_t) best;
		count[best] = 0;
		code = boost_work(b, n, st);
	}
	memset(*bin_of, codes->n_own, n);
	for (int i = 0; i < codes->n_own; i++)
		(*bin_of)[codes->own[i]] = (uint8_t) i;
	col->n_bins = codes->n_own + 1;
	boost_free(b, count, n, sizeof(uint32_t));
	return code;
}

/* One column's borders and bins; those that tell nothing are dropped. */
static mr_code
bin_column(boost_builder *b, int feature, const scratch *s, mr_status *st)
{
	boost_column *col = &b->column[b->n_columns];
	const float *x = b->m->col[feature];
	uint8_t    *bin_of = NULL;
	size_t		n_bytes = 0;
	uint32_t	missing = 0,
				first = 0;
	mr_code		code = MR_OK;
	bool		differ = false;

	*col = (boost_column) {.feature = feature};
	col->category = b->m->n_categories && b->m->n_categories[feature] > 0;
	if (col->category)
	{
		n_bytes = (size_t) b->m->n_categories[feature];
		code = find_codes(b, col, &b->codes[feature], &bin_of, st);
	}
	else
	{
		col->upper = boost_alloc(b, BOOST_MAX_BINS, sizeof(float), st);
		if (col->upper == NULL)
			return st->code;
		number_borders(b, col, s);
		code = boost_work(b, (int64_t) SAMPLE * 10, st);
	}
	if (code == MR_OK && (col->bin = boost_alloc(b, b->padded, 1, st)) == NULL)
		code = st->code;
	for (uint32_t i = 0; i < b->rows && code == MR_OK; i += TILE)
	{
		uint32_t	n = b->rows - i < TILE ? b->rows - i : TILE;

		if (col->category)
			bin_codes(col, bin_of, x + i, n, col->bin + i);
		else
			bin_numbers(col, x + i, n, col->bin + i);
		for (uint32_t r = i; r < i + n; r++)
		{
			missing += col->bin[r] == col->n_bins;
			differ |= col->bin[r] != col->bin[first];
		}
		code = boost_work(b, (int64_t) n * 40, st);
	}
	col->missing = missing > 0;
	boost_free(b, bin_of, n_bytes, 1);
	if (code == MR_OK && !differ)
	{
		boost_free(b, col->upper, BOOST_MAX_BINS, sizeof(float));
		boost_free(b, col->bin, b->padded, 1);
		*col = (boost_column) {0};
	}
	else
		b->n_columns++;			/* also on failure: freed by the caller */
	return code;
}

/* The bins of a row side by side. */
static mr_code
join_bins(boost_builder *b, mr_status *st)
{
	uint8_t    *bins;
	size_t		width;

	b->stride = (b->n_columns + BOOST_GROUP - 1) / BOOST_GROUP;
	b->bins = boost_alloc(b, (size_t) b->rows * (size_t) b->stride, sizeof(uint64_t), st);
	if (b->bins == NULL)
		return st->code;
	bins = (uint8_t *) b->bins;
	width = (size_t) b->stride * BOOST_GROUP;
	for (uint32_t i = 0; i < b->rows; i += TILE)
	{
		uint32_t	n = b->rows - i < TILE ? b->rows - i : TILE;

		for (int c = 0; c < (int) width; c++)
		{
			/* Lanes beyond the last column add to a bin that nobody reads. */
			for (uint32_t r = i; r < i + n; r++)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
				bins[r * width + (size_t) c] = c < b->n_columns ? b->column[c].bin[r] : 0;
#else
				bins[r * width + (size_t) (c ^ 7)] = c < b->n_columns ? b->column[c].bin[r] : 0;
#endif
			if (boost_work(b, n, st))
				return MR_CANCELED;
		}
	}
	return MR_OK;
}

mr_code
boost_bin_columns(boost_builder *b, mr_status *st)
{
	size_t		n = b->rows < SAMPLE ? b->rows : SAMPLE;
	size_t		cols = (size_t) b->m->cols;
	scratch		s = {0};
	uint32_t   *room;
	mr_code		code = MR_OK;

	b->column = boost_alloc(b, cols, sizeof(boost_column), st);
	b->codes = b->column ? boost_alloc(b, cols, sizeof(boost_codes), st) : NULL;
	room = b->codes ? boost_alloc(b, n * 4, sizeof(uint32_t), st) : NULL;
	if (room == NULL)
		return st->code;
	memset(b->codes, 0, cols * sizeof(boost_codes));
	s = (scratch) {room, room + n, (float *) (room + 2 * n), room + 3 * n};
	for (int c = 0; c < b->m->cols && code == MR_OK; c++)
		code = bin_column(b, c, &s, st);
	boost_free(b, room, n * 4, sizeof(uint32_t));
	return code ? code : join_bins(b, st);
}
