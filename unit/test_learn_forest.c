/*
 * test_learn_forest.c
 *	  Random forests: exactness, reproducibility, missing values, weights,
 *	  equality of instruction sets, limits and cancelling.
 */
#include "learn/learn_int.h"
#include "unit.h"

#include <math.h>

#define ROWS	700
#define COLS	6

static float data[COLS][ROWS];
static float *col[COLS];
static int32_t y[ROWS];
static lrn_matrix m = {.rows = ROWS, .cols = COLS, .col = col};

/* Three classes by two columns, one column of noise with gaps, one constant. */
static void
make_data(uint64_t seed)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, seed, 7);
	for (int i = 0; i < ROWS; i++)
	{
		for (int c = 0; c < COLS; c++)
			data[c][i] = (float) lrn_rng_below(&rng, 1000) / 100.0f;
		y[i] = data[0][i] + data[1][i] > 10 ? 2 : data[0][i] > 4 ? 1 : 0;
		if (lrn_rng_below(&rng, 20) == 0)
			y[i] = (int32_t) lrn_rng_below(&rng, 3);
		if (lrn_rng_below(&rng, 5) == 0)
			data[3][i] = NAN;
		data[4][i] = 1.5f;
		data[5][i] = (float) (i % 3);
	}
	for (int c = 0; c < COLS; c++)
		col[c] = data[c];
}

/* Train and return the bytes; NULL on failure with st set. */
static uint8_t *
train(const lrn_params *p, int n_classes, size_t *len, lrn_report *r, mr_status *st)
{
	uint8_t    *file = NULL;

	if (lrn_train(&mr_env_malloc, p, &m, &(lrn_target) {.class_id = y, .n_classes = n_classes}, r, &file, len, st) != MR_OK)
		return NULL;
	return file;
}

/* Probabilities of all training rows; missing ones included. */
static float *
predict(const uint8_t *bytes, size_t len, lrn_isa isa, bool one_by_one, int n_classes)
{
	uint8_t    *flat = NULL;
	size_t		flat_len;
	lrn_model	model;
	mr_status	st = {0};
	float	   *rows = malloc(sizeof(data));
	float	   *out = malloc((size_t) ROWS * (size_t) n_classes * sizeof(float));

	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			rows[i * COLS + c] = data[c][i];
	if (lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st) != MR_OK ||
		lrn_open(flat, flat_len, &model, &st) != MR_OK)
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
	lrn_set_isa(&model, isa);
	if (one_by_one)
		for (int i = 0; i < ROWS; i++)
			lrn_predict(&model, rows + i * COLS, 1, out + i * n_classes);
	else
		lrn_predict(&model, rows, ROWS, out);
	free(flat);
	free(rows);
	return out;
}

static double
accuracy(const float *p, int n_classes)
{
	int			right = 0;

	for (int i = 0; i < ROWS; i++)
	{
		int			best = 0;

		for (int c = 1; c < n_classes; c++)
			if (p[i * n_classes + c] > p[i * n_classes + best])
				best = c;
		right += best == y[i];
	}
	return right / (double) ROWS;
}

static void
test_reproducible(void)
{
	lrn_params	p;
	lrn_report	r,
				r2;
	mr_status	st = {0};
	size_t		len,
				len2,
				len3;
	uint8_t    *a,
			   *b,
			   *c;
	float	   *base;
	static const char *const names[] = {"auto", "portable", "avx2", "avx512"};

	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 40;
	p.random_state = 5;
	a = train(&p, 3, &len, &r, &st);
	b = train(&p, 3, &len2, &r2, &st);
	p.random_state = 6;
	c = train(&p, 3, &len3, &r2, &st);
	ok(a && b && len == len2 && memcmp(a, b, len) == 0, "the same seed gives the same bytes");
	ok(c && (len != len3 || memcmp(a, c, len) != 0), "another seed gives another forest");
	ok(r.train_accuracy > 0.99 && r.oob_score > 0.85 && r.oob_score < 0.99,
	   "train accuracy %.3f, out of bag %.3f", r.train_accuracy, r.oob_score);
	base = predict(a, len, LRN_ISA_PORTABLE, false, 3);
	ok(fabs(accuracy(base, 3) - r.train_accuracy) < 1e-12, "reported accuracy is that of the predictions");
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
		for (int single = 0; single < 2; single++)
		{
			float	   *q = predict(a, len, (lrn_isa) isa, single, 3);

			if (isa > (int) lrn_isa_best())
				skip("instruction set not on this processor");
			else
				ok(memcmp(base, q, ROWS * 3 * sizeof(float)) == 0, "%s, %s: equal bits", names[isa],
				   single ? "row by row" : "batch");
			free(q);
		}
	free(base);
	free(a);
	free(b);
	free(c);
}

/* One tree on all rows and features must separate what can be separated. */
static void
test_exact(void)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *f;
	static float x0[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	static float x1[8] = {3, 1, 4, 1, 5, 9, 2, 6};
	static float *cols[2] = {x0, x1};
	static int32_t labels[8] = {0, 0, 0, 1, 1, 0, 0, 0};
	lrn_matrix	small = {.rows = 8, .cols = 2, .col = cols};
	uint8_t    *flat;
	size_t		flat_len;
	lrn_model	model;
	float		row[2] = {3.5f, 0},
				out[2];

	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 1;
	p.bootstrap = false;
	p.max_features_kind = LRN_FEATURES_ALL;
	ok(lrn_train(&mr_env_malloc, &p, &small, &(lrn_target) {.class_id = labels, .n_classes = 2}, &r, &f, &len, &st) == MR_OK, "a tree on 8 rows");
	ok(r.nodes == 5 && r.depth == 2, "cut at 5.5, then at 3.5: %d nodes, depth %d", (int) r.nodes, r.depth);
	lrn_compile(&mr_env_malloc, f, len, &flat, &flat_len, &st);
	lrn_open(flat, flat_len, &model, &st);
	lrn_predict(&model, row, 1, out);
	ok(out[0] == 1 && out[1] == 0, "x = threshold goes left");
	row[0] = 3.6f;
	lrn_predict(&model, row, 1, out);
	ok(out[0] == 0 && out[1] == 1, "above it goes right");
	free(flat);
	free(f);

	make_data(3);
	p.criterion = LRN_ENTROPY;
	f = train(&p, 3, &len, &r, &st);
	ok(f && r.train_accuracy == 1, "a full tree fits all rows by entropy too (%.4f)", r.train_accuracy);
	free(f);
	p.min_samples_leaf = 20;
	f = train(&p, 3, &len, &r, &st);
	ok(f && r.nodes < 80 && r.train_accuracy < 1, "min_samples_leaf prunes: %d nodes", (int) r.nodes);
	free(f);
	p.min_samples_leaf = 1;
	p.max_depth = 2;
	f = train(&p, 3, &len, &r, &st);
	ok(f && r.depth == 2 && r.nodes <= 7, "max_depth holds");
	free(f);
	p.max_depth = 0;
	p.min_impurity_decrease = 0.05;
	f = train(&p, 3, &len, &r, &st);
	ok(f && r.nodes < 20, "min_impurity_decrease prunes: %d nodes", (int) r.nodes);
	free(f);
}

/* Rows that a tree did not draw are judged by the tree that is stored: by its thresholds, between the values it saw. */
static void
test_out_of_bag(void)
{
	enum
	{
		DRAWN = 14
	};
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	bool		same = true;

	make_data(9);
	for (int i = 0; i < ROWS; i++)
		y[i] = data[0][i] > 5;
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 1;
	p.max_features_kind = LRN_FEATURES_ALL;
	p.max_samples = DRAWN;
	for (p.random_state = 0; p.random_state < 20; p.random_state++)
	{
		uint8_t    *f = train(&p, 2, &len, &r, &st);

		/* At most DRAWN rows were drawn, and those are right. */
		same &= f && r.oob_score <= r.train_accuracy &&
			r.oob_score >= (r.train_accuracy * ROWS - DRAWN) / (ROWS - DRAWN) - 1e-9;
		free(f);
	}
	ok(same, "out of bag is judged by thresholds");
}

/* The class depends on whether column 3 is missing. */
static void
test_missing(void)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *f;
	float	   *q;

	make_data(4);
	for (int i = 0; i < ROWS; i++)
		y[i] = isnan(data[3][i]) ? 1 : data[3][i] < 3 ? 1 : 0;
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 15;
	p.max_features_kind = LRN_FEATURES_ALL;
	f = train(&p, 2, &len, &r, &st);
	ok(f && r.oob_score > 0.98, "missing joins the small values: out of bag %.3f", r.oob_score);
	q = predict(f, len, LRN_ISA_PORTABLE, false, 2);
	ok(accuracy(q, 2) == 1, "and is predicted there");
	free(q);
	free(f);
	for (int i = 0; i < ROWS; i++)
		y[i] = isnan(data[3][i]);
	f = train(&p, 2, &len, &r, &st);
	ok(f && r.train_accuracy == 1 && r.nodes == 15 * 3, "missing against present is one cut a tree");
	free(f);
	for (int i = 0; i < ROWS; i++)
		data[2][i] = NAN;
	f = train(&p, 2, &len, &r, &st);
	ok(f && r.train_accuracy == 1, "a column without any value is passed over");
	free(f);
}

static void
test_weights(void)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *f;
	double		weights[3] = {1, 0, 1};
	float	   *q;
	int			ones = 0;

	make_data(5);
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 10;
	p.class_weight = LRN_WEIGHT_GIVEN;
	p.class_weights = weights;
	f = train(&p, 3, &len, &r, &st);
	q = predict(f, len, LRN_ISA_AUTO, false, 3);
	for (int i = 0; i < ROWS; i++)
		ones += q[i * 3 + 1] > 0;
	ok(f && ones == 0, "a class of weight 0 is never predicted");
	free(q);
	free(f);
	p.class_weight = LRN_WEIGHT_BALANCED;
	p.min_samples_leaf = 10;
	f = train(&p, 3, &len, &r, &st);
	ok(f && r.train_accuracy > 0.85, "balanced weights train (%.3f)", r.train_accuracy);
	free(f);
	p.class_weight = LRN_WEIGHT_BALANCED_SUBSAMPLE;
	p.criterion = LRN_ENTROPY;
	f = train(&p, 3, &len, &r, &st);
	ok(f && r.train_accuracy > 0.85, "balanced_subsample with entropy trains (%.3f)", r.train_accuracy);
	free(f);
	weights[0] = weights[2] = 0;
	p.class_weight = LRN_WEIGHT_GIVEN;
	f = train(&p, 3, &len, &r, &st);
	ok(f == NULL && st.code == MR_INVALID, "no class of positive weight: %s", st.message);
}

static int	asked;
static bool
cancel_later(void *arg)
{
	(void) arg;
	return ++asked > 12;
}

static void
test_refusals(void)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	mr_env		env = mr_env_malloc;
	uint8_t    *file = NULL;

	make_data(6);
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.max_memory = 20000;
	ok(!train(&p, 3, &len, &r, &st) && st.code == MR_LIMIT, "memory limit at the start: %s", st.message);
	p.max_memory = lrn_train_memory(&p, ROWS, COLS, 3) + 100000;
	p.n_estimators = 1000;
	ok(!train(&p, 3, &len, &r, &st) && st.code == MR_LIMIT, "memory limit while trees grow: %s", st.detail);
	p.max_memory = 0;
	env.interrupted = cancel_later;
	ok(lrn_train(&env, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &file, &len, &st) == MR_CANCELED && file == NULL, "a cancel unwinds");
	p.n_estimators = 3;
	data[2][9] = INFINITY;
	ok(!train(&p, 3, &len, &r, &st) && st.code == MR_INVALID && strstr(st.message, "column 3"),
	   "infinity: %s", st.message);
	make_data(6);
	for (int i = 0; i < ROWS; i++)
		y[i] = 1;
	ok(!train(&p, 3, &len, &r, &st) && st.code == MR_INVALID, "one class: %s", st.message);
	y[0] = 0;
	m.rows = 1;
	ok(!train(&p, 3, &len, &r, &st) && st.code == MR_INVALID, "one row: %s", st.message);
	m.rows = 0;
	ok(!train(&p, 3, &len, &r, &st) && st.code == MR_INVALID, "no row: %s", st.message);
	m.rows = 2;
	ok((file = train(&p, 3, &len, &r, &st)) != NULL, "two rows of two classes train");
	free(file);
	m.rows = ROWS;
}

/* Many classes and all features constant. */
static void
test_odd(void)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *f;
	float	   *q;
	double		sum = 0;

	make_data(8);
	for (int i = 0; i < ROWS; i++)
		y[i] = i % 350;
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 5;
	p.min_samples_leaf = 3;
	f = train(&p, 350, &len, &r, &st);
	q = predict(f, len, LRN_ISA_AUTO, false, 350);
	for (int c = 0; c < 350; c++)
		sum += q[c];
	ok(f && fabs(sum - 1) < 1e-5, "350 classes in mixed leaves sum to 1");
	free(q);
	free(f);
	for (int c = 0; c < COLS; c++)
		for (int i = 0; i < ROWS; i++)
			data[c][i] = 2;
	for (int i = 0; i < ROWS; i++)
		y[i] = i % 4 == 0;
	f = train(&p, 2, &len, &r, &st);
	ok(f && r.nodes == 5, "constant columns: every tree is its root");
	q = predict(f, len, LRN_ISA_AUTO, true, 2);
	ok(fabs(q[0] - 0.75) < 0.1, "and says the shares (%.2f)", q[0]);
	free(q);
	free(f);
}

int
main(void)
{
	make_data(1);
	test_reproducible();
	test_exact();
	test_out_of_bag();
	test_missing();
	test_weights();
	test_refusals();
	test_odd();
	return done_testing();
}
