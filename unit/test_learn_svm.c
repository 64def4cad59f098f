/*
 * test_learn_svm.c
 *	  RBF machines against the conditions that define their optimum, on every
 *	  instruction set, with data that is hard or makes no sense.
 */
#include "learn/svm.h"
#include "unit.h"

#include <math.h>

#define ROWS	603				/* no multiple of a tile */
#define COLS	5

static float data[COLS][ROWS];
static float *col[COLS] = {data[0], data[1], data[2], data[3], data[4]};
static int32_t y[ROWS];
static float weight[ROWS];
static lrn_matrix m = {.rows = ROWS, .cols = COLS, .col = col};

/* Rings about the origin, one a class, that overlap; columns far from 0. */
static void
make_data(int n_classes)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, 7, 0);
	m.rows = ROWS;
	for (int i = 0; i < ROWS; i++)
	{
		double		r = 0;

		for (int c = 0; c < COLS; c++)
		{
			double		x = (double) lrn_rng_below(&rng, 2001) / 1000 - 1;

			r += x * x;
			data[c][i] = (float) (c == 1 ? 55000 + 1000 * x : c == 2 ? x / 100 : x);
		}
		y[i] = (int32_t) fmin(floor(r * n_classes / 3), n_classes - 1);
		weight[i] = (float) (1 + i % 3);
		if (i % 17 == 0)
			y[i] = (y[i] + 1) % n_classes;
	}
}

static void
row_of(int i, float *row)
{
	for (int c = 0; c < COLS; c++)
		row[c] = data[c][i];
}

static mr_code
train(const lrn_params *p, int n_classes, const float *w, uint8_t **bytes, size_t *len, lrn_report *r, mr_status *st)
{
	return lrn_train(&mr_env_malloc, p, &m, &(lrn_target) {.class_id = y, .n_classes = n_classes, .weight = w}, r, bytes, len, st);
}

static void
open_model(const uint8_t *bytes, size_t len, uint8_t **flat, lrn_model *model)
{
	size_t		flat_len;
	mr_status	st = {0};

	if (lrn_compile(&mr_env_malloc, bytes, len, flat, &flat_len, &st) != MR_OK ||
		lrn_open(*flat, flat_len, model, &st) != MR_OK)
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
}

static lrn_params
plain(void)
{
	lrn_params	p;

	lrn_params_init(&p, LRN_RBF_SVM);
	p.standardize = true;
	p.calibration = LRN_CALIBRATION_NONE;
	return p;
}

/* a of a training row, by its coordinates among the support vectors; -1: two rows have them. */
static double
multiplier(const lrn_model *model, int i)
{
	double		found = 0;
	int			times = 0;

	for (uint32_t t = model->svm.first_tile[y[i]]; t < model->svm.first_tile[y[i] + 1]; t++)
		for (int lane = 0; lane < LRN_TILE; lane++)
		{
			const float *tile = model->svm.tiles + (size_t) t * COLS * LRN_TILE + lane;
			double		a = model->svm.coef[(size_t) t * LRN_TILE + (size_t) lane];
			bool		same = a != 0;

			for (int c = 0; c < COLS; c++)
				same &= tile[c * LRN_TILE] == svm_coordinate(data[c][i], model->shift[c], model->scale[c]);
			times += same;
			found += same ? fabs(a) : 0;
		}
	return times > 1 ? -1 : found;
}

/* y f >= 1 where a = 0, = 1 inside the bounds, <= 1 at C; multipliers sum to 0. */
static void
test_optimum(const float *w, double C)
{
	lrn_params	p = plain();
	lrn_report	r;
	mr_status	st = {0};
	uint8_t    *bytes,
			   *flat;
	size_t		len;
	lrn_model	model;
	double		worst = 0,
				sum = 0;
	int			inside = 0,
				bound = 0;

	make_data(2);
	p.C = C;
	p.tol = 1e-5;
	if (!ok(train(&p, 2, w, &bytes, &len, &r, &st) == MR_OK && r.converged, "C = %g: converges", C))
		return;
	open_model(bytes, len, &flat, &model);
	for (uint32_t i = 0; i < model.svm.first_tile[2] * LRN_TILE; i++)
		sum += model.svm.coef[i];
	for (int i = 0; i < ROWS; i++)
	{
		float		row[COLS],
					out[2];
		double		a = multiplier(&model, i),
					limit = C * (w ? (double) w[i] : 1),
					margin;

		row_of(i, row);
		lrn_scores(&model, row, 1, out);
		margin = y[i] == 1 ? out[1] : out[0];
		if (a < 0)
			continue;
		inside += a > 0 && a < limit * (1 - 1e-6);
		bound += a >= limit * (1 - 1e-6);
		worst = fmax(worst, a == 0 ? 1 - margin : a < limit * (1 - 1e-6) ? fabs(margin - 1) : margin - 1);
	}
	ok(worst < 1e-4 && inside > 10 && bound > 10,
	   "C = %g, %s: optimality holds within %.1e; %d inside the bounds, %d at one", C, w ? "weighted" : "plain", worst, inside, bound);
	ok(fabs(sum) < 1e-4 * C, "multipliers of both classes sum to 0 (%.1e)", sum);
	free(flat);
	free(bytes);
}

/* The same floats alone, in a batch, on each set; the same bytes on each training. */
static void
test_equal_bits(int k)
{
	static const char *const isa_names[] = {"auto", "portable", "avx2", "avx512"};
	lrn_params	p = plain();
	mr_status	st = {0};
	uint8_t    *bytes,
			   *again,
			   *flat;
	size_t		len,
				len_again;
	lrn_model	model;
	lrn_report	r;
	float	   *rows = malloc(sizeof(float) * ROWS * COLS),
			   *out = malloc(sizeof(float) * ROWS * (size_t) k),
			   *one = malloc(sizeof(float) * ROWS * (size_t) k);
	double		worst = 0;

	make_data(k);
	p.calibration = LRN_CALIBRATION_SIGMOID;
	p.cv = 3;
	if (!ok(train(&p, k, NULL, &bytes, &len, &r, &st) == MR_OK, "%d classes: trained", k))
		exit(1);
	ok(r.train_accuracy > (k < 10 ? 0.8 : 0.35), "%d classes: accuracy %.3f", k, r.train_accuracy);
	train(&p, k, NULL, &again, &len_again, &r, &st);
	ok(len == len_again && memcmp(bytes, again, len) == 0, "%d classes: training twice gives the same bytes", k);
	open_model(bytes, len, &flat, &model);
	for (int i = 0; i < ROWS; i++)
		row_of(i, rows + i * COLS);
	lrn_predict(&model, rows, ROWS, out);
	for (int i = 0; i < ROWS; i++)
	{
		double		sum = 0;

		for (int c = 0; c < k; c++)
			sum += out[i * k + c];
		worst = fmax(worst, fabs(sum - 1));
	}
	ok(worst < 1e-6, "%d classes: probabilities sum to 1", k);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		lrn_set_isa(&model, (lrn_isa) isa);
		for (int i = 0; i < ROWS; i++)
			lrn_predict(&model, rows + i * COLS, 1, one + i * k);
		if (isa > (int) lrn_isa_best())
			skip("instruction set not on this processor");
		else
			ok(memcmp(one, out, sizeof(float) * ROWS * (size_t) k) == 0, "%d classes: %s row by row equals the batch", k, isa_names[isa]);
	}
	rows[3] = NAN;
	lrn_predict(&model, rows, 1, out);
	ok(isnan(out[0]) && isnan(out[k - 1]), "%d classes: a missing value gives NaN", k);
	free(rows);
	free(out);
	free(one);
	free(flat);
	free(bytes);
	free(again);
}

/* Kernels of the sets give the same bits: a solution does not depend on the processor. */
static void
test_kernels(void)
{
	enum {D = 7, TILES = 35, N = TILES * LRN_TILE};
	float	   *tiles = mr_alloc(&mr_env_malloc, sizeof(float) * N * D),
			   *row[4],
			   *up = mr_alloc(&mr_env_malloc, sizeof(float) * N),
			   *low = mr_alloc(&mr_env_malloc, sizeof(float) * N),
				x[D];
	double	   *f[4];
	lrn_smo_best best[4];
	int			pick[4];
	double		worst = 0;
	lrn_rng		rng;

	lrn_rng_seed(&rng, 3, 0);
	for (int i = 0; i < N * D; i++)
		tiles[i] = (float) lrn_rng_below(&rng, 1000) / 500;
	for (int j = 0; j < D; j++)
		x[j] = 1;
	for (int i = 0; i < N; i++)
	{
		up[i] = lrn_rng_below(&rng, 3) ? 0 : -INFINITY;
		low[i] = lrn_rng_below(&rng, 3) ? 0 : INFINITY;
	}
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		const lrn_kernels *k = lrn_kernels_for((lrn_isa) isa);

		row[isa] = mr_alloc(&mr_env_malloc, sizeof(float) * N);
		f[isa] = mr_alloc(&mr_env_malloc, sizeof(double) * N);
		k->rbf_row(tiles, TILES, D, x, row[isa]);
		for (int i = 0; i < N; i++)
			f[isa][i] = sin(i);
		k->smo_update(f[isa], row[isa], tiles, 0.37, up, low, N, &best[isa]);
		pick[isa] = k->smo_pick(f[isa], row[isa], low, best[isa].up, N);
		k->smo_add(f[isa], row[isa], -1.7, N);
	}
	for (int i = 0; i < N; i++)
	{
		double		sum = 0;

		for (int j = 0; j < D; j++)
			sum += pow(tiles[(i / LRN_TILE * D + j) * LRN_TILE + i % LRN_TILE] - x[j], 2);
		worst = fmax(worst, fabs(row[1][i] / exp2(-sum) - 1));
	}
	ok(worst < 2e-6, "kernel rows are right (%.1e)", worst);
	for (int isa = LRN_ISA_AVX2; isa <= LRN_ISA_AVX512; isa++)
		ok(memcmp(row[1], row[isa], sizeof(float) * N) == 0 && memcmp(f[1], f[isa], sizeof(double) * N) == 0 &&
		   best[1].i == best[isa].i && best[1].up == best[isa].up && best[1].low == best[isa].low && pick[1] == pick[isa],
		   "set %d: the solver's passes are bit-equal (%d, %d)", isa, best[isa].i, pick[isa]);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		free(row[isa]);
		free(f[isa]);
	}
	free(tiles);
	free(up);
	free(low);
}

/* A cache of two rows, and one that holds all, solve the same problem. */
static void
test_cache(void)
{
	lrn_params	p = plain();
	mr_status	st = {0};
	uint8_t    *bytes[2],
			   *flat[2];
	size_t		len[2];
	lrn_model	model[2];
	lrn_report	r;
	double		worst = 0;

	make_data(3);
	p.tol = 1e-6;
	for (int i = 0; i < 2; i++)
	{
		p.cache_size = i ? 200 : 1e-6;
		ok(train(&p, 3, NULL, &bytes[i], &len[i], &r, &st) == MR_OK && r.converged, "cache_size %g", p.cache_size);
		open_model(bytes[i], len[i], &flat[i], &model[i]);
	}
	for (int i = 0; i < ROWS; i++)
	{
		float		row[COLS],
					out[2][3];

		row_of(i, row);
		for (int j = 0; j < 2; j++)
			lrn_scores(&model[j], row, 1, out[j]);
		for (int c = 0; c < 3; c++)
			worst = fmax(worst, fabs(out[0][c] - out[1][c]));
	}
	ok(worst < 1e-4, "scores agree within %.1e", worst);
	for (int i = 0; i < 2; i++)
	{
		free(bytes[i]);
		free(flat[i]);
	}
}

static int	asked;
static bool
cancel_later(void *arg)
{
	(void) arg;
	return ++asked > 5;
}

static void
test_refusals(void)
{
	lrn_params	p = plain();
	mr_status	st = {0};
	uint8_t    *bytes = NULL;
	size_t		len;
	lrn_report	r;
	mr_env		env = mr_env_malloc;

	make_data(3);
	for (int i = 0; i < ROWS; i++)
		y[i] = i % 101;
	ok(train(&p, 101, NULL, &bytes, &len, &r, &st) == MR_LIMIT && st.hint[0], "101 classes: %s", st.message);
	make_data(3);
	p.max_memory = 1000;
	ok(train(&p, 3, NULL, &bytes, &len, &r, &st) == MR_LIMIT, "too little memory: %s", st.message);
	p.max_memory = lrn_train_memory(&p, ROWS, COLS, 3);
	ok(train(&p, 3, NULL, &bytes, &len, &r, &st) == MR_OK && r.memory <= p.max_memory, "just enough memory: %zu bytes", p.max_memory);
	free(bytes);
	p.max_memory = 0;
	p.max_iter = 3;
	ok(train(&p, 3, NULL, &bytes, &len, &r, &st) == MR_OK && !r.converged, "three iterations are told as not converged");
	free(bytes);
	p.max_iter = 0;
	env.interrupted = cancel_later;
	p.tol = 1e-7;
	bytes = NULL;
	ok(lrn_train(&env, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st) == MR_CANCELED, "a cancel unwinds");
	for (int i = 0; i < ROWS; i++)
		weight[i] = y[i] == 1;
	ok(train(&p, 3, weight, &bytes, &len, &r, &st) == MR_INVALID, "weights leave one class: %s", st.message);
}

static double
accuracy(const lrn_params *p, int n_classes, const char *what)
{
	mr_status	st = {0};
	uint8_t    *bytes;
	size_t		len;
	lrn_report	r;

	if (train(p, n_classes, NULL, &bytes, &len, &r, &st) != MR_OK)
	{
		printf("# %s: %s\n", what, st.message);
		return -1;
	}
	free(bytes);
	return r.train_accuracy;
}

static void
test_hard_data(void)
{
	lrn_params	p = plain();
	double		a;

	make_data(2);
	for (int i = 0; i < ROWS; i++)
		data[1][i] = 7;
	a = accuracy(&p, 2, "a constant column");
	ok(a > 0.7, "a constant column does no harm: %.3f", a);
	for (int c = 0; c < COLS; c++)
		for (int i = 0; i < ROWS; i++)
			data[c][i] = 7;
	a = accuracy(&p, 2, "constant");
	ok(a >= 0.5, "constant columns only: the larger class, %.3f", a);
	make_data(2);
	m.rows = 2;
	y[0] = 0;
	y[1] = 1;
	a = accuracy(&p, 2, "two rows");
	ok(a == 1, "two rows are told apart: %.3f", a);
	p.C = 1e6;
	p.standardize = false;
	m.rows = ROWS;
	make_data(2);
	for (int i = 0; i + 1 < ROWS; i += 2)
	{
		for (int c = 0; c < COLS; c++)
			data[c][i + 1] = data[c][i];
		y[i] = 0;
		y[i + 1] = 1;
	}
	p.gamma = 1;
	a = accuracy(&p, 2, "twins");
	ok(a >= 0.4 && a <= 0.6, "equal rows of both classes: %.3f", a);
	p.C = 1;
	make_data(2);
	for (int i = 0; i < ROWS; i++)
		data[0][i] = i % 2 ? 3e38f : -3e38f;
	a = accuracy(&p, 2, "huge");
	ok(a >= 0.5, "huge values, gamma 1: %.3f", a);
	p.gamma = LRN_GAMMA_SCALE;
	a = accuracy(&p, 2, "huge, scaled");
	ok(a >= 0.5, "huge values, gamma scale: %.3f", a);
	make_data(2);
	p.gamma = 1e-30;
	a = accuracy(&p, 2, "flat kernel");
	ok(a >= 0.5, "a kernel that is 1 everywhere: %.3f", a);
	p.gamma = 1e30;
	a = accuracy(&p, 2, "sharp kernel");
	ok(a > 0.95, "a kernel that is 0 everywhere else: %.3f", a);
	make_data(3);
	p = plain();
	p.class_weight = LRN_WEIGHT_GIVEN;
	p.class_weights = (const double[]) {1, 0, 1};
	a = accuracy(&p, 3, "a class without weight");
	ok(a > 0.3, "a class of weight 0 is not learnt: %.3f", a);
}

int
main(void)
{
	test_kernels();
	test_optimum(NULL, 1);
	test_optimum(NULL, 20);
	test_optimum(weight, 0.5);
	test_equal_bits(2);
	test_equal_bits(3);
	test_equal_bits(20);
	test_cache();
	test_refusals();
	test_hard_data();
	return done_testing();
}
