/*
 * test_text_similarity.c
 *	  Kernels of similarity, each instruction set: exact sums against long double and bit for bit
 *	  against each other, codes against what they are said to be, lower bounds against distances.
 */
#include "text/similarity.h"
#include "unit.h"

#include <float.h>
#include <math.h>

#define MOST 2100

static const sim_metric metrics[] = {SIM_COSINE, SIM_L2, SIM_INNER};
static const nn_isa sets[] = {nn_isa_portable, nn_isa_avx2, nn_isa_avx512};
static uint64_t state = 88172645463325252;

static uint64_t
next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static double
uniform(void)
{
	return (double) (next() >> 11) / 9007199254740992.0;
}

static double
normal(void)
{
	return sqrt(-2 * log(uniform() + 1e-300)) * cos(6.283185307179586 * uniform());
}

typedef enum shape
{
	GAUSS, SPARSE, ONE_HOT, EQUAL, RELU, DENORMAL, TINY, HUGE_VALUES, MIXED, STEPS, ZERO, LAST_SHAPE = ZERO
} shape;

static void
fill(shape s, float *x, int n)
{
	for (int i = 0; i < n; i++)
		switch (s)
		{
			case GAUSS:
				x[i] = (float) normal();
				break;
			case SPARSE:
				x[i] = next() % 10 ? 0 : (float) normal();
				break;
			case ONE_HOT:
				x[i] = 0;
				break;
			case EQUAL:
				x[i] = 1.5f;
				break;
			case RELU:
				x[i] = (float) fmax(0, 2 + normal());
				break;
			case DENORMAL:
				x[i] = (float) (normal() * 1e-44);
				break;
			case TINY:
				x[i] = (float) (normal() * 1e-30);
				break;
			case HUGE_VALUES:
				x[i] = (next() & 1 ? 1 : -1) * FLT_MAX * (float) (1 - uniform() / 4);
				break;
			case MIXED:
				x[i] = (float) (normal() * pow(10, uniform() * 60 - 30));
				break;
			case STEPS:			/* exact in bytes: no error to hide behind */
				x[i] = (float) ((int) (next() % 255) - 127);
				break;
			case ZERO:
				x[i] = 0;
				break;
		}
	if (s == ONE_HOT)
		x[next() % (unsigned) n] = (float) normal();
	if (s == STEPS)
		x[0] = 127;
}

static bool
near(double got, long double want, long double size, int n)
{
	return fabsl((long double) got - want) <= (n / 16 + 24) * 1.2e-16L * size;
}

/* Sums of all lengths, unaligned, against long double; the same bits from every set. */
static void
test_exact(void)
{
	static float a[MOST + 3],
				b[MOST + 3];
	bool		right = true,
				equal = true;

	for (int turn = 0; turn < 1500; turn++)
	{
		int			n = turn < 300 ? turn + 1 : (int) (next() % MOST) + 1,
					shift = turn % 4;
		shape		s = (shape) (next() % (LAST_SHAPE + 1)),
					t = turn % 3 ? s : (shape) (next() % (LAST_SHAPE + 1));
		float	   *x = a + shift % 3,
				   *y = b + shift;
		long double sum = 0,
					size = 0,
					square = 0,
					ss[2] = {0};
		double		first[6];

		if (shift == 3)
			y = b + 2;
		fill(s, x, n);
		fill(t, y, n);
		for (int i = 0; i < n; i++)
		{
			long double p = x[i],
						q = y[i];

			sum += p * q;
			size += fabsl(p * q);
			square += (p - q) * (p - q);
			ss[0] += p * p;
			ss[1] += q * q;
		}
		for (int k = 0; k < 3; k++)
		{
			double		got[6];

			if (!nn_isa_available(sets[k]))
				continue;
			sim_force(sets[k]);
			got[0] = sim_dot(x, y, n);
			got[1] = sim_l2_squared(x, y, n);
			sim_dot_and_squares(x, y, n, got + 2);
			got[5] = sim_distance(SIM_COSINE, x, y, n);
			right &= near(got[0], sum, size, n) && near(got[1], square, square, n) && got[2] == got[0] &&
				near(got[3], ss[0], ss[0], n) && near(got[4], ss[1], ss[1], n);
			if (ss[0] > 0 && ss[1] > 0)
				right &= fabsl((long double) got[5] - (1 - sum / sqrtl(ss[0] * ss[1]))) < 1e-13L * n;
			else
				right &= isnan(got[5]);
			if (k == 0)
				memcpy(first, got, sizeof(got));
			equal &= memcmp(first, got, sizeof(got)) == 0 || (isnan(got[5]) && isnan(first[5]) && memcmp(first, got, 5 * sizeof(double)) == 0);
		}
	}
	ok(right, "sums are those of long double, to the last bits");
	ok(equal, "every instruction set gives the same bits");
	a[5] = INFINITY;
	b[5] = 0;
	ok(!isfinite(sim_dot(a, b, 20)) && !isfinite(sim_l2_squared(a, b, 20)), "an infinite element shows");
	a[5] = NAN;
	ok(isnan(sim_dot(a, b, 20)) && isnan(sim_l2_squared(a, b, 20)), "so does NaN");
}

/* The bound is sound for every pair of shapes and dimensions, and as tight as 8 bits allow. */
static void
test_bounds(int turns)
{
	static float a[MOST],
				b[MOST];
	void	   *memory = aligned_alloc(64, (sim_query_size(MOST) + 63) / 64 * 64);
	uint64_t	code[(16 + MOST) / 8 + 4];
	sim_signs	signs;
	long		pairs = 0,
				above = 0;
	double		loose = 0;

	for (int turn = 0; turn < turns; turn++)
	{
		int			n = next() % 4 ? (int) (next() % 100) + 1 : (int) (next() % MOST) + 1;
		shape		s = (shape) (next() % (LAST_SHAPE + 1));
		sim_params	p = {.metric = metrics[turn % 3], .n = n};
		sim_query  *q;

		sim_force(sets[turn / 3 % 3]);
		if (!nn_isa_available(sets[turn / 3 % 3]))
			sim_force(nn_isa_portable);
		fill(s, a, n);
		q = sim_prepare(&p, a, memory);
		for (int j = 0; j < 20; j++)
		{
			double		exact,
						bound;

			if (j < 4)
			{
				memcpy(b, a, sizeof(b));	/* itself, its multiples, its neighbours */
				for (int i = 0; i < n; i++)
					b[i] = j == 0 ? a[i] : j == 1 ? a[i] / 2 : j == 2 ? -a[i] : (float) ((double) a[i] * (1 - 1e-3 * uniform()));
			}
			else
				fill(j < 8 ? s : (shape) (next() % (LAST_SHAPE + 1)), b, n);
			sim_encode(&p, b, &signs, code);
			exact = sim_distance(p.metric, a, b, n);
			bound = sim_lower_bound(q, code);
			pairs++;
			above += isnan(exact) ? !isnan(bound) : !(bound <= exact);
			if (s == GAUSS && j >= 4 && j < 8 && p.metric == SIM_COSINE && n > 64)
				loose = fmax(loose, exact - bound);
		}
	}
	ok(above == 0, "%ld lower bounds, %ld above the distance", pairs, above);
	ok(loose > 0 && loose < 0.04, "of Gaussian vectors the cosine's are at most %.4f below", loose);
	free(memory);
}

static int
by_number(const void *x, const void *y)
{
	return ((const sim_candidate *) x)->number < ((const sim_candidate *) y)->number ? -1 : 1;
}

static int
by_estimate(const void *x, const void *y)
{
	const sim_candidate *a = x,
			   *b = y;

	return a->estimate != b->estimate ? (a->estimate < b->estimate ? -1 : 1) : by_number(x, y);
}

enum
{
	BLOCKS = 40, MANY = BLOCKS * SIM_BLOCK
};

static const sim_candidate none = {-INFINITY, 0};

static void
encode_all(const sim_params *p, const float *vectors, uint8_t *blocks)
{
	size_t		size = sim_block_size(p->n);
	void	   *bytes = malloc(sim_bytes_size(p->n));

	for (int i = 0; i < BLOCKS; i++)
		sim_block_clear(blocks + (size_t) i * size, p->n);
	for (int i = 0; i < MANY; i++)
	{
		sim_signs	signs;

		sim_encode(p, vectors + (size_t) i * (size_t) p->n, &signs, bytes);
		sim_block_put(blocks + (size_t) (i / SIM_BLOCK) * size, p->n, i % SIM_BLOCK, &signs);
	}
	free(bytes);
}

static double
correlation(const double *x, const double *y, int n)
{
	double		mx = 0,
				my = 0,
				xx = 0,
				yy = 0,
				xy = 0;

	for (int i = 0; i < n; i++)
	{
		mx += x[i] / n;
		my += y[i] / n;
	}
	for (int i = 0; i < n; i++)
	{
		xx += (x[i] - mx) * (x[i] - mx);
		yy += (y[i] - my) * (y[i] - my);
		xy += (x[i] - mx) * (y[i] - my);
	}
	return xy / sqrt(xx * yy);
}

/* Scans in pieces, removed and moved places, and the k best, against the sorted list of all. */
static void
test_candidates(const sim_params *p, const sim_query *q, uint8_t *blocks, sim_candidate *sorted)
{
	static const size_t ks[] = {1, 2, 7, 100, 1000, MANY - 1, MANY, 5000};
	size_t		size = sim_block_size(p->n),
				found;
	sim_candidate *got = malloc(sizeof(sim_candidate) * (MANY + 10000));
	bool		right = true;

	qsort(sorted, MANY, sizeof(sim_candidate), by_estimate);
	for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++)
		for (int step = 1; step <= 4; step += 3)
		{
			sim_best	best;
			size_t		k = ks[i] < MANY ? ks[i] : MANY;

			sim_best_init(&best, got, ks[i] + (size_t) step * SIM_BLOCK, ks[i]);
			for (int b = 0; b < BLOCKS; b += step)
				sim_best_scan(&best, q, blocks + (size_t) b * size, size, step, (uint32_t) (b * SIM_BLOCK), none);
			found = sim_best_finish(&best);
			right &= found == k && memcmp(&got[k - 1], &sorted[k - 1], sizeof(sim_candidate)) == 0;
			qsort(got, found, sizeof(sim_candidate), by_estimate);
			right &= memcmp(got, sorted, sizeof(sim_candidate) * k) == 0;

			/* and what comes after them */
			found = sim_scan_signs(q, blocks, size, BLOCKS, 0, sorted[k - 1], INFINITY, got);
			qsort(got, found, sizeof(sim_candidate), by_estimate);
			right &= found == MANY - k && memcmp(got, sorted + k, sizeof(sim_candidate) * found) == 0;
		}
	found = sim_scan_signs(q, blocks, size, BLOCKS, 0, none, sorted[MANY / 2].estimate, got);
	for (size_t i = 0; i < found; i++)
		right &= got[i].estimate < sorted[MANY / 2].estimate;

	/* the best is moved to where the worst was; the second is removed */
	{
		int			first = (int) sorted[0].number,
					second = (int) sorted[1].number,
					last = (int) sorted[MANY - 1].number;

		sim_block_copy(blocks + (size_t) (last / SIM_BLOCK) * size, last % SIM_BLOCK,
					   blocks + (size_t) (first / SIM_BLOCK) * size, first % SIM_BLOCK, p->n);
		sim_block_remove(blocks + (size_t) (first / SIM_BLOCK) * size, p->n, first % SIM_BLOCK);
		sim_block_remove(blocks + (size_t) (second / SIM_BLOCK) * size, p->n, second % SIM_BLOCK);
		right &= sim_block_empty(blocks + (size_t) (second / SIM_BLOCK) * size, p->n, second % SIM_BLOCK) &&
			!sim_block_empty(blocks + (size_t) (last / SIM_BLOCK) * size, p->n, last % SIM_BLOCK);
		found = sim_scan_signs(q, blocks, size, BLOCKS, 0, none, INFINITY, got);
		qsort(got, found, sizeof(sim_candidate), by_estimate);
		sorted[MANY - 1] = sorted[0];
		sorted[MANY - 1].number = (uint32_t) last;
		qsort(sorted + 2, MANY - 2, sizeof(sim_candidate), by_estimate);
		right &= found == MANY - 2 && memcmp(got, sorted + 2, sizeof(sim_candidate) * (MANY - 2)) == 0;
	}
	ok(right, "%d dimensions, metric %d: the k best, what follows them, removed and moved ones", p->n, (int) p->metric);
	free(got);
}

/* Estimates of a scan: the same from every set, and in step with the distances. */
static void
test_scan(int n, double least_correlation)
{
	uint8_t    *blocks = aligned_alloc(64, sim_block_size(n) * BLOCKS);
	float	   *vectors = malloc(sizeof(float) * (size_t) n * MANY),
			   *centre = malloc(sizeof(float) * (size_t) n),
			   *query = malloc(sizeof(float) * (size_t) n);
	double	   *sum = calloc((size_t) n, sizeof(double));
	void	   *memory = aligned_alloc(64, (sim_query_size(n) + 63) / 64 * 64);
	sim_candidate *all[3];
	double		exact[MANY],
				estimate[MANY];

	for (int i = 0; i < 3; i++)
		all[i] = malloc(sizeof(sim_candidate) * MANY);
	for (int m = 0; m < 3; m++)
	{
		sim_params	p = {.metric = metrics[m], .n = n, .centre = n % 2 ? NULL : centre};
		bool		equal = true;
		sim_query  *q = NULL;
		double		related;

		/* from quite another one to the query itself, and far from the origin */
		memset(sum, 0, sizeof(double) * (size_t) n);
		fill(GAUSS, query, n);
		for (int i = 0; i < MANY; i++)
		{
			float	   *x = vectors + (size_t) i * (size_t) n;
			double		like = uniform();

			for (int j = 0; j < n; j++)
				x[j] = (float) (like * (double) query[j] + (1 - like) * normal() + (p.centre ? 3 : 0));
			sim_centre_add(p.metric, x, n, sum);
		}
		for (int j = 0; j < n; j++)
			query[j] += p.centre ? 3 : 0;
		sim_centre_finish(sum, MANY, n, centre);
		for (int k = 0; k < 3; k++)
		{
			sim_force(nn_isa_available(sets[k]) ? sets[k] : nn_isa_portable);
			encode_all(&p, vectors, blocks);
			q = sim_prepare(&p, query, memory);
			equal &= sim_scan_signs(q, blocks, sim_block_size(n), BLOCKS, 0, none, INFINITY, all[k]) == MANY;
			qsort(all[k], MANY, sizeof(sim_candidate), by_number);
			equal &= memcmp(all[0], all[k], sizeof(sim_candidate) * MANY) == 0;
		}
		ok(equal, "%d dimensions, metric %d: every set has the same estimates", n, (int) p.metric);
		for (int i = 0; i < MANY; i++)
		{
			exact[i] = sim_distance(p.metric, query, vectors + (size_t) i * (size_t) n, n);
			exact[i] = p.metric == SIM_L2 ? exact[i] * exact[i] : exact[i];
			estimate[i] = (double) all[0][i].estimate;
		}
		related = correlation(exact, estimate, MANY);
		ok(related > least_correlation, "%d dimensions, metric %d: estimates and distances correlate by %.3f", n, (int) p.metric, related);
		test_candidates(&p, q, blocks, all[0]);
	}
	for (int i = 0; i < 3; i++)
		free(all[i]);
	free(blocks);
	free(vectors);
	free(centre);
	free(query);
	free(sum);
	free(memory);
}

/* Vectors and queries of every shape: no estimate gets lost in an infinity, length 0 comes last. */
static void
test_shapes(void)
{
	const int	n = 100;
	uint8_t    *blocks = aligned_alloc(64, sim_block_size(n) * BLOCKS);
	float	   *vectors = malloc(sizeof(float) * (size_t) n * MANY),
				query[100],
				centre[100];
	double		sum[100] = {0};
	void	   *memory = aligned_alloc(64, (sim_query_size(n) + 63) / 64 * 64);
	sim_candidate *all = malloc(sizeof(sim_candidate) * MANY);

	for (int i = 0; i < MANY; i++)
		fill((shape) (i % (LAST_SHAPE + 1)), vectors + (size_t) i * (size_t) n, n);
	for (int m = 0; m < 3; m++)
	{
		sim_params	p = {.metric = metrics[m], .n = n, .centre = centre};
		bool		found = true,
					last = true;

		for (int i = 0; i < MANY; i++)
			sim_centre_add(p.metric, vectors + (size_t) i * (size_t) n, n, sum);
		sim_centre_finish(sum, MANY, n, centre);
		for (int k = 0; k < 3; k++)
		{
			sim_force(nn_isa_available(sets[k]) ? sets[k] : nn_isa_portable);
			encode_all(&p, vectors, blocks);
			for (int s = 0; s <= LAST_SHAPE; s++)
			{
				fill((shape) s, query, n);
				found &= sim_scan_signs(sim_prepare(&p, query, memory), blocks, sim_block_size(n), BLOCKS, 0, none, INFINITY, all) == MANY;
				qsort(all, MANY, sizeof(sim_candidate), by_estimate);
				last &= p.metric != SIM_COSINE || all[MANY - 1].number % (LAST_SHAPE + 1) == ZERO;
			}
		}
		ok(found && last, "metric %d: vectors of every shape are found by queries of every shape", (int) p.metric);
	}
	free(blocks);
	free(vectors);
	free(memory);
	free(all);
}

int
main(void)
{
	test_exact();
	test_bounds(getenv("MILLRACE_FULL") && *getenv("MILLRACE_FULL") ? 100000 : 4000);
	test_scan(1, 0.5);
	test_scan(3, 0.7);
	test_scan(50, 0.9);
	test_scan(384, 0.95);
	test_scan(1999, 0.95);
	test_shapes();
	return done_testing();
}
