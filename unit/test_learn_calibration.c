/*
 * test_learn_calibration.c
 *	  Platt's sigmoid and isotonic regression against what defines them, and
 *	  calibrated classifiers: better probabilities, the same scores.
 */
#include "learn/calibrate.h"
#include "unit.h"

#include <math.h>

#define ROWS	1500
#define COLS	4

static float data[COLS][ROWS];
static float *col[COLS] = {data[0], data[1], data[2], data[3]};
static int32_t y[ROWS];
static lrn_matrix m = {.rows = ROWS, .cols = COLS, .col = col};

static double
uniform(lrn_rng *rng)
{
	return (double) (lrn_rng_next(rng) >> 11) * 0x1p-53;
}

/* Classes by a noisy sum: nobody can be sure. */
static void
make_data(int n_classes, uint64_t seed)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, seed, 0);
	for (int i = 0; i < ROWS; i++)
	{
		double		s = 0;

		for (int c = 0; c < COLS; c++)
		{
			data[c][i] = (float) (uniform(&rng) * 2 - 1);
			s += data[c][i];
		}
		s += (uniform(&rng) + uniform(&rng) - 1) * 2;
		y[i] = (int32_t) fmin(fmax(floor((s + 2) * n_classes / 4), 0), n_classes - 1);
	}
}

/* At the optimum the residuals sum to 0, weighted by 1 and by the score. */
static void
test_sigmoid(double scale, bool weighted)
{
	static float score[ROWS],
				weight[ROWS];
	static int32_t class[ROWS];
	lrn_rng		rng;
	lrn_map		map;
	mr_status	st = {0};
	double		in = 0,
				out = 0,
				g0 = 0,
				g1 = 0;
	lrn_scored_rows rows = {ROWS, score, 1, class, 1, weighted ? weight : NULL};

	lrn_rng_seed(&rng, 4, 4);
	for (int i = 0; i < ROWS; i++)
	{
		double		s = uniform(&rng) * 6 - 3;

		score[i] = (float) (s * scale);
		class[i] = uniform(&rng) < 1 / (1 + exp(-2 * s + 1));
		weight[i] = (float) (i % 4);
		*(class[i] ? &in : &out) += weighted ? weight[i] : 1;
	}
	if (!ok(lrn_fit_sigmoid(&mr_env_malloc, &rows, &map, &st) == MR_OK, "sigmoid, scores times %g", scale))
		return;
	for (int i = 0; i < ROWS; i++)
	{
		double		p = 1 / (1 + exp(map.a * score[i] + map.b)),
					r = (weighted ? weight[i] : 1) * ((class[i] ? (in + 1) / (in + 2) : 1 / (out + 2)) - p);

		g0 += r;
		g1 += r * score[i] / scale;
	}
	ok(fabs(g0) < 1e-5 * ROWS && fabs(g1) < 1e-5 * ROWS, "the gradient vanishes (%.1e, %.1e)", g0, g1);
	ok(fabs(map.a * scale + 2) < 0.3 && fabs(map.b - 1) < 0.3, "the sigmoid drawn from is found: %.2f, %.2f", map.a * scale, map.b);
}

static void
test_sigmoid_odd(void)
{
	static float score[ROWS];
	static int32_t class[ROWS];
	lrn_map		map;
	mr_status	st = {0};
	lrn_scored_rows rows = {ROWS, score, 1, class, 1, NULL};

	for (int i = 0; i < ROWS; i++)
	{
		score[i] = 0;
		class[i] = i % 3 == 0;
	}
	ok(lrn_fit_sigmoid(&mr_env_malloc, &rows, &map, &st) == MR_OK && map.a == 0 &&
	   fabs(1 / (1 + exp(map.b)) - 1.0 / 3) < 1e-2, "equal scores: the share of the class");
	for (int i = 0; i < ROWS; i++)
		score[i] = class[i] ? 3e38f : -3e38f;
	ok(lrn_fit_sigmoid(&mr_env_malloc, &rows, &map, &st) == MR_OK && isfinite(map.a) && isfinite(map.b) &&
	   1 / (1 + exp(map.a * 3e38 + map.b)) > 0.99, "classes far apart: finite and sure");
	for (int i = 0; i < ROWS; i++)
		class[i] = 0;
	ok(lrn_fit_sigmoid(&mr_env_malloc, &rows, &map, &st) == MR_OK && 1 / (1 + exp(map.b)) < 0.01, "no row of the class");
}

/* The isotonic fit at i is the largest over a <= i of the least over b >= i of mean(a .. b). */
static void
test_isotonic(bool weighted)
{
	enum {N = 60};
	float		score[N],
				weight[N];
	int32_t		class[N];
	lrn_rng		rng;
	lrn_map		map;
	mr_status	st = {0};
	lrn_scored_rows rows = {N, score, 1, class, 1, weighted ? weight : NULL};
	double		worst = 0;
	bool		ascending = true;

	lrn_rng_seed(&rng, 9, weighted);
	for (int i = 0; i < N; i++)
	{
		/* Sorted here, with ties; the fit gets them shuffled. */
		score[(i * 37) % N] = (float) (i / 2);
		class[(i * 37) % N] = uniform(&rng) < (double) i / N;
		weight[(i * 37) % N] = (float) lrn_rng_below(&rng, 4);
	}
	if (!ok(lrn_fit_isotonic(&mr_env_malloc, &rows, &map, &st) == MR_OK && map.n >= 2, "isotonic"))
		return;
	for (uint32_t k = 1; k < map.n; k++)
		ascending &= map.x[k] > map.x[k - 1] && map.y[k] >= map.y[k - 1];
	ok(ascending, "points ascend");
	for (uint32_t k = 0; k < map.n; k++)
	{
		double		best = -1;

		for (int a = 0; a <= (int) map.x[k]; a++)
		{
			double		least = 2;

			for (int b = (int) map.x[k]; b < N / 2; b++)
			{
				double		sum = 0,
							total = 0;

				for (int i = 0; i < N; i++)
					if (score[i] >= (float) a && score[i] <= (float) b)
					{
						sum += (weighted ? weight[i] : 1) * class[i];
						total += weighted ? weight[i] : 1;
					}
				if (total > 0)
					least = fmin(least, sum / total);
			}
			best = fmax(best, least == 2 ? -1 : least);
		}
		worst = fmax(worst, fabs(best - map.y[k]));
	}
	ok(worst < 1e-12, "values are those of the definition (%.1e)", worst);
	free(map.x);
	free(map.y);
}

static mr_code
train(const lrn_params *p, int n_classes, uint8_t **bytes, size_t *len, lrn_report *r, mr_status *st)
{
	*bytes = NULL;
	return lrn_train(&mr_env_malloc, p, &m, &(lrn_target) {.class_id = y, .n_classes = n_classes}, r, bytes, len, st);
}

static uint8_t *
open_model(const uint8_t *bytes, size_t len, lrn_model *model)
{
	size_t		flat_len;
	uint8_t    *flat;
	mr_status	st = {0};

	if (lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st) != MR_OK ||
		lrn_open(flat, flat_len, model, &st) != MR_OK)
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
	return flat;
}

static void
row_major(float *rows)
{
	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			rows[i * COLS + c] = data[c][i];
}

static double
log_loss(const float *p, int k)
{
	double		sum = 0;

	for (int i = 0; i < ROWS; i++)
		sum -= log(fmax(p[i * k + y[i]], 1e-15));
	return sum / ROWS;
}

static double
brier(const float *p, int k)
{
	double		sum = 0;

	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < k; c++)
			sum += pow(p[i * k + c] - (c == y[i]), 2);
	return sum / ROWS;
}

/* Log-loss or Brier fall on rows not seen; scores are those of the plain model. */
static void
test_classifier(const char *what, lrn_algorithm a, int k, lrn_calibration kind)
{
	lrn_params	p;
	mr_status	st = {0};
	lrn_report	r;
	uint8_t    *bytes[3],
			   *flat[3];
	size_t		len[3];
	lrn_model	model[3];
	static float rows[ROWS * COLS],
				out[3][ROWS * 20],
				one[ROWS * 20];
	double		worst = 0;
	bool		svm = a == LRN_LINEAR_SVM || a == LRN_RBF_SVM;

	make_data(k, 1);
	lrn_params_init(&p, a);
	p.n_estimators = 30;
	for (int i = 0; i < 3; i++)
	{
		p.calibration = i ? kind : LRN_CALIBRATION_NONE;
		if (!ok(train(&p, k, &bytes[i], &len[i], &r, &st) == MR_OK, "%s, %d classes: trained", what, k))
		{
			printf("# %s: %s\n", st.message, st.detail);
			exit(1);
		}
		flat[i] = open_model(bytes[i], len[i], &model[i]);
	}
	ok(len[1] == len[2] && memcmp(bytes[1], bytes[2], len[1]) == 0, "%s: twice the same bytes", what);
	make_data(k, 2);
	row_major(rows);
	for (int i = 0; i < 2; i++)
		lrn_predict(&model[i], rows, ROWS, out[i]);
	/* An isotonic map may be sure and wrong; a forest's probabilities are nearly right before. */
	ok((kind == LRN_CALIBRATION_ISOTONIC || log_loss(out[1], k) < log_loss(out[0], k)) &&
	   brier(out[1], k) < brier(out[0], k) + (svm ? 0 : 0.004),
	   "%s, %d classes: log-loss %.3f -> %.3f, Brier %.3f -> %.3f", what, k,
	   log_loss(out[0], k), log_loss(out[1], k), brier(out[0], k), brier(out[1], k));
	for (int i = 0; i < ROWS; i++)
	{
		double		sum = 0;

		for (int c = 0; c < k; c++)
			sum += out[1][i * k + c];
		worst = fmax(worst, fabs(sum - 1));
	}
	ok(worst < 1e-6, "%s: probabilities sum to 1", what);
	lrn_scores(&model[0], rows, ROWS, out[0]);
	lrn_scores(&model[1], rows, ROWS, out[2]);
	ok(memcmp(out[0], out[2], sizeof(float) * ROWS * (size_t) k) == 0, "%s: scores do not know of the calibration", what);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		lrn_set_isa(&model[1], (lrn_isa) isa);
		for (int i = 0; i < ROWS; i++)
			lrn_predict(&model[1], rows + i * COLS, 1, one + i * k);
		ok(memcmp(one, out[1], sizeof(float) * ROWS * (size_t) k) == 0, "%s: set %d, row by row, equals the batch", what, isa);
	}
	for (int i = 0; i < 3; i++)
	{
		free(flat[i]);
		free(bytes[i]);
	}
}

static int	left;
static bool
cancel_at(void *arg)
{
	(void) arg;
	return left-- <= 0;
}

static void
test_refusals(void)
{
	lrn_params	p;
	mr_status	st = {0};
	lrn_report	r;
	uint8_t    *bytes;
	size_t		len;
	mr_env		env = mr_env_malloc;
	int			canceled = 0;

	make_data(2, 1);
	lrn_params_init(&p, LRN_LINEAR_SVM);
	for (int i = 0; i < ROWS; i++)
		y[i] = i == 7;
	ok(train(&p, 2, &bytes, &len, &r, &st) == MR_INVALID && st.hint[0], "one row of a class: %s", st.message);
	y[8] = y[9] = 1;
	ok(train(&p, 2, &bytes, &len, &r, &st) == MR_OK, "three rows of a class: three folds");
	free(bytes);
	p.max_memory = lrn_train_memory(&p, ROWS, COLS, 2);
	ok(train(&p, 2, &bytes, &len, &r, &st) == MR_OK, "just enough memory: %zu bytes", p.max_memory);
	free(bytes);
	p.max_memory--;
	ok(train(&p, 2, &bytes, &len, &r, &st) == MR_LIMIT, "a byte less: %s", st.message);
	p.max_memory = 0;
	make_data(3, 1);
	env.interrupted = cancel_at;
	for (int after = 0; after < 400; after += 7)
	{
		mr_code		code;

		left = after;
		bytes = NULL;
		code = lrn_train(&env, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st);
		canceled += code == MR_CANCELED;
		if (code == MR_OK)
			free(bytes);
		else if (code != MR_CANCELED || bytes)
			canceled = -1000;
	}
	ok(canceled > 3, "cancelled at %d moments, nothing leaks", canceled);
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.calibration = LRN_CALIBRATION_ISOTONIC;
	p.task = LRN_REGRESS;
	ok(lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.value = data[0]}, &r, &bytes, &len, &st) == MR_INVALID,
	   "regression: %s", st.message);
}

int
main(void)
{
	test_sigmoid(1, false);
	test_sigmoid(1e-20, true);
	test_sigmoid(1e20, true);
	test_sigmoid_odd();
	test_isotonic(false);
	test_isotonic(true);
	test_classifier("rbf_svm, sigmoid", LRN_RBF_SVM, 2, LRN_CALIBRATION_SIGMOID);
	test_classifier("rbf_svm, isotonic", LRN_RBF_SVM, 3, LRN_CALIBRATION_ISOTONIC);
	test_classifier("linear_svm, sigmoid", LRN_LINEAR_SVM, 2, LRN_CALIBRATION_SIGMOID);
	test_classifier("linear_svm, isotonic", LRN_LINEAR_SVM, 4, LRN_CALIBRATION_ISOTONIC);
	test_classifier("random_forest, sigmoid", LRN_RANDOM_FOREST, 3, LRN_CALIBRATION_SIGMOID);
	test_classifier("random_forest, isotonic", LRN_RANDOM_FOREST, 2, LRN_CALIBRATION_ISOTONIC);
	test_classifier("extra_trees, sigmoid", LRN_EXTRA_TREES, 2, LRN_CALIBRATION_SIGMOID);
	test_classifier("knn, sigmoid", LRN_KNN, 12, LRN_CALIBRATION_SIGMOID);
	test_refusals();
	return done_testing();
}
