/*
 * test_learn_linear.c
 *	  Logistic regression and ridge against conditions that define their optima.
 */
#include "learn_data.h"

#include <math.h>

/*
 * At the minimum of the penalised loss, sum_i (p_ic - [y_i = c]) = 0 for the
 * intercepts and sum_i (p_ic - [y_i = c]) x_ij = -w_cj / C for the weights.
 */
static void
test_optimum(int k, lrn_solver solver)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *bytes,
			   *flat;
	lrn_model	model;
	float	   *rows,
			   *proba;
	double		worst_b = 0,
				worst_w = 0;
	static const char *const isa_names[] = {"auto", "portable", "avx2", "avx512"};

	make_data(k);
	rows = row_major();
	proba = malloc((size_t) ROWS * (size_t) k * sizeof(float));
	lrn_params_init(&p, LRN_LOGISTIC_REGRESSION);
	p.tol = 1e-9;
	p.max_iter = 1000;
	p.C = 0.5;
	p.solver = solver;
	if (lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = k}, &r, &bytes, &len, &st) != MR_OK)
	{
		ok(false, "training failed: %s", st.message);
		return;
	}
	ok(r.converged && r.iterations < 200, "%d classes converge in %d iterations", k, r.iterations);
	open_model(bytes, len, &flat, &model);
	lrn_predict(&model, rows, ROWS, proba);
	for (int c = 0; c < k; c++)
	{
		double		g[COLS + 1] = {0};
		/* Two classes have one vector, for class 1. */
		int			row = k == 2 ? 0 : c;

		if (k == 2 && c == 0)
			continue;
		for (int i = 0; i < ROWS; i++)
		{
			double		d = proba[i * k + c] - (y[i] == c);

			g[COLS] += d;
			for (int j = 0; j < COLS; j++)
				g[j] += d * data[j][i];
		}
		worst_b = fmax(worst_b, fabs(g[COLS]) / ROWS);
		for (int j = 0; j < COLS; j++)
		{
			double		scale = j == 1 ? 55000 : j == 2 ? 0.01 : 1;

			g[j] += model.weights[j * model.padded + row] / p.C;
			worst_w = fmax(worst_w, fabs(g[j]) / ROWS / scale);
		}
	}
	ok(worst_b < 2e-7 && worst_w < 1e-6, "the gradient vanishes (%.1e, %.1e)", worst_b, worst_w);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		float	   *q = malloc((size_t) ROWS * (size_t) k * sizeof(float));

		lrn_set_isa(&model, (lrn_isa) isa);
		for (int i = 0; i < ROWS; i++)
			lrn_predict(&model, rows + i * COLS, 1, q + i * k);
		if (isa > (int) lrn_isa_best())
			skip("instruction set not on this processor");
		else
			ok(memcmp(q, proba, (size_t) ROWS * (size_t) k * sizeof(float)) == 0,
			   "%s row by row equals the batch", isa_names[isa]);
		free(q);
	}
	rows[2] = NAN;
	lrn_predict(&model, rows, 1, proba);
	ok(isnan(proba[0]) && isnan(proba[k - 1]) && !lrn_takes_missing(&model), "a missing value gives NaN");
	free(rows);
	free(proba);
	free(flat);
	free(bytes);
}

/* A row of weight 3 counts as three rows, one of weight 0 as none. */
static void
test_row_weights(int k)
{
	static float repeated[COLS][ROWS * 3];
	static int32_t repeated_y[ROWS * 3];
	float	   *columns[COLS],
				weight[ROWS];
	lrn_matrix	copies = {0, COLS, columns, NULL, NULL};
	lrn_params	p;
	mr_status	st = {0};
	lrn_model	model[2];
	uint8_t    *bytes,
			   *flat[2];
	size_t		len;
	double		worst = 0;

	make_data(k);
	for (int c = 0; c < COLS; c++)
		columns[c] = repeated[c];
	for (int i = 0; i < ROWS; i++)
	{
		weight[i] = (float) (i * 7 % 4);
		for (int n = 0; n < (int) weight[i]; n++, copies.rows++)
		{
			for (int c = 0; c < COLS; c++)
				repeated[c][copies.rows] = data[c][i];
			repeated_y[copies.rows] = y[i];
		}
	}
	for (int solver = LRN_SOLVER_LBFGS; solver <= LRN_SOLVER_NEWTON; solver++)
	{
		lrn_params_init(&p, LRN_LOGISTIC_REGRESSION);
		p.solver = solver;
		p.tol = 1e-10;
		p.max_iter = 1000;
		p.class_weight = LRN_WEIGHT_BALANCED;
		for (int i = 0; i < 2; i++)
		{
			lrn_target	t = {.class_id = i ? repeated_y : y, .n_classes = k, .weight = i ? NULL : weight};

			if (lrn_train(&mr_env_malloc, &p, i ? &copies : &m, &t, NULL, &bytes, &len, &st) != MR_OK)
			{
				ok(false, "training failed: %s", st.message);
				return;
			}
			open_model(bytes, len, &flat[i], &model[i]);
			free(bytes);
		}
		for (int j = 0; j < COLS; j++)
			for (int c = 0; c < (k == 2 ? 1 : k); c++)
				worst = fmax(worst, fabs((double) model[0].weights[j * model[0].padded + c] /
										 (double) model[1].weights[j * model[1].padded + c] - 1));
		ok(worst < 1e-5, "%d classes: a weight is a number of rows (%.1e)", k, worst);
		free(flat[0]);
		free(flat[1]);
	}
}

static int	asked;
static bool
cancel_later(void *arg)
{
	(void) arg;
	return ++asked > 8;
}

static void
test_logistic_options(void)
{
	lrn_params	p;
	lrn_report	r,
				r2;
	mr_status	st = {0};
	size_t		len,
				len2;
	uint8_t    *bytes,
			   *again;
	mr_env		env = mr_env_malloc;

	make_data(3);
	lrn_params_init(&p, LRN_LOGISTIC_REGRESSION);
	lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st);
	lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r2, &again, &len2, &st);
	ok(len == len2 && memcmp(bytes, again, len) == 0, "training twice gives the same bytes");
	free(bytes);
	free(again);
	p.standardize = true;
	p.class_weight = LRN_WEIGHT_BALANCED;
	ok(lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st) == MR_OK && r.train_accuracy > 0.7,
	   "standardize and balanced: accuracy %.3f", r.train_accuracy);
	free(bytes);
	p.fit_intercept = false;
	ok(lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st) == MR_OK, "without intercept");
	free(bytes);
	p.max_iter = 2;
	p.fit_intercept = true;
	ok(lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st) == MR_OK && !r.converged && r.iterations == 2,
	   "two iterations are told as not converged");
	free(bytes);
	env.interrupted = cancel_later;
	p.max_iter = 1000;
	p.tol = 1e-15;
	ok(lrn_train(&env, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st) == MR_CANCELED, "a cancel unwinds");
	data[2][100] = NAN;
	ok(lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st) == MR_INVALID &&
	   strstr(st.message, "\"c\"") && st.hint[0], "missing values are refused by column: %s", st.message);
	make_data(3);
	for (int i = 0; i < ROWS; i++)
		data[2][i] = 7;
	ok(lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = 3}, &r, &bytes, &len, &st) == MR_OK && r.train_accuracy > 0.7,
	   "a constant column does no harm");
	free(bytes);
}

/*
 * At the minimum sum_i w_i r_i = 0 and sum_i w_i r_i x_ij = alpha s_j^2 beta_j
 * with residuals r and deviations s.  rows < COLS takes the dual way.
 */
static void
test_ridge(int rows, bool weighted, bool intercept, bool standardize, double alpha)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len,
				len2;
	uint8_t    *bytes,
			   *again,
			   *flat;
	lrn_model	model;
	float		value[ROWS],
				weight[ROWS],
			   *x,
				answer[ROWS];
	lrn_target	t = {.value = value, .weight = weighted ? weight : NULL};
	lrn_matrix	part = m;
	double		worst = 0,
				balance = 0,
				mass = 0,
				square = 0;

	make_data(2);
	x = row_major();
	part.rows = rows;
	for (int i = 0; i < rows; i++)
	{
		value[i] = (float) (3 * data[0][i] - 0.002 * data[1][i] + 50 * data[2][i] + 7 + i % 5);
		weight[i] = (float) (i % 4);
		mass += weighted ? (double) weight[i] : 1;
	}
	lrn_params_init(&p, LRN_RIDGE);
	p.alpha = alpha;
	p.fit_intercept = intercept;
	p.standardize = standardize;
	if (lrn_train(&mr_env_malloc, &p, &part, &t, &r, &bytes, &len, &st) != MR_OK)
	{
		ok(false, "training failed: %s", st.message);
		return;
	}
	lrn_train(&mr_env_malloc, &p, &part, &t, NULL, &again, &len2, &st);
	ok(len == len2 && memcmp(bytes, again, len) == 0, "ridge twice gives the same bytes");
	open_model(bytes, len, &flat, &model);
	lrn_predict(&model, x, rows, answer);
	for (int i = 0; i < rows; i++)
	{
		balance += (weighted ? (double) weight[i] : 1) * ((double) value[i] - (double) answer[i]);
		square += pow((double) value[i] - (double) answer[i], 2);
	}
	for (int j = 0; j < COLS; j++)
	{
		double		mean = 0,
					var = 0,
					g = 0,
					size = 0;

		for (int i = 0; i < rows; i++)
			mean += (weighted ? (double) weight[i] : 1) * (double) data[j][i] / mass;
		for (int i = 0; i < rows; i++)
		{
			double		w = weighted ? (double) weight[i] : 1,
						e = (double) value[i] - (double) answer[i],
						off = (double) data[j][i] - (intercept ? mean : 0);

			var += w * pow((double) data[j][i] - mean, 2) / mass;
			g += w * e * off;
			size += w * fabs(e * off);
		}
		g -= alpha * (standardize ? var : 1) * (double) model.weights[j * model.padded];
		worst = fmax(worst, fabs(g) / (size + alpha));
	}
	ok((!intercept || fabs(balance) / mass < 2e-5) && worst < (rows < COLS ? 1e-3 : 1e-5) &&
	   fabs(r.train_rmse - sqrt(square / rows)) < 1e-6 * r.train_rmse + 1e-12,
	   "ridge of %d rows%s%s%s, alpha %g: the gradient vanishes (%.1e, %.1e)", rows, weighted ? ", weighted" : "",
	   intercept ? "" : ", no intercept", standardize ? ", standardised" : "", alpha, balance / mass, worst);
	for (int isa = LRN_ISA_PORTABLE; isa <= (int) lrn_isa_best(); isa++)
	{
		float		one;
		int			differ = 0;

		lrn_set_isa(&model, (lrn_isa) isa);
		for (int i = 0; i < rows; i++)
		{
			lrn_predict(&model, x + i * COLS, 1, &one);
			differ += memcmp(&one, &answer[i], sizeof(one)) != 0;
		}
		ok(differ == 0, "instruction set %d: row by row equals the batch", isa);
	}
	free(x);
	free(bytes);
	free(again);
	free(flat);
}

static void
test_ridge_degenerate(void)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *bytes;
	float		value[ROWS];
	lrn_target	t = {.value = value};
	lrn_matrix	part = m;

	make_data(2);
	for (int i = 0; i < ROWS; i++)
	{
		data[1][i] = data[0][i];
		data[2][i] = 9;
		value[i] = data[0][i] * 2 + data[4][i];
	}
	lrn_params_init(&p, LRN_RIDGE);
	p.alpha = 0;
	ok(lrn_train(&mr_env_malloc, &p, &m, &t, &r, &bytes, &len, &st) == MR_OK && r.train_rmse < 1e-5,
	   "equal and constant columns without penalty: rmse %.1e", r.train_rmse);
	free(bytes);
	part.rows = 1;
	ok(lrn_train(&mr_env_malloc, &p, &part, &t, &r, &bytes, &len, &st) == MR_OK && r.train_rmse < 1e-5, "one row");
	free(bytes);
	value[0] = NAN;
	ok(lrn_train(&mr_env_malloc, &p, &m, &t, &r, &bytes, &len, &st) == MR_INVALID, "a target of NaN: %s", st.message);
}

int
main(void)
{
	for (int solver = LRN_SOLVER_AUTO; solver <= LRN_SOLVER_NEWTON; solver++)
	{
		test_optimum(2, (lrn_solver) solver);
		test_optimum(3, (lrn_solver) solver);
		test_optimum(7, (lrn_solver) solver);
	}
	test_row_weights(2);
	test_row_weights(3);
	test_logistic_options();
	test_ridge(ROWS, false, true, false, 1);
	test_ridge(ROWS, true, true, true, 10);
	test_ridge(ROWS, true, false, false, 0.5);
	test_ridge(4, false, true, true, 0.3);
	test_ridge(4, true, true, false, 0.1);
	test_ridge(4, false, false, false, 0.1);
	test_ridge_degenerate();
	return done_testing();
}
