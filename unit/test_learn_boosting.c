/*
 * test_learn_boosting.c
 *	  Gradient boosting: equal bytes and answers on every instruction set,
 *	  categories and missing values, weights, limits, cancelling, and data
 *	  that tell nothing.
 */
#include "learn/learn_int.h"
#include "learn/tree_view.h"
#include "unit.h"

#include <math.h>

#define ROWS	1500
#define COLS	7

static float data[COLS][ROWS];
static float *col[COLS];
static int32_t y[ROWS];
static float value[ROWS];
static const int32_t categories[COLS] = {0, 0, 0, 0, 0, 40, 3};
static lrn_matrix m = {.rows = ROWS, .cols = COLS, .col = col, .n_categories = categories};

/* Three classes by numbers and categories; gaps, a constant, an empty column. */
static void
make_data(uint64_t seed)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, seed, 7);
	for (int i = 0; i < ROWS; i++)
	{
		for (int c = 0; c < COLS; c++)
			data[c][i] = (float) lrn_rng_below(&rng, 2000) / 100.0f - 5;
		data[2][i] = lrn_rng_below(&rng, 4) ? data[2][i] : NAN;
		data[3][i] = 1.5f;
		data[4][i] = NAN;
		data[5][i] = lrn_rng_below(&rng, 30) ? (float) lrn_rng_below(&rng, 40) : NAN;
		data[6][i] = (float) lrn_rng_below(&rng, 3);
		y[i] = data[0][i] + data[1][i] > 10 ? 2 : data[5][i] < 40 && (int) data[5][i] % 3 == 1 ? 1 : 0;
		if (isnan(data[2][i]) && lrn_rng_below(&rng, 2))
			y[i] = 1;
		value[i] = data[0][i] * data[1][i] + (data[6][i] == 1 ? 30 : 0) + (isnan(data[2][i]) ? -20 : 0);
	}
	for (int c = 0; c < COLS; c++)
		col[c] = data[c];
}

static lrn_params
params(int max_iter)
{
	lrn_params	p;

	lrn_params_init(&p, LRN_GRADIENT_BOOSTING);
	p.max_iter = max_iter;
	return p;
}

static uint8_t *
train_env(const mr_env *env, const lrn_params *p, const lrn_target *t, size_t *len, lrn_report *r, mr_status *st)
{
	uint8_t    *file = NULL;

	*st = (mr_status) {0};
	return lrn_train(env, p, &m, t, r, &file, len, st) == MR_OK ? file : NULL;
}

static uint8_t *
train(const lrn_params *p, int n_classes, size_t *len, lrn_report *r, mr_status *st)
{
	lrn_target	t = {.class_id = y, .n_classes = n_classes};

	if (p->task == LRN_REGRESS)
		t = (lrn_target) {.value = value};
	return train_env(&mr_env_malloc, p, &t, len, r, st);
}

static float *
row_major(void)
{
	float	   *rows = malloc(sizeof(data));

	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			rows[i * COLS + c] = data[c][i];
	return rows;
}

/* Answers of all rows, step rows a call. */
static float *
predict(const uint8_t *bytes, size_t len, lrn_isa isa, int step)
{
	uint8_t    *flat = NULL;
	size_t		flat_len;
	lrn_model	model;
	mr_status	st = {0};
	float	   *rows = row_major(),
			   *out;
	int			k;

	if (lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st) != MR_OK ||
		lrn_open(flat, flat_len, &model, &st) != MR_OK)
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
	k = lrn_n_outputs(&model);
	out = malloc((size_t) ROWS * (size_t) k * sizeof(float));
	lrn_set_isa(&model, isa);
	for (int i = 0; i < ROWS; i += step)
		lrn_predict(&model, rows + i * COLS, ROWS - i < step ? ROWS - i : step, out + i * k);
	free(flat);
	free(rows);
	return out;
}

/* Whether the trees as the view shows them give the same answers. */
static double
view_difference(const uint8_t *bytes, size_t len, const float *answers, int k)
{
	lrn_trees	v;
	const lrn_tree *tree;
	mr_status	st = {0};
	double	   *margin;
	double		worst = 0;

	if (lrn_trees_open(&mr_env_malloc, bytes, len, &v, &st) != MR_OK)
		return INFINITY;
	margin = calloc((size_t) ROWS * (size_t) v.n_margins, sizeof(double));
	while (lrn_trees_next(&v, &tree, &st) == MR_OK && tree)
		for (int i = 0; i < ROWS; i++)
		{
			const lrn_tree_node *n = tree->node;

			while (n->feature >= 0)
				n = tree->node + lrn_tree_child(tree, n, data[n->feature][i]);
			margin[i * v.n_margins + tree->margin] += tree->values[n->value];
		}
	for (int i = 0; i < ROWS; i++)
	{
		double	   *a = margin + i * v.n_margins,
					sum = 0;

		for (int c = 0; c < v.n_margins; c++)
		{
			a[c] += v.base[c];
			sum += exp(a[c]);
		}
		for (int c = 0; c < k; c++)
		{
			double		p = v.link == LRN_LINK_NONE ? a[c] : v.link == LRN_LINK_SOFTMAX ? exp(a[c]) / sum
				: c == 1 ? sum / (1 + sum) : 1 / (1 + sum);

			worst = fmax(worst, fabs(p - answers[i * k + c]));
		}
	}
	free(margin);
	lrn_trees_close(&v);
	return worst;
}

/* Equal bytes and answers however they are computed. */
static void
test_equal(const char *what, lrn_params p, int n_classes)
{
	size_t		len,
				len2;
	lrn_report	r,
				r2;
	mr_status	st;
	int			k = n_classes ? n_classes : 1;
	size_t		size = (size_t) ROWS * (size_t) k * sizeof(float);
	bool		drawn = p.subsample < 1 || p.colsample_bytree < 1 || p.early_stopping;
	uint8_t    *bytes,
			   *other;
	float	   *base;

	p.isa = LRN_ISA_PORTABLE;
	bytes = train(&p, n_classes, &len, &r, &st);
	if (!ok(bytes != NULL, "%s trains: %s", what, bytes ? "" : st.message))
		return;
	for (int isa = LRN_ISA_AVX2; isa <= LRN_ISA_AVX512; isa++)
	{
		p.isa = (lrn_isa) isa;
		other = train(&p, n_classes, &len2, &r2, &st);
		ok(other && len2 == len && memcmp(bytes, other, len) == 0, "%s: instruction set %d gives the same %zu bytes",
		   what, isa, len);
		mr_free(&mr_env_malloc, other);
	}
	p.random_state = 9;
	other = train(&p, n_classes, &len2, &r2, &st);
	ok(other && (len2 != len || memcmp(bytes, other, len) != 0) == drawn,
	   "%s: another seed gives %s", what, drawn ? "another model" : "the same");
	mr_free(&mr_env_malloc, other);
	base = predict(bytes, len, LRN_ISA_PORTABLE, ROWS);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
		for (int step = 1; step <= 70; step += step == 1 ? 6 : step == 7 ? 26 : 37)
		{
			float	   *out = predict(bytes, len, (lrn_isa) isa, step);

			ok(memcmp(base, out, size) == 0, "%s: instruction set %d, %d rows a call", what, isa, step);
			free(out);
		}
	{
		double		worst = view_difference(bytes, len, base, k);
		double		scale = 1;

		if (!n_classes)
			scale = 300;
		ok(worst < 1e-5 * scale, "%s: the view of its trees answers the same (%.1e)", what, worst);
	}
	free(base);
	mr_free(&mr_env_malloc, bytes);
}

static void
test_learns(void)
{
	lrn_params	p = params(60);
	lrn_report	r;
	mr_status	st;
	size_t		len;
	uint8_t    *bytes = train(&p, 3, &len, &r, &st);

	ok(bytes && r.train_accuracy > 0.95 && r.iterations == 60, "three classes are learnt: %.3f", r.train_accuracy);
	mr_free(&mr_env_malloc, bytes);
	p.task = LRN_REGRESS;
	bytes = train(&p, 0, &len, &r, &st);
	ok(bytes && r.train_rmse < 8, "values are learnt: rmse %.2f", r.train_rmse);
	mr_free(&mr_env_malloc, bytes);
	p.early_stopping = true;
	p.max_iter = 2000;
	p.learning_rate = 0.3;
	bytes = train(&p, 0, &len, &r, &st);
	ok(bytes && r.iterations < 1000, "early stopping keeps %d rounds", r.iterations);
	mr_free(&mr_env_malloc, bytes);
}

/* A row of weight 2 is two rows; a row of weight 0 is none. */
static void
test_weights(void)
{
	lrn_params	p = params(5);
	float		weight[ROWS];
	int32_t		y2[ROWS];
	lrn_target	t = {.class_id = y2, .n_classes = 2, .weight = weight};
	lrn_report	r;
	mr_status	st;
	size_t		len,
				len2;
	uint8_t    *a,
			   *b;

	for (int i = 0; i < ROWS; i++)
	{
		y2[i] = y[i] == 1;
		weight[i] = 1;
	}
	a = train_env(&mr_env_malloc, &p, &t, &len, &r, &st);
	t.weight = NULL;
	b = train_env(&mr_env_malloc, &p, &t, &len2, &r, &st);
	ok(a && b && len == len2 && memcmp(a, b, len) == 0, "weights of 1 change nothing");
	mr_free(&mr_env_malloc, a);
	mr_free(&mr_env_malloc, b);
	for (int i = 0; i < ROWS; i++)
		weight[i] = y2[i] ? 1e30f : 1e-30f;
	t.weight = weight;
	a = train_env(&mr_env_malloc, &p, &t, &len, &r, &st);
	ok(a != NULL, "weights from 1e-30 to 1e30 train");
	mr_free(&mr_env_malloc, a);
	t.weight = NULL;
	p.class_weight = LRN_WEIGHT_BALANCED;
	a = train_env(&mr_env_malloc, &p, &t, &len, &r, &st);
	ok(a && r.train_accuracy > 0.8, "balanced class weights train: %.3f", r.train_accuracy);
	mr_free(&mr_env_malloc, a);
	for (int i = 0; i < ROWS; i++)
		value[i] = i % 2 ? 1e30f : -1e30f;
	p = params(5);
	p.task = LRN_REGRESS;
	a = train(&p, 0, &len, &r, &st);
	ok(a != NULL, "targets of 1e30 train");
	mr_free(&mr_env_malloc, a);
	make_data(1);
}

static void
test_degenerate(void)
{
	static int32_t many[ROWS];
	lrn_params	p = params(3);
	lrn_report	r;
	mr_status	st;
	size_t		len;
	uint8_t    *bytes;
	lrn_target	t = {.class_id = many, .n_classes = 1000};
	float	   *out;

	for (int i = 0; i < ROWS; i++)
		many[i] = i % 1000;
	p.max_iter = 2;
	bytes = train_env(&mr_env_malloc, &p, &t, &len, &r, &st);
	ok(bytes != NULL, "1,000 classes: %zu bytes", len);
	out = predict(bytes, len, LRN_ISA_AUTO, ROWS);
	ok(fabsf(out[0] - out[0]) == 0, "their probabilities are numbers");
	free(out);
	mr_free(&mr_env_malloc, bytes);

	m.rows = 1;
	p.task = LRN_REGRESS;
	bytes = train(&p, 0, &len, &r, &st);
	ok(bytes && r.train_rmse == 0, "one row");
	mr_free(&mr_env_malloc, bytes);
	p.early_stopping = true;
	bytes = train(&p, 0, &len, &r, &st);
	ok(!bytes && st.code == MR_INVALID && st.hint[0], "one row with early stopping: %s", st.message);
	m.rows = ROWS;

	p = params(3);
	for (int c = 0; c < COLS; c++)
		col[c] = data[c == 2 ? 4 : 3];
	m.n_categories = NULL;
	bytes = train(&p, 3, &len, &r, &st);
	ok(bytes && r.iterations == 1 && r.nodes == 3, "columns that tell nothing: %d round", r.iterations);
	mr_free(&mr_env_malloc, bytes);
	m.n_categories = categories;
	make_data(1);

	data[5][7] = 40;
	bytes = train(&p, 3, &len, &r, &st);
	ok(!bytes && st.code == MR_INVALID, "a category out of range: %s", st.message);
	make_data(1);
}

/* Histograms that are built again give the same model. */
static void
test_large_trees(void)
{
	lrn_params	p = params(3);

	p.max_leaf_nodes = 0;
	p.min_samples_leaf = 1;
	p.min_child_weight = 0;
	test_equal("trees without limit", p, 3);
	p.max_leaf_nodes = 200;
	p.max_bins = 5;
	test_equal("200 leaves, 5 bins", p, 3);
	p.max_depth = 2;
	p.colsample_bytree = 0.5;
	p.min_samples_leaf = 0.01;
	p.max_iter = 20;
	test_equal("depth 2", p, 3);
}

/* ---- memory and cancelling ---- */

static size_t taken,
			most;
static int64_t asked,
			cancel_at;

static void *
counting_alloc(void *arg, size_t size)
{
	size_t	   *p = mr_alloc(&mr_env_malloc, size + 64);

	*p = size;
	taken += size;
	most = taken > most ? taken : most;
	return (char *) p + 64;
}

static void
counting_release(void *arg, void *ptr)
{
	taken -= *(size_t *) ((char *) ptr - 64);
	mr_free(&mr_env_malloc, (char *) ptr - 64);
}

static bool
counting_interrupted(void *arg)
{
	return ++asked == cancel_at;
}

static void
test_limits(void)
{
	static const mr_env env = {counting_alloc, counting_release, counting_interrupted, NULL};
	lrn_params	p = params(20);
	lrn_target	t = {.class_id = y, .n_classes = 3};
	lrn_report	r;
	mr_status	st;
	size_t		len,
				need = lrn_train_memory(&p, ROWS, COLS, 3);
	uint8_t    *bytes;
	int64_t		n_asked;
	int			canceled = 0;

	p.fit_only = true;
	bytes = train_env(&env, &p, &t, &len, &r, &st);
	ok(bytes && most <= need + 4 * len, "%zu bytes were foreseen, %zu taken, model %zu", need, most, len);
	mr_free(&env, bytes);
	ok(taken == 0, "all memory is given back");
	p.max_memory = need / 4;
	bytes = train_env(&env, &p, &t, &len, &r, &st);
	ok(!bytes && st.code == MR_LIMIT && taken == 0, "too little memory: %s", st.message);
	p.max_memory = 0;

	asked = 0;
	bytes = train_env(&env, &p, &t, &len, &r, &st);
	n_asked = asked;
	mr_free(&env, bytes);
	for (cancel_at = 1; cancel_at <= n_asked; cancel_at++)
	{
		asked = 0;
		bytes = train_env(&env, &p, &t, &len, &r, &st);
		canceled += !bytes && st.code == MR_CANCELED && taken == 0;
	}
	ok(canceled == n_asked && n_asked > 5, "canceled at each of %d places", (int) n_asked);
	cancel_at = 0;
}

int
main(void)
{
	lrn_params	p = params(25);

	make_data(1);
	test_equal("three classes", p, 3);
	for (int i = 0; i < ROWS; i++)
		y[i] = y[i] == 1;
	test_equal("two classes", p, 2);
	p.subsample = 0.5;
	p.early_stopping = true;
	test_equal("half the rows, early stopping", p, 2);
	p = params(25);
	p.task = LRN_REGRESS;
	p.l2_regularization = 1;
	test_equal("regression", p, 0);
	make_data(1);
	test_large_trees();
	test_learns();
	test_weights();
	test_degenerate();
	test_limits();
	return done_testing();
}
