/*
 * test_learn_trees.c
 *	  Extra trees, regression, row weights; the view of a model's trees and
 *	  their SHAP values; model bytes of the first format, and damaged ones.
 */
#include "learn/learner.h"
#include "learn/shap.h"
#include "unit.h"

#include <math.h>

#define ROWS	300
#define COLS	4

static float data[COLS][ROWS];
static float *col[COLS];
static int32_t class_id[ROWS];
static float value[ROWS];
static float weight[ROWS];
static float rows[ROWS * COLS];
static lrn_matrix m = {.rows = ROWS,.cols = COLS,.col = col};

static void
make_data(void)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, 11, 3);
	for (int i = 0; i < ROWS; i++)
	{
		for (int c = 0; c < COLS; c++)
			data[c][i] = (float) lrn_rng_below(&rng, 200) / 10.0f;
		class_id[i] = data[0][i] > 10 ? 2 : data[1][i] > 5 ? 1 : 0;
		value[i] = 3 * data[0][i] - data[1][i] + 1000;
		weight[i] = (float) lrn_rng_below(&rng, 5);
		if (lrn_rng_below(&rng, 6) == 0)
			data[2][i] = NAN;
		if (lrn_rng_below(&rng, 6) == 0)
			data[0][i] = NAN;
	}
	for (int c = 0; c < COLS; c++)
	{
		col[c] = data[c];
		for (int i = 0; i < ROWS; i++)
			rows[i * COLS + c] = data[c][i];
	}
}

static uint8_t *
train(const lrn_params *p, bool weighted, size_t *len, lrn_report *r)
{
	lrn_target	t = {.weight = weighted ? weight : NULL};
	mr_status	st = {0};
	uint8_t    *file = NULL;

	if (p->task == LRN_REGRESS)
		t.value = value;
	else
	{
		t.class_id = class_id;
		t.n_classes = 3;
	}
	if (lrn_train(&mr_env_malloc, p, &m, &t, r, &file, len, &st) != MR_OK)
	{
		printf("# %s %s\n", st.message, st.detail);
		return NULL;
	}
	return file;
}

static void
predict(const uint8_t *bytes, size_t len, lrn_isa isa, bool single, float *out)
{
	uint8_t    *flat;
	size_t		flat_len;
	lrn_model	model;
	mr_status	st = {0};

	if (lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st) || lrn_open(flat, flat_len, &model, &st))
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
	lrn_set_isa(&model, isa);
	for (int i = 0; single && i < ROWS; i++)
		lrn_predict(&model, rows + i * COLS, 1, out + i * lrn_n_outputs(&model));
	if (!single)
		lrn_predict(&model, rows, ROWS, out);
	free(flat);
}

/* What the view's trees say of a row. */
static void
walk(lrn_trees *v, const float *row, double *out)
{
	const lrn_tree *t;
	mr_status	st = {0};

	lrn_trees_rewind(v);
	memset(out, 0, (size_t) v->n_margins * sizeof(double));
	while (lrn_trees_next(v, &t, &st) == MR_OK && t)
	{
		const lrn_tree_node *n = t->node;

		while (n->feature >= 0)
			n = t->node + lrn_tree_child(t, n, row[n->feature]);
		for (int c = 0; c < v->n_margins; c++)
			out[c] += v->scale * t->values[n->value + (uint32_t) c];
	}
}

/* Expected margin 0 of a tree given the features in set: the definition. */
static double
given(const lrn_tree *t, uint32_t at, const float *row, unsigned set)
{
	const lrn_tree_node *n = &t->node[at];

	if (n->feature < 0)
		return t->values[n->value];
	if (set >> n->feature & 1)
		return given(t, lrn_tree_child(t, n, row[n->feature]), row, set);
	return (t->node[n->left].cover * given(t, n->left, row, set) +
			t->node[n->right].cover * given(t, n->right, row, set)) / n->cover;
}

/* Shapley values of margin 0 by all subsets of the features. */
static void
shapley(lrn_trees *v, const float *row, double *phi)
{
	static const double share[COLS] = {1 / 4.0, 1 / 12.0, 1 / 12.0, 1 / 4.0};	/* s! (3 - s)! / 4! */
	const lrn_tree *t;
	mr_status	st = {0};

	lrn_trees_rewind(v);
	memset(phi, 0, (COLS + 1) * sizeof(double));
	while (lrn_trees_next(v, &t, &st) == MR_OK && t)
	{
		phi[COLS] += v->scale * given(t, 0, row, 0);
		for (int f = 0; f < COLS; f++)
			for (unsigned set = 0; set < 1u << COLS; set++)
				if (!(set >> f & 1))
					phi[f] += v->scale * share[__builtin_popcount(set)] *
						(given(t, 0, row, set | 1u << f) - given(t, 0, row, set));
	}
}

static void
test_model(const char *name, const lrn_params *p, bool weighted)
{
	lrn_report	r;
	size_t		len,
				len2;
	uint8_t    *f = train(p, weighted, &len, &r),
			   *g = train(p, weighted, &len2, &r);
	int			k = p->task == LRN_REGRESS ? 1 : 3;
	static float base[ROWS * 3],
				again[ROWS * 3];
	lrn_trees	v;
	mr_status	st = {0};
	double		walked = 0,
				exact = 0,
				sums = 0;

	ok(f && g && len == len2 && memcmp(f, g, len) == 0, "%s: the same seed, the same bytes", name);
	predict(f, len, LRN_ISA_PORTABLE, false, base);
	for (int isa = LRN_ISA_PORTABLE; isa <= (int) lrn_isa_best(); isa++)
		for (int single = 0; single < 2; single++)
		{
			predict(f, len, (lrn_isa) isa, single, again);
			ok(memcmp(base, again, (size_t) (ROWS * k) * sizeof(float)) == 0, "%s: set %d, %s: equal bits", name, isa,
			   single ? "row by row" : "batch");
		}
	(void) lrn_trees_open(&mr_env_malloc, f, len, &v, &st);
	ok(st.code == MR_OK && v.n_margins == k && (int) v.n_trees == p->n_estimators, "%s: %u trees to view", name, v.n_trees);
	for (int i = 0; i < ROWS; i++)
	{
		double		margin[3];

		walk(&v, rows + i * COLS, margin);
		for (int c = 0; c < k; c++)
			walked = fmax(walked, fabs(margin[c] - (double) base[i * k + c]) / fmax(1, fabs(margin[c])));
	}
	ok(walked < 1e-6, "%s: the view answers as the model does, within %.1e", name, walked);
	for (int i = 0; i < 12; i++)
	{
		double		phi[(COLS + 1) * 3],
					true_phi[COLS + 1],
					sum = 0;

		if (lrn_shap(&v, rows + i * COLS, 1, phi, &st) != MR_OK)
			break;
		shapley(&v, rows + i * COLS, true_phi);
		for (int j = 0; j <= COLS; j++)
		{
			exact = fmax(exact, fabs(phi[j * k] - true_phi[j]) / fmax(1, fabs(true_phi[j])));
			sum += phi[j * k];
		}
		sums = fmax(sums, fabs(sum - (double) base[i * k]) / fmax(1, fabs(sum)));
	}
	ok(st.code == MR_OK && exact < 1e-12 && sums < 1e-6, "%s: SHAP values are Shapley's, within %.1e; sums within %.1e",
	   name, exact, sums);
	lrn_trees_close(&v);
	free(f);
	free(g);
}

/* Fix the checksum of altered bytes. */
static void
sign(uint8_t *file, size_t len)
{
	uint64_t	body = len - LRN_HEADER,
				sum;

	memcpy(file + 32, &body, 8);
	sum = lrn_checksum(0, file, 40);
	sum = lrn_checksum(sum, file + LRN_HEADER, len - LRN_HEADER);
	memcpy(file + 40, &sum, 8);
}

/* The first format had neither the 0 nor the flags. */
static void
test_first_format(void)
{
	lrn_params	p;
	lrn_report	r;
	size_t		len;
	uint8_t    *f;
	static float now[ROWS * 3],
				then[ROWS * 3];

	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 5;
	f = train(&p, false, &len, &r);
	predict(f, len, LRN_ISA_AUTO, false, now);
	memmove(f + LRN_HEADER, f + LRN_HEADER + 2, len - LRN_HEADER - 2);
	sign(f, len - 2);
	predict(f, len - 2, LRN_ISA_AUTO, false, then);
	ok(memcmp(now, then, sizeof(now)) == 0, "a forest of the first format still answers");
	free(f);
}

/* Every byte altered in turn, signed: refused, or answers and explains something. */
static void
test_damage(const char *name, const lrn_params *p, bool weighted)
{
	lrn_report	r;
	size_t		len;
	uint8_t    *f = train(p, weighted, &len, &r);
	uint8_t    *bad = malloc(len);
	int			refused = 0,
				taken = 0;
	double	   *phi = malloc(sizeof(double) * (COLS + 1) * 3);

	for (size_t at = LRN_HEADER; at < len; at++)
		for (int how = 0; how < 3; how++)
		{
			mr_status	st = {0};
			lrn_info	info;
			lrn_trees	v;
			size_t		n = how == 2 ? at : len;
			uint8_t    *copy = malloc(n);

			memcpy(copy, f, n);
			if (how < 2)
				copy[at] ^= how ? 0xFF : 0x01;
			sign(copy, n);
			if (lrn_check(copy, n, &info, &st) != MR_OK)
			{
				refused++;
				free(copy);
				continue;
			}
			taken++;
			predict(copy, n, LRN_ISA_AUTO, false, (float[ROWS * 3]) {0});
			if (lrn_trees_open(&mr_env_malloc, copy, n, &v, &st) == MR_OK)
			{
				(void) lrn_shap(&v, rows, 1, phi, &st);
				(void) lrn_tree_importances(&v, phi, &st);
				lrn_trees_close(&v);
			}
			free(copy);
		}
	ok(refused > 0 && taken > 0, "%s: of %d damaged files %d are refused, the others answer", name, refused + taken, refused);
	free(phi);
	free(bad);
	free(f);
}

static bool
at_once(void *arg)
{
	(void) arg;
	return true;
}

static void
test_refusals(void)
{
	lrn_params	p;
	lrn_report	r;
	lrn_trees	v;
	lrn_info	info;
	lrn_coefficients linear;
	mr_env		env = mr_env_malloc;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *f;
	double		phi[(COLS + 1) * 3];

	lrn_params_init(&p, LRN_EXTRA_TREES);
	p.task = LRN_REGRESS;
	p.criterion = LRN_GINI;
	ok(train(&p, false, &len, &r) == NULL, "a regression by gini is refused");
	p.task = LRN_CLASSIFY;
	p.n_estimators = 50;
	f = train(&p, false, &len, &r);
	env.interrupted = at_once;
	ok(f && lrn_trees_open(&env, f, len, &v, &st) == MR_OK && lrn_shap(&v, rows, 1, phi, &st) == MR_CANCELED,
	   "an explanation can be canceled");
	lrn_trees_close(&v);
	ok(lrn_linear_open_coefficients(&mr_env_malloc, f, len, &info, &linear, &st) == MR_UNSUPPORTED, "a forest has no coefficients");
	free(f);
	for (int c = 0; c < COLS; c++)
		for (int i = 0; i < ROWS; i++)
			data[c][i] = isnan(data[c][i]) ? 0 : data[c][i];
	lrn_params_init(&p, LRN_LOGISTIC_REGRESSION);
	f = train(&p, false, &len, &r);
	ok(f && lrn_trees_open(&mr_env_malloc, f, len, &v, &st) == MR_UNSUPPORTED, "%s", st.message);
	ok(lrn_linear_open_coefficients(&mr_env_malloc, f, len, &info, &linear, &st) == MR_OK && linear.rows == 3, "but coefficients");
	free(linear.weight);
	free(f);
}

/*
 * Every way a forest is walked: by rows and in blocks of all sizes, few and many
 * features and classes, children in an array of their own.
 */
static void
test_sizes(int cols, int n_classes)
{
	enum { MOST = 1100 };
	const int	sizes[] = {1, 2, 15, 16, 17, 63, 64, 65, 129, 511, 512, 513, MOST};
	lrn_params	p;
	lrn_report	report;
	lrn_rng		rng;
	lrn_model	model;
	mr_status	st = {0};
	float	  **column = malloc((size_t) cols * sizeof(float *));
	float	   *x = malloc((size_t) (MOST * cols) * sizeof(float)),
			   *one = malloc((size_t) (MOST * n_classes) * sizeof(float)),
			   *out = malloc((size_t) (MOST * n_classes) * sizeof(float));
	int32_t    *y = malloc(MOST * sizeof(int32_t));
	lrn_matrix	all = {.rows = MOST,.cols = cols,.col = column};
	lrn_target	target = {.class_id = y,.n_classes = n_classes};
	size_t		len,
				flat_len;
	uint8_t    *file,
			   *flat;
	uint32_t   *wide;
	int			differing = 0;

	lrn_rng_seed(&rng, 8, (uint64_t) cols);
	for (int c = 0; c < cols; c++)
	{
		column[c] = malloc(MOST * sizeof(float));
		for (int i = 0; i < MOST; i++)
		{
			uint32_t	v = lrn_rng_below(&rng, 1000);

			x[i * cols + c] = column[c][i] = v < 30 ? NAN : (float) v;
		}
	}
	for (int i = 0; i < MOST; i++)
		y[i] = (int32_t) lrn_rng_below(&rng, (uint32_t) n_classes);
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 3;
	p.fit_only = true;
	if (lrn_train(&mr_env_malloc, &p, &all, &target, &report, &file, &len, &st) ||
		lrn_compile(&mr_env_malloc, file, len, &flat, &flat_len, &st) || lrn_open(flat, flat_len, &model, &st))
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
	lrn_set_isa(&model, LRN_ISA_PORTABLE);
	for (int i = 0; i < MOST; i++)
		lrn_predict(&model, x + i * cols, 1, one + i * n_classes);
	wide = malloc(model.n_nodes * sizeof(uint32_t));
	for (uint32_t i = 0; i < model.n_nodes; i++)
		wide[i] = (uint32_t) model.nodes[i] >> model.child_shift;
	for (int isa = LRN_ISA_PORTABLE; isa <= (int) lrn_isa_best(); isa++)
		for (size_t s = 0; s < 2 * sizeof(sizes) / sizeof(sizes[0]); s++)
		{
			int			n = sizes[s / 2];

			model.wide = s % 2 ? wide : NULL;
			lrn_set_isa(&model, (lrn_isa) isa);
			lrn_predict(&model, x, n, out);
			differing += memcmp(one, out, (size_t) (n * n_classes) * sizeof(float)) != 0;
		}
	ok(differing == 0, "%d features, %d classes: blocks of all sizes give a row's bits", cols, n_classes);
	free(wide);
	for (int c = 0; c < cols; c++)
		free(column[c]);
	free(column);
	free(x);
	free(one);
	free(out);
	free(y);
	free(file);
	free(flat);
}

int
main(void)
{
	lrn_params	p;

	make_data();
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.n_estimators = 6;
	test_model("forest", &p, false);
	test_model("forest, weights", &p, true);
	p.max_depth = 3;
	p.criterion = LRN_ENTROPY;
	p.class_weight = LRN_WEIGHT_BALANCED;
	test_model("forest, entropy, weights of both kinds", &p, true);
	p.n_estimators = 2;
	test_damage("weighted forest", &p, true);
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	p.task = LRN_REGRESS;
	p.n_estimators = 6;
	test_model("regression", &p, false);
	test_model("regression, weights", &p, true);
	lrn_params_init(&p, LRN_EXTRA_TREES);
	p.n_estimators = 6;
	test_model("extra trees", &p, false);
	p.task = LRN_REGRESS;
	test_model("extra trees, regression, weights", &p, true);
	p.max_depth = 4;
	p.n_estimators = 2;
	test_damage("regression", &p, false);
	test_sizes(5, 3);
	test_sizes(40, 3);
	test_sizes(40, 20);
	test_sizes(600, 2);
	test_first_format();
	test_refusals();
	return done_testing();
}
