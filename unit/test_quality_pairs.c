/*
 * test_quality_pairs.c
 *	  Near pairs of hashes and vectors against plain loops, each instruction set: random, clustered, skewed and equal
 *	  items; flips, what is new, nearest ones, groups, limits, cancels.
 */
#include "quality/pairs.h"
#include "unit.h"

#include <math.h>
#include <time.h>

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
normal(void)
{
	double		u = (double) (next() >> 11) / 9007199254740992.0,
				v = (double) (next() >> 11) / 9007199254740992.0;

	return sqrt(-2 * log(u + 1e-300)) * cos(6.283185307179586 * v);
}

typedef struct found
{
	uint64_t	pair;			/* a << 32 | b */
	float		measure;
} found;

typedef struct list
{
	found	   *pairs;
	size_t		n,
				room;
} list;

static mr_code
collect(void *arg, uint32_t a, uint32_t b, float measure, mr_status *st)
{
	list	   *l = arg;

	if (l->n == l->room)
	{
		l->room = l->room ? 2 * l->room : 1024;
		l->pairs = realloc(l->pairs, l->room * sizeof(found));
	}
	l->pairs[l->n++] = (found) {(uint64_t) a << 32 | b, measure};
	return MR_OK;
}

static int
by_pair(const void *a, const void *b)
{
	const found *x = a,
			   *y = b;

	return x->pair < y->pair ? -1 : x->pair > y->pair;
}

static bool
equal_lists(list *got, list *want, double tolerance)
{
	if (got->n)
		qsort(got->pairs, got->n, sizeof(found), by_pair);
	if (want->n)
		qsort(want->pairs, want->n, sizeof(found), by_pair);
	if (got->n != want->n)
	{
		printf("# %zu pairs, not %zu\n", got->n, want->n);
		return false;
	}
	for (size_t i = 0; i < got->n; i++)
		if (got->pairs[i].pair != want->pairs[i].pair || fabs((double) got->pairs[i].measure - (double) want->pairs[i].measure) > tolerance)
			return false;
	return true;
}

static void
forget(list *l)
{
	free(l->pairs);
	*l = (list) {0};
}

typedef enum shape
{
	RANDOM, CLUSTERED, NARROW, SKEWED, EQUAL, SHAPES
} shape;

static const char *const shape_name[] = {"random", "clustered", "few bits that vary", "equal in a band", "equal"};

static void
make_hashes(shape s, uint64_t *h, int n)
{
	for (int i = 0; i < n; i++)
		switch (s)
		{
			case RANDOM:
				h[i] = next();
				break;
			case CLUSTERED:
				h[i] = i % 7 == 0 ? next() : h[i - i % 7];
				for (int k = (int) (next() % 14); k > 0 && i % 7; k--)
					h[i] ^= (uint64_t) 1 << next() % 64;
				break;
			case NARROW:
				h[i] = (next() & 0x00FF00FF00FF00FF) | 0xAA00550000000000;
				break;
			case SKEWED:
				h[i] = next() << 16;
				break;
			default:
				h[i] = 0x123456789ABCDEF0 ^ (uint64_t) (next() % 5 == 0);
		}
}

static int
least(const uint64_t *h, int turns, int a, int b)
{
	int			best = 65;

	for (int t = 0; t < turns; t++)
	{
		int			d = __builtin_popcountll(h[a * turns] ^ h[b * turns + t]);

		best = d < best ? d : best;
	}
	return best;
}

static void
plain_hash_pairs(const uint64_t *h, int n, int turns, int most, int first, list *out)
{
	for (int b = 0; b < n; b++)
		for (int a = 0; a < b; a++)
			if (b >= first && least(h, turns, a, b) <= most)
				collect(out, (uint32_t) a, (uint32_t) b, (float) least(h, turns, a, b), NULL);
}

static void
test_hashes(void)
{
	enum
	{
		N = 6000
	};
	static uint64_t h[N];

	for (shape s = RANDOM; s < SHAPES; s++)
		for (int turn = 0; turn < 6; turn++)
		{
			static const int distance[] = {10, 0, 3, 7, 14, 24};
			int			n = s == EQUAL ? 700 : turn < 2 ? N : 1500 + turn * 17,
						most = distance[turn],
						first = turn % 2 ? n / 3 : 0;
			list		want = {0};
			bool		right = true;

			make_hashes(s, h, n);
			if (s == NARROW && most > 7)
				n = 500;
			plain_hash_pairs(h, n, 1, most, first, &want);
			for (int i = 0; i < 3; i++)
			{
				list		got = {0};
				qlt_pair_options o = {.isa = sets[i], .first = (uint32_t) first, .max_memory = 1 << 30, .sink = collect, .arg = &got};

				right &= qlt_hash_pairs(&mr_env_malloc, h, (uint32_t) n, 1, most, &o, NULL) == MR_OK && equal_lists(&got, &want, 0);
				forget(&got);
			}
			ok(right, "%s hashes, distance %d, from %d on: the %zu pairs of a plain loop", shape_name[s], most, first, want.n);
			forget(&want);
		}
}

static void
test_turns(void)
{
	enum
	{
		N = 900
	};
	static uint64_t h[N * 8];

	for (int turn = 0; turn < 4; turn++)
	{
		list		want = {0},
					got = {0};
		int			first = turn % 2 ? 700 : 0;
		qlt_pair_options o = {.first = (uint32_t) first, .max_memory = 1 << 30, .sink = collect, .arg = &got};

		make_hashes(RANDOM, h, N * 8);
		for (int i = 0; i < N; i++)	/* groups of five: some a few bits apart and turned, or the same in every turn */
			for (int t = 0; t < 8 && i % 5; t++)
				h[i * 8 + t] = h[(i - i % 5) * 8 + (turn < 2 ? (t + i) % 8 : t)] ^ (turn < 2 ? (uint64_t) (next() & next() & 0xFFFF) : 0);
		plain_hash_pairs(h, N, 8, 10, first, &want);
		ok(qlt_hash_pairs(&mr_env_malloc, h, N, 8, 10, &o, NULL) == MR_OK && equal_lists(&got, &want, 0),
		   "items of eight hashes, from %d on: %zu pairs, the least distance of each", first, want.n);
		forget(&got);
		forget(&want);
	}
}

static void
test_matches(void)
{
	static uint64_t h[70000],
				q[300];

	make_hashes(RANDOM, h, 70000);
	make_hashes(RANDOM, q, 300);
	for (int i = 0; i < 300; i += 3)
		q[i] = h[i * 200] ^ 0x0101010101;
	for (int n = 1; n <= 300; n += 299)
	{
		list		want = {0},
					got = {0};
		qlt_pair_options o = {.max_memory = 1 << 30, .sink = collect, .arg = &got};

		for (int i = 0; i < 70000; i++)
			for (int k = 0; k < n; k++)
				if (__builtin_popcountll(h[i] ^ q[k]) <= 10)
					collect(&want, (uint32_t) i, (uint32_t) k, (float) __builtin_popcountll(h[i] ^ q[k]), NULL);
		ok(qlt_hash_matches(&mr_env_malloc, h, 70000, q, (uint32_t) n, 10, &o, NULL) == MR_OK && equal_lists(&got, &want, 0),
		   "%d hashes among 70,000: %zu matches", n, want.n);
		forget(&got);
		forget(&want);
	}
}

/* The pairs that are among the k nearest of one of their items, by sorting. */
typedef struct ranked
{
	float		key;
	int			item;
} ranked;

static int
by_rank(const void *a, const void *b)
{
	const ranked *x = a,
			   *y = b;

	return x->key < y->key ? -1 : x->key > y->key ? 1 : x->item - y->item;
}

static void
keep_nearest(const list *all, int n, int k, const uint8_t *set, bool similar, list *out)
{
	ranked	   *of = malloc((size_t) n * sizeof(ranked));
	char	   *kept = calloc(all->n + 1, 1);

	for (int i = 0; i < n; i++)
		for (int outside = 0; outside < 2; outside++)
		{
			int			m = 0;

			for (size_t p = 0; p < all->n; p++)
			{
				int			a = (int) (all->pairs[p].pair >> 32),
							b = (int) (uint32_t) all->pairs[p].pair;

				if ((a == i || b == i) && (set[a] != set[b]) == outside)
					of[m++] = (ranked) {similar ? -all->pairs[p].measure : all->pairs[p].measure, a == i ? b : a};
			}
			if (m)
				qsort(of, (size_t) m, sizeof(ranked), by_rank);
			for (int r = 0; r < m && r < k; r++)
				for (size_t p = 0; p < all->n; p++)
				{
					int			a = (int) (all->pairs[p].pair >> 32),
								b = (int) (uint32_t) all->pairs[p].pair;

					if ((a == i && b == of[r].item) || (b == i && a == of[r].item))
						kept[p] = 1;
				}
		}
	for (size_t p = 0; p < all->n; p++)
		if (kept[p])
			collect(out, (uint32_t) (all->pairs[p].pair >> 32), (uint32_t) all->pairs[p].pair, all->pairs[p].measure, NULL);
	free(of);
	free(kept);
}

static void
test_nearest(void)
{
	enum
	{
		N = 240
	};
	static uint64_t h[N * 8];
	static uint8_t set[N];

	for (int turn = 0; turn < 12; turn++)
	{
		int			turns = turn % 3 == 2 ? 8 : 1,
					first = turn % 2 ? 200 : 0,
					k = turn < 6 ? 2 : 5;
		list		all = {0},
					want = {0},
					got = {0};
		qlt_pair_options o = {.first = (uint32_t) first, .per_item = k, .sets = set, .max_memory = 1 << 30, .sink = collect, .arg = &got};

		make_hashes(turn % 4 == 3 ? EQUAL : CLUSTERED, h, N * turns);
		for (int i = 0; i < N; i++)
			set[i] = (uint8_t) (next() % 3);
		plain_hash_pairs(h, N, turns, 12, first, &all);
		/* Of hashes with turns, the way back may be shorter: both ways count. */
		if (turns > 1)
		{
			all.n = 0;
			for (int b = first; b < N; b++)
				for (int a = 0; a < b; a++)
				{
					int			d = least(h, turns, a, b),
								back = a >= first ? least(h, turns, b, a) : 65;

					d = back < d ? back : d;
					if (d <= 12)
						collect(&all, (uint32_t) a, (uint32_t) b, (float) d, NULL);
				}
		}
		keep_nearest(&all, N, k, set, false, &want);
		ok(qlt_hash_pairs(&mr_env_malloc, h, N, turns, 12, &o, NULL) == MR_OK && equal_lists(&got, &want, 0),
		   "the %d nearest of each item, %d hashes each, from %d on: %zu of %zu pairs", k, turns, first, want.n, all.n);
		forget(&all);
		forget(&want);
		forget(&got);
	}
}

static void
test_groups(void)
{
	enum
	{
		N = 1200
	};
	static uint64_t h[N];
	static uint32_t group[N],
				plain[N];
	qlt_pair_options o = {.max_memory = 1 << 30};
	bool		right = true;
	int			groups = 0;

	make_hashes(CLUSTERED, h, N);
	for (int i = 0; i < N; i++)
		plain[i] = (uint32_t) i;
	for (bool changed = true; changed;)
	{
		changed = false;
		for (int i = 0; i < N; i++)
			for (int k = 0; k < N; k++)
				if (plain[k] < plain[i] && __builtin_popcountll(h[i] ^ h[k]) <= 10)
				{
					plain[i] = plain[k];
					changed = true;
				}
	}
	right = qlt_hash_groups(&mr_env_malloc, h, N, 10, &o, group, NULL) == MR_OK;
	for (int i = 0; i < N; i++)
	{
		right &= group[i] == plain[i];
		groups += plain[i] == (uint32_t) i;
	}
	ok(right, "%d hashes, %d groups: those that chains of pairs make", N, groups);
}

/* A million equal items: linear where it is asked for, refused where it is not. */
static void
test_equal(void)
{
	enum
	{
		N = 1000000
	};
	uint64_t   *h = calloc(N, sizeof(uint64_t));
	uint32_t   *group = malloc(N * sizeof(uint32_t));
	list		got = {0};
	mr_status	st = {0};
	qlt_pair_options o = {.max_memory = (size_t) 1 << 30, .max_pairs = 100000, .sink = collect, .arg = &got};
	clock_t		begin = clock();

	ok(qlt_hash_pairs(&mr_env_malloc, h, N, 1, 10, &o, &st) == MR_LIMIT && got.n == 100000, "a million equal hashes: %s", st.message);
	got.n = 0;
	o.per_item = 3;
	o.max_pairs = 0;
	ok(qlt_hash_pairs(&mr_env_malloc, h, N, 1, 10, &o, &st) == MR_OK && got.n == 3 * N - 6, "their three nearest are 2,999,994 pairs");
	ok(qlt_hash_groups(&mr_env_malloc, h, N, 10, &o, group, &st) == MR_OK && group[N - 1] == 0, "one group");
	ok((clock() - begin) / CLOCKS_PER_SEC < 20, "in %.1f s", (double) (clock() - begin) / CLOCKS_PER_SEC);
	o.max_memory = 1 << 20;
	ok(qlt_hash_pairs(&mr_env_malloc, h, N, 1, 10, &o, &st) == MR_LIMIT, "too little memory: %s", st.message);
	ok(qlt_hash_pairs(&mr_env_malloc, h, N, 1, 64, &o, &st) == MR_INVALID, "distance 64: %s", st.message);
	free(h);
	free(group);
	forget(&got);
}

static void
test_vectors(void)
{
	enum
	{
		N = 700
	};

	for (int turn = 0; turn < 14; turn++)
	{
		static const int dimensions[] = {1, 3, 16, 64, 192, 383, 2000};
		int			dims = dimensions[turn % 7],
					n = dims > 300 ? 200 : N - turn,
					first = turn % 3 == 1 ? n - 60 : 0,
					k = turn >= 10 ? 3 : 0;
		double		least_cosine = turn % 2 ? 0.9 : 0.2;
		float	   *v = malloc((size_t) n * (size_t) dims * sizeof(float));
		uint8_t    *set = calloc((size_t) n, 1);
		list		all = {0},
					want = {0};
		bool		right = true;

		for (int i = 0; i < n; i++)
			for (int c = 0; c < dims; c++)
				v[i * dims + c] = i % 11 == 5 ? 0 : (float) (normal() * (i % 3 ? 0.2 : 1) + (i % 3 ? (double) v[(i - 1) * dims + c] : 0)) * (i % 13 == 7 ? 1e18f : 1);
		for (int b = first; b < n; b++)
			for (int a = 0; a < b; a++)
			{
				double		sums[3] = {0};

				for (int c = 0; c < dims; c++)
				{
					double		x = v[a * dims + c],
								y = v[b * dims + c];

					sums[0] += x * y;
					sums[1] += x * x;
					sums[2] += y * y;
				}
				if (sums[0] / sqrt(sums[1] * sums[2]) >= least_cosine - 1e-12)
					collect(&all, (uint32_t) a, (uint32_t) b, (float) (sums[0] / sqrt(sums[1] * sums[2])), NULL);
			}
		if (k)
			keep_nearest(&all, n, k, set, true, &want);
		for (int i = 0; i < 3; i++)
		{
			list		got = {0};
			qlt_pair_options o = {.isa = sets[i], .first = (uint32_t) first, .per_item = k, .max_memory = 1 << 30, .sink = collect, .arg = &got};

			right &= qlt_embedding_pairs(&mr_env_malloc, v, (uint32_t) n, dims, least_cosine, &o, NULL) == MR_OK;
			if (k && dims == 1)	/* every cosine is 1, or one that rounding made less */
				right &= got.n >= (size_t) n / 2;
			else
				right &= equal_lists(&got, k ? &want : &all, 1e-6);
			forget(&got);
		}
		ok(right, "%d vectors of %d, cosine %.1f, from %d on, nearest %d: %zu pairs", n, dims, least_cosine, first, k, k ? want.n : all.n);
		free(v);
		free(set);
		forget(&all);
		forget(&want);
	}
}

static bool
at_once(void *arg)
{
	return --*(int *) arg < 0;
}

static void
test_refused(void)
{
	static float v[4000];
	static uint64_t h[20000];
	list		got = {0};
	mr_status	st;
	mr_env		env = mr_env_malloc;
	qlt_pair_options o = {.max_memory = 1 << 30, .sink = collect, .arg = &got};
	int			patience,
				canceled = 0;

	for (int i = 0; i < 4000; i++)
		v[i] = (float) normal();
	make_hashes(CLUSTERED, h, 20000);
	v[77] = NAN;
	ok(qlt_embedding_pairs(&env, v, 400, 10, 0.5, &o, &st) == MR_INVALID, "%s", st.message);
	v[77] = INFINITY;
	ok(qlt_embedding_pairs(&env, v, 400, 10, 0.5, &o, &st) == MR_INVALID, "%s", st.message);
	v[77] = 0;
	ok(qlt_embedding_pairs(&env, v, 400, 10, 1.5, &o, &st) == MR_INVALID, "%s", st.message);
	ok(qlt_embedding_pairs(&env, v, 0, 10, 0.5, &o, &st) == MR_OK && qlt_hash_pairs(&env, h, 0, 1, 10, &o, &st) == MR_OK, "nothing at all");
	env.interrupted = at_once;
	env.arg = &patience;
	for (int i = 0; i < 12; i++)
	{
		patience = i;
		canceled += qlt_hash_pairs(&env, h, 20000, 1, 10, &o, &st) == MR_CANCELED;
		patience = i;
		canceled += qlt_embedding_pairs(&env, v, 400, 10, 0.5, &o, &st) == MR_CANCELED;
		patience = i;
		o.per_item = 2;
		canceled += qlt_hash_pairs(&env, h, 2500, 8, 10, &o, &st) == MR_CANCELED;
		o.per_item = 0;
	}
	ok(canceled == 36, "canceled at any question, nothing leaks (%d)", canceled);
	forget(&got);
}

int
main(void)
{
	test_hashes();
	test_turns();
	test_matches();
	test_nearest();
	test_groups();
	test_equal();
	test_vectors();
	test_refused();
	return done_testing();
}
