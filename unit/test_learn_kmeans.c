/*
 * test_learn_kmeans.c
 *	  k-means: what defines its answer, bits on every instruction set, and data
 *	  that leaves little to cluster.
 */
#include "learn/learn_int.h"
#include "unit.h"

#include <math.h>

#define ROWS	1003			/* no multiple of a group */
#define COLS	3
#define K		4

static float data[COLS][ROWS];
static float *col[COLS] = {data[0], data[1], data[2]};
static lrn_matrix m = {ROWS, COLS, col, NULL, NULL};

/* Four heaps far from 0 and from each other. */
static void
make_heaps(void)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, 4, 4);
	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			data[c][i] = 1000 + 10.0f * (float) (i % K == c + 1) +
				(float) lrn_rng_below(&rng, 1000) / 1000;
	m.rows = ROWS;
}

static uint8_t *
train(const lrn_params *p, const lrn_target *t, lrn_report *r, size_t *len, mr_code *code)
{
	mr_status	st = {0};
	uint8_t    *bytes = NULL;

	*code = lrn_train(&mr_env_malloc, p, &m, t, r, &bytes, len, &st);
	if (*code)
		printf("# %s: %s %s\n", st.message, st.detail, st.hint);
	return bytes;
}

static uint8_t *
open_model(const uint8_t *bytes, size_t len, lrn_model *model)
{
	uint8_t    *flat;
	size_t		flat_len;
	mr_status	st = {0};

	if (lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st) != MR_OK ||
		lrn_open(flat, flat_len, model, &st) != MR_OK)
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
	return flat;
}

static int
nearest(const float *d, int k)
{
	int			best = 0;

	for (int c = 1; c < k; c++)
		if (d[c] < d[best])
			best = c;
	return best;
}

/* Heaps are found, the centres are their means, the inertia what predict() says. */
static void
test_heaps(bool standardize)
{
	lrn_params	p;
	lrn_report	r;
	lrn_model	model;
	mr_code		code;
	size_t		len,
				len2;
	uint8_t    *bytes,
			   *again,
			   *flat;
	float		rows[ROWS][COLS],
				out[ROWS][K],
				one[K];
	double		inertia = 0,
				scale[COLS],
				worst = 0;
	int			wrong = 0,
				of_heap[K];

	make_heaps();
	lrn_params_init(&p, LRN_KMEANS);
	p.n_clusters = K;
	p.standardize = standardize;
	p.random_state = 7;
	bytes = train(&p, NULL, &r, &len, &code);
	again = train(&p, NULL, &r, &len2, &code);
	ok(code == MR_OK && r.converged && r.outputs == K, "heaps in %d iterations", r.iterations);
	ok(len == len2 && memcmp(bytes, again, len) == 0, "training twice gives the same bytes");
	flat = open_model(bytes, len, &model);
	for (int c = 0; c < COLS; c++)
	{
		double		mean = 0,
					square = 0;

		for (int i = 0; i < ROWS; i++)
			mean += (double) data[c][i] / ROWS;
		for (int i = 0; i < ROWS; i++)
		{
			rows[i][c] = data[c][i];
			square += pow((double) data[c][i] - mean, 2) / ROWS;
		}
		scale[c] = standardize ? 1 / sqrt(square) : 1;
	}
	lrn_predict(&model, &rows[0][0], ROWS, &out[0][0]);
	for (int i = 0; i < K; i++)
		of_heap[i] = nearest(out[i], K);
	for (int i = 0; i < ROWS; i++)
		wrong += nearest(out[i], K) != of_heap[i % K];
	ok(wrong == 0 && of_heap[0] != of_heap[1] && of_heap[1] != of_heap[2], "every row is with its heap");
	for (int h = 0; h < K; h++)
	{
		double		mean[COLS] = {0},
					n = 0;

		for (int i = h; i < ROWS; i += K, n++)
			for (int c = 0; c < COLS; c++)
				mean[c] += data[c][i];
		for (int i = h; i < ROWS; i += K)
		{
			double		square = 0;

			for (int c = 0; c < COLS; c++)
				square += pow(((double) data[c][i] - mean[c] / n) * scale[c], 2);
			inertia += square;
			worst = fmax(worst, fabs(sqrt(square) - (double) out[i][of_heap[h]]));
		}
	}
	ok(worst < 1e-4 && fabs(r.loss / inertia - 1) < 1e-5, "distances to the means (%.1e), inertia %.3f", worst, r.loss);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		int			differ = 0;

		if (isa > (int) lrn_isa_best())
		{
			skip("instruction set not on this processor");
			continue;
		}
		lrn_set_isa(&model, (lrn_isa) isa);
		for (int i = 0; i < ROWS; i++)
		{
			lrn_predict(&model, rows[i], 1, one);
			differ += memcmp(one, out[i], sizeof(one)) != 0;
		}
		ok(differ == 0, "instruction set %d: row by row equals the batch", isa);
	}
	free(flat);
	free(bytes);
	free(again);
}

/* The kernels of training give the same bits everywhere. */
static void
test_kernels(void)
{
	enum {D = 5, KP = 16, GROUPS = 3, N = GROUPS * LRN_LANES};
	lrn_rng		rng;
	float		x[N * D],
				centre[D * KP],
				half[KP],
				closest[N],
				score[3][N],
				trial[3][4 * N];
	int32_t		label[3][N];

	lrn_rng_seed(&rng, 9, 9);
	for (int i = 0; i < N * D; i++)
		x[i] = (float) lrn_rng_below(&rng, 2001) / 1000 - 1;
	for (int i = 0; i < D * KP; i++)
		centre[i] = (float) lrn_rng_below(&rng, 2001) / 1000 - 1;
	for (int c = 0; c < KP; c++)
		half[c] = c < 11 ? (float) c / 20 : INFINITY;
	for (int i = 0; i < N; i++)
		closest[i] = (float) (i % 7);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		const lrn_kernels *k = lrn_kernels_for((lrn_isa) isa);
		int			at = isa - LRN_ISA_PORTABLE;

		k->kmeans_assign(x, GROUPS, D, centre, half, KP, label[at], score[at]);
		k->kmeans_candidates(x, GROUPS, D, centre, closest, trial[at], N);
		ok(memcmp(label[0], label[at], sizeof(label[0])) == 0 && memcmp(score[0], score[at], sizeof(score[0])) == 0 &&
		   memcmp(trial[0], trial[at], sizeof(trial[0])) == 0, "instruction set %d: equal bits", isa);
	}
}

static int	asked;
static bool
cancel_later(void *arg)
{
	(void) arg;
	return ++asked > 6;
}

static void
test_degenerate(void)
{
	lrn_params	p;
	lrn_report	r;
	lrn_model	model;
	mr_code		code;
	mr_status	st = {0};
	mr_env		env = mr_env_malloc;
	size_t		len;
	uint8_t    *bytes,
			   *flat;
	float		weight[ROWS],
				out[K];
	lrn_target	t = {.weight = weight};

	lrn_params_init(&p, LRN_KMEANS);
	p.n_clusters = K;

	/* Three places, four clusters. */
	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			data[c][i] = (float) (i % 3);
	bytes = train(&p, NULL, &r, &len, &code);
	ok(code == MR_OK && r.loss == 0 && r.converged, "fewer places than clusters");
	free(bytes);

	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			data[c][i] = 5;
	bytes = train(&p, NULL, &r, &len, &code);
	ok(code == MR_OK && r.loss == 0, "constant columns");
	flat = open_model(bytes, len, &model);
	lrn_predict(&model, (float[]) {5, 5, 9}, 1, out);
	ok(out[0] == 4, "and a distance to them");
	free(bytes);
	free(flat);
	p.standardize = true;
	bytes = train(&p, NULL, &r, &len, &code);
	ok(code == MR_OK, "constant columns, standardised");
	free(bytes);
	p.standardize = false;

	m.rows = 1;
	train(&p, NULL, &r, &len, &code);
	ok(code == MR_INVALID, "one row for four clusters is refused");
	p.n_clusters = 1;
	bytes = train(&p, NULL, &r, &len, &code);
	ok(code == MR_OK && r.loss == 0, "one row, one cluster");
	free(bytes);

	/* Rows of weight 0 are as if they were not there. */
	make_heaps();
	p.n_clusters = K;
	for (int i = 0; i < ROWS; i++)
		weight[i] = (float) (i % K < 2);
	p.n_clusters = 2;
	bytes = train(&p, &t, &r, &len, &code);
	ok(code == MR_OK && r.loss < ROWS * 0.5, "rows without weight do not count: inertia %.1f", r.loss);
	free(bytes);
	for (int i = 0; i < ROWS; i++)
		weight[i] = i == 3;
	train(&p, &t, &r, &len, &code);
	ok(code == MR_INVALID, "one row with weight for two clusters is refused");

	/* Squares of these overflow float32. */
	for (int c = 0; c < COLS; c++)
		for (int i = 0; i < ROWS; i++)
			data[c][i] = (float) (i % 2 ? 3e38 : -3e38);
	bytes = train(&p, NULL, &r, &len, &code);
	ok(code == MR_OK && r.loss < 1e64, "large numbers");
	free(bytes);

	make_heaps();
	data[1][10] = NAN;
	train(&p, NULL, &r, &len, &code);
	ok(code == MR_INVALID, "missing values are refused");
	data[1][10] = 0;
	env.interrupted = cancel_later;
	ok(lrn_train(&env, &p, &m, NULL, &r, &bytes, &len, &st) == MR_CANCELED, "a cancel unwinds");
	p.max_memory = 1000;
	train(&p, NULL, &r, &len, &code);
	ok(code == MR_LIMIT, "the memory limit is held");
}

int
main(void)
{
	test_heaps(false);
	test_heaps(true);
	test_kernels();
	test_degenerate();
	return done_testing();
}
