/*
 * pairs_join.c
 *	  Hashes that differ in few bits: multi-index hashing (Norouzi, Punjani and Fleet, 2012), as a join of buckets.
 *
 * The 64 bits are cut into bands.  Two hashes that differ in at most d bits differ by at most r_b in some band b, whenever
 * the r_b + 1 sum to d + 1 (pigeonhole).  So for each band both sides are sorted into buckets by their bits there, and each bucket meets
 * those whose number is within r_b of its own, hash by hash.  A pair belongs to the first band that lets it through.
 * Bits that vary little (or not at all) are dealt out evenly among the bands.  Where bands would not save anything
 * there is one of no bits: everything meets everything, at the worst n * n / 2 times 0.2 ns.
 *
 * Memory: 24 bytes a hash, and a megabyte.
 */
#include "quality/pairs_int.h"

#include <string.h>

#define MOST_BANDS	8
#define MOST_WIDTH	16
#define SAMPLE		65536		/* hashes whose bits are counted */
#define CHECK		1000000		/* comparisons between questions whether to stop: 4 ms at most */

typedef struct plan
{
	int			bands;
	int			shift[MOST_BANDS];
	int			width[MOST_BANDS];
	int			radius[MOST_BANDS]; /* -1: the band lets nothing through */
} plan;

/* One side of the join in a band's order. */
typedef struct buckets
{
	uint32_t   *start;			/* 2^width + 1 */
	uint64_t   *value;
	uint32_t   *index;
} buckets;

typedef struct join
{
	const mr_env *env;
	const qlt_pair_kernels *kernels;
	plan		plan;
	int			band;
	bool		same;
	int			max_distance;
	buckets		x,
				y;
	uint32_t   *hit;
	int64_t		work;			/* since the last question */
	qlt_join_sink sink;
	void	   *arg;
	mr_status  *st;
} join;

/* Numbers of `width` bits with at most radius of them set. */
static double
ball(int width, int radius)
{
	double		sum = 0,
				term = 1;

	for (int k = 0; k <= radius && k <= width; k++)
	{
		sum += term;
		term = term * (width - k) / (k + 1);
	}
	return sum;
}

/* The cheapest cut, in nanoseconds of comparisons, of buckets met and of sorting, for hashes that are evenly spread. */
static plan
choose_plan(double nx, double ny, bool same, int max_distance)
{
	double		pairs = same ? nx * nx / 2 : nx * ny,
				best = pairs * 0.25;
	plan		chosen = {.bands = 1};

	chosen.radius[0] = max_distance;
	for (int bands = 64 / MOST_WIDTH; bands <= MOST_BANDS; bands++)
	{
		plan		p = {.bands = bands};
		double		cost = 0;

		for (int b = 0, shift = 0; b < bands; shift += p.width[b++])
		{
			double		size,
						near;

			p.shift[b] = shift;
			p.width[b] = 64 / bands + (b < 64 % bands);
			p.radius[b] = (max_distance + 1) / bands + (b < (max_distance + 1) % bands) - 1;
			if (p.radius[b] < 0)
				continue;
			size = (double) (1 << p.width[b]);
			near = ball(p.width[b], p.radius[b]);
			cost += pairs * near / size * 0.4 + (size < ny ? size : ny) * near * 3 + (nx + ny) * 10 + size;
		}
		if (cost < best)
		{
			best = cost;
			chosen = p;
		}
	}
	return chosen;
}

/* Where each bit goes: the more evenly it is set the earlier it is dealt, to the bands in turn. */
static void
deal_bits(const uint64_t *x, uint32_t n, const plan *p, uint64_t table[8][256])
{
	uint32_t	set[64] = {0},
				step = n / SAMPLE + 1,
				sampled = 0;
	int			order[64],
				place[64],
				filled[MOST_BANDS] = {0};

	for (uint32_t i = 0; i < n; i += step, sampled++)
		for (int b = 0; b < 64; b++)
			set[b] += x[i] >> b & 1;
	for (int b = 0; b < 64; b++)
	{
		int			at = b;

		set[b] = set[b] * 2 > sampled ? sampled - set[b] : set[b];
		for (; at > 0 && set[order[at - 1]] < set[b]; at--)
			order[at] = order[at - 1];
		order[at] = b;
	}
	for (int i = 0, band = 0; i < 64; i++, band = (band + 1) % p->bands)
	{
		while (filled[band] == p->width[band])
			band = (band + 1) % p->bands;
		place[order[i]] = p->shift[band] + filled[band]++;
	}
	for (int byte = 0; byte < 8; byte++)
		for (int v = 0; v < 256; v++)
		{
			table[byte][v] = 0;
			for (int b = 0; b < 8; b++)
				if (v >> b & 1)
					table[byte][v] |= (uint64_t) 1 << place[8 * byte + b];
		}
}

static inline uint64_t
dealt(uint64_t v, uint64_t table[8][256])
{
	uint64_t	out = 0;

	for (int byte = 0; byte < 8; byte++)
		out |= table[byte][v >> (8 * byte) & 255];
	return out;
}

static inline uint32_t
key_of(uint64_t v, const plan *p, int band)
{
	return (uint32_t) (v >> p->shift[band]) & (uint32_t) (((uint64_t) 1 << p->width[band]) - 1);
}

/* Counting sort by the bits of a band; one of no bits takes hashes as they are. */
static mr_code
fill_buckets(join *j, const uint64_t *in, uint32_t n, uint64_t table[8][256], buckets *b)
{
	size_t		size = (size_t) 1 << j->plan.width[j->band];

	memset(b->value + n, 0, QLT_PAD * sizeof(uint64_t));
	if (size == 1)
	{
		b->start[0] = 0;
		b->start[1] = n;
		memcpy(b->value, in, (size_t) n * sizeof(uint64_t));
		for (uint32_t i = 0; i < n; i++)
			b->index[i] = i;
		return MR_OK;
	}
	memset(b->start, 0, (size + 1) * sizeof(uint32_t));
	for (uint32_t i = 0; i < n; i++)
		b->start[key_of(dealt(in[i], table), &j->plan, j->band)]++;
	for (size_t k = 1; k <= size; k++)
		b->start[k] += b->start[k - 1];
	if (mr_interrupted(j->env))
		return qlt_canceled(j->st);
	for (uint32_t i = n; i-- > 0;)
	{
		uint64_t	v = dealt(in[i], table);
		uint32_t	at = --b->start[key_of(v, &j->plan, j->band)];

		b->value[at] = v;
		b->index[at] = i;
	}
	return mr_interrupted(j->env) ? qlt_canceled(j->st) : MR_OK;
}

static mr_code
report(join *j, uint32_t at_x, uint32_t at_y)
{
	uint64_t	d = j->x.value[at_x] ^ j->y.value[at_y];
	uint32_t	x = j->x.index[at_x],
				y = j->y.index[at_y];

	for (int b = 0; b < j->band; b++)
		if (__builtin_popcount(key_of(d, &j->plan, b)) <= j->plan.radius[b])
			return MR_OK;
	if (j->same && x > y)
		return j->sink(j->arg, y, x, __builtin_popcountll(d), j->st);
	return j->sink(j->arg, x, y, __builtin_popcountll(d), j->st);
}

/* A bucket of x with one of y, tile by tile; twice: they are the same one, whose pairs come once. */
static mr_code
meet(join *j, uint32_t x0, uint32_t x1, uint32_t y0, uint32_t y1, bool twice)
{
	for (uint32_t y = y0; y < y1; y += QLT_TILE_Y)
		for (uint32_t x = x0; x < x1; x += QLT_TILE_X)
		{
			uint32_t	nx = x1 - x < QLT_TILE_X ? x1 - x : QLT_TILE_X,
						ny = y1 - y < QLT_TILE_Y ? y1 - y : QLT_TILE_Y;
			int			hits;

			if (twice && x >= y + ny)
				break;
			hits = j->kernels->near_hashes(j->x.value + x, (int) nx, j->y.value + y, (int) ny, j->max_distance, j->hit);
			for (int h = 0; h < hits; h++)
			{
				uint32_t	at_x = x + (j->hit[h] >> 16),
							at_y = y + (j->hit[h] & 0xFFFF);
				mr_code		code;

				if (twice && at_x >= at_y)
					continue;
				if ((code = report(j, at_x, at_y)) != MR_OK)
					return code;
			}
			if ((j->work += (int64_t) nx * ny + 64 * (int64_t) hits) > CHECK)
			{
				j->work = 0;
				if (mr_interrupted(j->env))
					return qlt_canceled(j->st);
			}
		}
	return MR_OK;
}

static mr_code
join_band(join *j, const uint32_t *masks, int n_masks)
{
	uint32_t	size = (uint32_t) 1 << j->plan.width[j->band];

	for (uint32_t key = 0; key < size; key++)
	{
		uint32_t	y0 = j->y.start[key],
					y1 = j->y.start[key + 1];

		if (y0 == y1)
			continue;
		for (int m = 0; m < n_masks; m++)
		{
			uint32_t	other = key ^ masks[m],
						x0,
						x1;
			mr_code		code;

			if (j->same && other > key)
				continue;
			x0 = j->x.start[other];
			x1 = j->x.start[other + 1];
			if (x0 < x1 && (code = meet(j, x0, x1, y0, y1, j->same && other == key)) != MR_OK)
				return code;
		}
		j->work += 8 * n_masks;
	}
	return MR_OK;
}

/* Numbers of a band's width with at most its radius of bits set. */
static int
masks_of(int width, int radius, uint32_t *masks)
{
	int			n = 0;

	for (uint32_t m = 0; m < (uint32_t) 1 << width; m++)
		if (__builtin_popcount(m) <= radius)
			masks[n++] = m;
	return n;
}

static bool
take_buckets(const mr_env *env, buckets *b, uint32_t n)
{
	b->start = mr_alloc(env, (((size_t) 1 << MOST_WIDTH) + 1) * sizeof(uint32_t));
	b->value = mr_alloc(env, ((size_t) n + QLT_PAD) * sizeof(uint64_t));
	b->index = mr_alloc(env, ((size_t) n + 1) * sizeof(uint32_t));
	return b->start && b->value && b->index;
}

static void
drop_buckets(const mr_env *env, buckets *b)
{
	mr_free(env, b->start);
	mr_free(env, b->value);
	mr_free(env, b->index);
}

size_t
qlt_hash_join_memory(uint32_t nx, uint32_t ny, bool same)
{
	return ((size_t) nx + (same ? 0 : ny)) * 12 + ((size_t) 1 << 20);
}

mr_code
qlt_hash_join(const mr_env *env, nn_isa isa, const uint64_t *x, uint32_t nx, const uint64_t *y, uint32_t ny,
			  bool same, int max_distance, qlt_join_sink sink, void *arg, mr_status *st)
{
	join		j = {.env = env, .kernels = qlt_pair_kernels_for(isa), .same = same, .max_distance = max_distance, .sink = sink, .arg = arg, .st = st};
	uint64_t	(*table)[256] = mr_alloc(env, 8 * 256 * sizeof(uint64_t));
	uint32_t   *masks = mr_alloc(env, ((size_t) 1 << MOST_WIDTH) * sizeof(uint32_t));
	mr_code		code = MR_OK;

	j.hit = mr_alloc(env, QLT_TILE_X * QLT_TILE_Y * sizeof(uint32_t));
	if (!take_buckets(env, &j.x, nx) || (!same && !take_buckets(env, &j.y, ny)) || table == NULL || masks == NULL || j.hit == NULL)
		code = qlt_no_memory(st);
	else
	{
		j.plan = choose_plan(nx, ny, same, max_distance);
		if (j.plan.bands > 1)
			deal_bits(x, nx, &j.plan, table);
	}
	for (j.band = 0; code == MR_OK && j.band < j.plan.bands; j.band++)
	{
		if (j.plan.radius[j.band] < 0)
			continue;
		code = fill_buckets(&j, x, nx, table, &j.x);
		if (code == MR_OK && !same)
			code = fill_buckets(&j, y, ny, table, &j.y);
		if (same)
			j.y = j.x;
		if (code == MR_OK)
			code = join_band(&j, masks, masks_of(j.plan.width[j.band], j.plan.radius[j.band], masks));
	}
	drop_buckets(env, &j.x);
	if (!same)
		drop_buckets(env, &j.y);
	mr_free(env, table);
	mr_free(env, masks);
	mr_free(env, j.hit);
	return code;
}
