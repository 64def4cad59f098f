/*
 * test_learn_linear_svm.c
 *	  Linear machines: no other weights have a smaller objective, whichever the
 *	  loss; weights of classes and rows; data that makes no sense.
 */
#include "learn/learner.h"
#include "unit.h"

#include <math.h>

#define ROWS	403				/* no multiple of 8, two blocks */
#define COLS	4

static float data[COLS][ROWS];
static float *col[COLS] = {data[0], data[1], data[2], data[3]};
static int32_t y[ROWS];
static float weight[ROWS];
static lrn_matrix m = {.rows = ROWS, .cols = COLS, .col = col};

static double
uniform(lrn_rng *rng)
{
	return (double) (lrn_rng_next(rng) >> 11) * 0x1p-52 - 1;
}

static void
make_data(int n_classes)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, 21, 0);
	m.rows = ROWS;
	for (int i = 0; i < ROWS; i++)
	{
		double		s = uniform(&rng) / 2;

		for (int c = 0; c < COLS; c++)
			data[c][i] = (float) (uniform(&rng) * (c == 2 ? 10 : 1));
		s += data[0][i] + data[1][i];
		y[i] = (int32_t) fmin(fmax(floor((s + 1) * n_classes / 2), 0), n_classes - 1);
		weight[i] = (float) (i % 3);
	}
}

static mr_code
train(const lrn_params *p, int n_classes, const float *w, uint8_t **bytes, size_t *len, lrn_report *r, mr_status *st)
{
	return lrn_train(&mr_env_malloc, p, &m, &(lrn_target) {.class_id = y, .n_classes = n_classes, .weight = w}, r, bytes, len, st);
}

/* w: COLS weights, then b. */
static double
objective(const lrn_params *p, const double *w, int class, double positive, double negative, const float *weights)
{
	double		f = 0;

	for (int j = 0; j < COLS; j++)
		f += w[j] * w[j] / 2;
	if (p->fit_intercept)
		f += w[COLS] * w[COLS] / 2;
	for (int i = 0; i < ROWS; i++)
	{
		double		s = w[COLS],
					gap;

		for (int j = 0; j < COLS; j++)
			s += w[j] * data[j][i];
		gap = fmax(0, 1 - (y[i] == class ? s : -s));
		f += (y[i] == class ? positive : negative) * (weights ? (double) weights[i] : 1) *
			(p->loss == LRN_HINGE ? gap : gap * gap);
	}
	return f;
}

static void
test_minimum(lrn_loss loss, int k, const float *weights, bool intercept, const double *class_weights)
{
	lrn_params	p;
	lrn_report	r;
	lrn_info	info;
	lrn_reader	body;
	lrn_coefficients found;
	lrn_rng		rng;
	mr_status	st = {0};
	uint8_t    *bytes;
	size_t		len;
	double		worst = INFINITY;

	make_data(k);
	lrn_params_init(&p, LRN_LINEAR_SVM);
	p.calibration = LRN_CALIBRATION_NONE;
	p.loss = loss;
	p.C = 0.7;
	p.tol = loss == LRN_HINGE ? 1e-6 : 1e-9;
	p.max_iter = 100000;
	p.fit_intercept = intercept;
	if (class_weights)
	{
		p.class_weight = LRN_WEIGHT_GIVEN;
		p.class_weights = class_weights;
	}
	if (!ok(train(&p, k, weights, &bytes, &len, &r, &st) == MR_OK && r.converged, "%s, %d classes: converges",
			loss == LRN_HINGE ? "hinge" : "squared hinge", k))
		return;
	(void) lrn_file_open(bytes, len, &info, &body, &st);
	if (lrn_linear_coefficients(&mr_env_malloc, &body, &info, &found, &st) != MR_OK)
		exit(1);
	lrn_rng_seed(&rng, 1, 1);
	for (int c = 0; c < found.rows; c++)
	{
		int			class = k == 2 ? 1 : c;
		double		positive = p.C * (class_weights ? class_weights[class] : 1),
					negative = p.C * (class_weights && k == 2 ? class_weights[0] : 1),
					w[COLS + 1],
					least;

		memcpy(w, found.weight + c * COLS, sizeof(double) * COLS);
		w[COLS] = found.bias[c];
		least = objective(&p, w, class, positive, negative, weights);
		for (int try = 0; try < 3000; try++)
		{
			double		other[COLS + 1],
						size = pow(10, -1 - try % 4);

			for (int j = 0; j < COLS + (int) intercept; j++)
				other[j] = w[j] + size * uniform(&rng);
			if (!intercept)
				other[COLS] = 0;
			worst = fmin(worst, objective(&p, other, class, positive, negative, weights) / least - 1);
		}
	}
	ok(worst > -1e-6, "no weights are better (%.1e)", worst);
	ok(intercept || found.bias[0] == 0, "without intercept there is none");
	free(found.weight);
	free(bytes);
}

static void
test_bits(int k)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	uint8_t    *bytes,
			   *flat;
	size_t		len,
				flat_len;
	lrn_model	model;
	float	   *rows = malloc(sizeof(float) * ROWS * COLS),
			   *out = malloc(sizeof(float) * ROWS * (size_t) k),
			   *one = malloc(sizeof(float) * ROWS * (size_t) k);

	make_data(k);
	lrn_params_init(&p, LRN_LINEAR_SVM);
	p.standardize = true;
	if (train(&p, k, NULL, &bytes, &len, &r, &st) != MR_OK ||
		lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st) != MR_OK ||
		lrn_open(flat, flat_len, &model, &st) != MR_OK)
	{
		ok(false, "%d classes: %s", k, st.message);
		exit(1);
	}
	ok(r.train_accuracy > (k > 3 ? 0.25 : 0.6), "%d classes: accuracy %.3f", k, r.train_accuracy);
	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			rows[i * COLS + c] = data[c][i];
	lrn_predict(&model, rows, ROWS, out);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		lrn_set_isa(&model, (lrn_isa) isa);
		for (int i = 0; i < ROWS; i++)
			lrn_predict(&model, rows + i * COLS, 1, one + i * k);
		ok(memcmp(one, out, sizeof(float) * ROWS * (size_t) k) == 0, "%d classes: set %d, row by row, equals the batch", k, isa);
	}
	lrn_scores(&model, rows, 1, out);
	ok(k > 2 || out[0] == -out[1], "two classes have opposite scores");
	free(rows);
	free(out);
	free(one);
	free(flat);
	free(bytes);
}

static int	asked;
static bool
cancel_later(void *arg)
{
	(void) arg;
	return ++asked > 3;
}

static void
test_hard_data(void)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	uint8_t    *bytes = NULL;
	size_t		len;
	mr_env		env = mr_env_malloc;

	for (int hinge = 0; hinge < 2; hinge++)
	{
		lrn_params_init(&p, LRN_LINEAR_SVM);
		p.loss = hinge ? LRN_HINGE : LRN_SQUARED_HINGE;
		p.calibration = LRN_CALIBRATION_NONE;
		make_data(2);
		for (int c = 0; c < COLS; c++)
			for (int i = 0; i < ROWS; i++)
				data[c][i] = 0;
		ok(train(&p, 2, NULL, &bytes, &len, &r, &st) == MR_OK && r.train_accuracy >= 0.49, "columns of 0");
		free(bytes);
		make_data(2);
		for (int i = 0; i < ROWS; i++)
			data[0][i] = i % 2 ? 3e38f : -3e38f;
		bytes = NULL;
		ok(train(&p, 2, NULL, &bytes, &len, &r, &st) == MR_OK || st.code == MR_INVALID, "huge values: %s", bytes ? "a model" : st.message);
		free(bytes);
		make_data(2);
		m.rows = 2;
		y[0] = 1;
		y[1] = 0;
		ok(train(&p, 2, NULL, &bytes, &len, &r, &st) == MR_OK && r.train_accuracy == 1, "two rows");
		free(bytes);
		make_data(2);
		for (int i = 0; i < ROWS; i++)
			weight[i] = y[i] == 1;
		bytes = NULL;
		ok(train(&p, 2, weight, &bytes, &len, &r, &st) == MR_INVALID, "weights leave one class: %s", st.message);
	}
	make_data(2);
	for (int i = 0; i < ROWS; i++)
		y[i] = i % 200;
	p.loss = LRN_SQUARED_HINGE;
	ok(train(&p, 200, NULL, &bytes, &len, &r, &st) == MR_OK, "200 classes");
	free(bytes);
	env.interrupted = cancel_later;
	p.loss = LRN_HINGE;
	p.tol = 1e-12;
	p.max_iter = 1000000;
	bytes = NULL;
	make_data(3);
	ok(lrn_train(&env, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st) == MR_CANCELED, "a cancel unwinds");
	p.max_memory = 1000;
	ok(train(&p, 3, NULL, &bytes, &len, &r, &st) == MR_LIMIT, "too little memory: %s", st.message);
}

int
main(void)
{
	for (int loss = LRN_HINGE; loss <= LRN_SQUARED_HINGE; loss++)
	{
		test_minimum((lrn_loss) loss, 2, NULL, true, NULL);
		test_minimum((lrn_loss) loss, 2, weight, true, (const double[]) {3, 0.5});
		test_minimum((lrn_loss) loss, 3, weight, false, NULL);
		test_minimum((lrn_loss) loss, 5, NULL, true, (const double[]) {1, 2, 3, 4, 5});
	}
	test_bits(2);
	test_bits(3);
	test_bits(11);
	test_hard_data();
	return done_testing();
}
