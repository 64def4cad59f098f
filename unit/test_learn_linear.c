/*
 * test_learn_linear.c
 *	  Logistic regression and PCA against conditions that define them, and
 *	  parameters by name.
 */
#include "learn/learn_int.h"
#include "unit.h"

#include <math.h>

#define ROWS	503				/* no multiple of 8, two blocks */
#define COLS	5

static float data[COLS][ROWS];
static float *col[COLS];
static int32_t y[ROWS];
static const char *const names[COLS] = {"a", "b", "c", "d", "e"};
static lrn_matrix m = {.rows = ROWS, .cols = COLS, .col = col, .name = names};

static double
normal(lrn_rng *rng)
{
	double		s = 0;

	for (int i = 0; i < 12; i++)
		s += (double) (lrn_rng_next(rng) >> 11) * 0x1p-53;
	return s - 6;
}

/* Columns of very different scales; y by a noisy linear rule. */
static void
make_data(int n_classes)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, 11, 0);
	for (int i = 0; i < ROWS; i++)
	{
		double		z[COLS];

		for (int c = 0; c < COLS; c++)
			z[c] = normal(&rng);
		z[1] = 0.6 * z[0] + 0.8 * z[1];
		data[0][i] = (float) z[0];
		data[1][i] = (float) (z[1] * 1000 + 55000);
		data[2][i] = (float) (z[2] * 0.01);
		data[3][i] = (float) z[3];
		data[4][i] = (float) (z[4] + 3);
		y[i] = (int32_t) fmin(fmax(floor(z[0] + z[3] + 0.5 * normal(&rng) + n_classes / 2.0), 0), n_classes - 1);
	}
	for (int c = 0; c < COLS; c++)
		col[c] = data[c];
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

/*
 * At the minimum of the penalised loss, sum_i (p_ic - [y_i = c]) = 0 for the
 * intercepts and sum_i (p_ic - [y_i = c]) x_ij = -w_cj / C for the weights.
 */
static void
test_optimum(int k)
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

/* Orthonormal rows, variances of the projections, sign, reconstruction. */
static void
test_pca(bool whiten)
{
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *bytes,
			   *flat;
	lrn_model	model;
	double		variance[COLS],
				ratio[COLS],
				sum = 0,
				worst = 0,
				orthogonal = 0;
	float	   *rows,
			   *out;

	make_data(2);
	rows = row_major();
	out = malloc(sizeof(data));
	lrn_params_init(&p, LRN_PCA);
	p.whiten = whiten;
	if (lrn_train(&mr_env_malloc, &p, &m, NULL, &r, &bytes, &len, &st) != MR_OK)
	{
		ok(false, "training failed: %s", st.message);
		return;
	}
	ok(r.outputs == COLS && fabs(r.variance_kept - 1) < 1e-9, "all components keep all variance");
	ok(lrn_pca_variance(bytes, len, variance, ratio, &st) == MR_OK, "variances are stored");
	for (int c = 0; c < COLS; c++)
	{
		sum += ratio[c];
		if (c > 0 && variance[c] > variance[c - 1])
			worst = 1;
	}
	ok(fabs(sum - 1) < 1e-9 && worst == 0, "ratios sum to 1, variances descend");
	open_model(bytes, len, &flat, &model);
	lrn_predict(&model, rows, ROWS, out);
	for (int a = 0; a < COLS; a++)
	{
		double		mean = 0,
					var = 0;

		for (int i = 0; i < ROWS; i++)
			mean += out[i * COLS + a] / ROWS;
		for (int i = 0; i < ROWS; i++)
			var += pow(out[i * COLS + a] - mean, 2) / (ROWS - 1);
		worst = fmax(worst, fabs(var / (whiten ? 1 : variance[a]) - 1));
		worst = fmax(worst, fabs(mean) / sqrt(var));
		for (int b = 0; b <= a; b++)
		{
			double		dot = 0;

			for (int j = 0; j < COLS; j++)
				dot += (double) model.weights[j * model.padded + a] * model.weights[j * model.padded + b];
			if (!whiten)
				orthogonal = fmax(orthogonal, fabs(dot - (a == b)));
		}
	}
	ok(worst < 2e-3 && orthogonal < 1e-6, "projections have the stored variances%s (%.1e, %.1e)",
	   whiten ? ", whitened to 1" : "", worst, orthogonal);
	free(bytes);
	free(flat);

	p.n_components = 0.999999;
	ok(lrn_train(&mr_env_malloc, &p, &m, NULL, &r, &bytes, &len, &st) == MR_OK && r.outputs < COLS &&
	   r.outputs >= 1 && r.variance_kept >= 0.999999, "a share of the variance: %d components", r.outputs);
	free(bytes);
	p.n_components = 6;
	ok(lrn_train(&mr_env_malloc, &p, &m, NULL, &r, &bytes, &len, &st) == MR_INVALID, "too many: %s", st.message);
	free(rows);
	free(out);
}

/* Rows of rank `rank`, and noise beneath. */
static void
fill_low_rank(float **columns, int rows, int cols, int rank, double noise)
{
	lrn_rng		rng;
	double		factor[8][64];

	lrn_rng_seed(&rng, 21, 0);
	for (int r = 0; r < rank; r++)
		for (int c = 0; c < cols; c++)
			factor[r][c] = normal(&rng) * (rank - r);
	for (int i = 0; i < rows; i++)
	{
		double		t[8];

		for (int r = 0; r < rank; r++)
			t[r] = normal(&rng);
		for (int c = 0; c < cols; c++)
		{
			double		v = 1000 + noise * normal(&rng);

			for (int r = 0; r < rank; r++)
				v += t[r] * factor[r][c];
			columns[c][i] = (float) v;
		}
	}
}

/* The randomised solver against the exact one, and without anything to find. */
static void
test_pca_random(void)
{
	enum {N = 611, D = 37};
	static float values[D][N];
	float	   *columns[D];
	lrn_matrix	wide = {N, D, columns, NULL, NULL};
	lrn_params	p;
	lrn_report	r;
	mr_status	st = {0};
	size_t		len[3];
	uint8_t    *bytes[3],
			   *flat[2];
	lrn_model	model[2];
	double		variance[2][4],
				worst = 0;

	for (int c = 0; c < D; c++)
		columns[c] = values[c];
	fill_low_rank(columns, N, D, 4, 0.5);
	lrn_params_init(&p, LRN_PCA);
	p.n_components = 4;
	for (int i = 0; i < 3; i++)
	{
		p.svd_solver = i == 0 ? LRN_SVD_FULL : LRN_SVD_RANDOMIZED;
		if (lrn_train(&mr_env_malloc, &p, &wide, NULL, &r, &bytes[i], &len[i], &st) != MR_OK)
		{
			ok(false, "training failed: %s", st.message);
			return;
		}
	}
	ok(len[1] == len[2] && memcmp(bytes[1], bytes[2], len[1]) == 0, "randomised twice gives the same bytes");
	for (int i = 0; i < 2; i++)
	{
		open_model(bytes[i], len[i], &flat[i], &model[i]);
		lrn_pca_variance(bytes[i], len[i], variance[i], NULL, &st);
	}
	for (int k = 0; k < 4; k++)
	{
		worst = fmax(worst, fabs(variance[1][k] / variance[0][k] - 1));
		for (int j = 0; j < D; j++)
			worst = fmax(worst, fabs((double) model[0].weights[j * model[0].padded + k] -
									 (double) model[1].weights[j * model[1].padded + k]));
	}
	ok(worst < 1e-5, "randomised: variances and components as the exact ones (%.1e)", worst);
	for (int i = 0; i < 3; i++)
		free(bytes[i]);
	free(flat[0]);
	free(flat[1]);

	/* Two directions only, five wanted. */
	fill_low_rank(columns, N, D, 2, 0);
	p.n_components = 5;
	ok(lrn_train(&mr_env_malloc, &p, &wide, NULL, &r, &bytes[0], &len[0], &st) == MR_OK && r.variance_kept > 0.9999,
	   "fewer directions than components");
	free(bytes[0]);
	wide.rows = 3;
	p.n_components = 2;
	ok(lrn_train(&mr_env_malloc, &p, &wide, NULL, &r, &bytes[0], &len[0], &st) == MR_OK && r.variance_kept > 0.9999, "three rows");
	free(bytes[0]);
	wide.rows = N;
	p.n_components = 0.5;
	ok(lrn_train(&mr_env_malloc, &p, &wide, NULL, &r, &bytes[0], &len[0], &st) == MR_INVALID && st.hint[0],
	   "a share is refused: %s", st.message);
	p.n_components = 2;
	for (int c = 0; c < D; c++)
		for (int i = 0; i < N; i++)
			values[c][i] = (float) c;
	ok(lrn_train(&mr_env_malloc, &p, &wide, NULL, &r, &bytes[0], &len[0], &st) == MR_INVALID, "constant columns: %s", st.message);
}

/* The kernels of training give the same bits on every instruction set. */
static void
test_kernels(void)
{
	enum {D = 12, N = 96, L = 16};
	static float x[D * N] __attribute__((aligned(64))),
				w[D * L],
				y[3][L * N];
	static double z[D * N] __attribute__((aligned(64))),
				wide[3][N] __attribute__((aligned(64))),
				c[3][D * L],
				back[3][D * L],
				sum[3],
				line[3][N];
	lrn_rng		rng;

	lrn_rng_seed(&rng, 31, 0);
	for (int i = 0; i < D * N; i++)
		z[i] = x[i] = (float) normal(&rng);
	for (int i = 0; i < D * L; i++)
		w[i] = (float) normal(&rng);
	for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
	{
		const lrn_kernels *k = lrn_kernels_for((lrn_isa) isa);
		int			a = isa - LRN_ISA_PORTABLE;

		k->widen(x, N - 3, 0.3, z, wide[a]);
		k->gram(z, z, N, N, 0, D, 0, D, c[a], L);
		sum[a] = k->dot(z, z + N, N - 1);
		memcpy(line[a], z, sizeof(line[a]));
		k->axpy(0.7, z + 2 * N, line[a], N - 1);
		k->project(x, N / LRN_LANES, D, w, L, y[a], N);
		k->project_back(x, N / LRN_LANES, D, 0, D, y[a], N, back[a], L);
		for (int i = 0; i < D; i++)
			for (int j = i + 1; j < D; j++)
				c[a][i * L + j] = 0;	/* only the lower triangle is promised */
		ok(memcmp(wide[0], wide[a], sizeof(wide[a])) == 0 && memcmp(c[0], c[a], sizeof(c[a])) == 0 &&
		   sum[0] == sum[a] && memcmp(line[0], line[a], sizeof(line[a])) == 0 &&
		   memcmp(y[0], y[a], sizeof(y[a])) == 0 && memcmp(back[0], back[a], sizeof(back[a])) == 0,
		   "instruction set %d: equal bits in training", isa);
	}
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

/* Eigenpairs of matrices with equal, zero and close eigenvalues. */
static void
test_eigen(void)
{
	enum {N = 40, LD = 48};
	lrn_rng		rng;
	mr_status	st = {0};

	lrn_rng_seed(&rng, 3, 3);
	for (int kind = 0; kind < 4; kind++)
	{
		double	   *a = mr_alloc(&mr_env_malloc, LD * LD * sizeof(double));
		double		full[N][N] = {{0}},
					values[N],
					vectors[N][N],
					worst = 0,
					skew = 0;

		/* kind 0: random; 1: diagonal with equal values; 2: rank 3; 3: zero */
		for (int i = 0; i < N; i++)
			for (int j = 0; j <= i; j++)
				full[i][j] = kind == 0 ? normal(&rng) : kind == 1 ? (i == j) * (1 + i % 4) : 0;
		if (kind == 2)
			for (int r = 0; r < 3; r++)
			{
				double		v[N];

				for (int i = 0; i < N; i++)
					v[i] = normal(&rng);
				for (int i = 0; i < N; i++)
					for (int j = 0; j <= i; j++)
						full[i][j] += v[i] * v[j];
			}
		memset(a, 0, LD * LD * sizeof(double));
		for (int i = 0; i < N; i++)
			for (int j = 0; j <= i; j++)
				full[j][i] = a[i * LD + j] = full[i][j];
		if (lrn_eigen(&mr_env_malloc, a, N, N, values, &vectors[0][0], &st) != MR_OK)
		{
			ok(false, "kind %d: %s", kind, st.message);
			mr_free(&mr_env_malloc, a);
			continue;
		}
		for (int c = 0; c < N; c++)
		{
			for (int i = 0; i < N; i++)
			{
				double		s = 0;

				for (int j = 0; j < N; j++)
					s += full[i][j] * vectors[c][j];
				worst = fmax(worst, fabs(s - values[c] * vectors[c][i]));
			}
			for (int o = 0; o <= c; o++)
			{
				double		s = 0;

				for (int j = 0; j < N; j++)
					s += vectors[c][j] * vectors[o][j];
				skew = fmax(skew, fabs(s - (c == o)));
			}
		}
		ok(worst < 1e-11 && skew < 1e-11, "eigenpairs, kind %d: residual %.1e, skew %.1e", kind, worst, skew);
		mr_free(&mr_env_malloc, a);
	}
}

static mr_code
set(lrn_params *p, const char *name, lrn_value_kind kind, double number, const char *text, mr_status *st)
{
	lrn_value	v = {kind, number, text};

	return lrn_params_set(p, name, &v, st);
}

static void
test_params(void)
{
	lrn_params	p;
	lrn_algorithm a;
	mr_status	st = {0};
	char		json[1024];

	ok(lrn_algorithm_find("pca", &a, &st) == MR_OK && a == LRN_PCA, "an algorithm by name");
	ok(lrn_algorithm_find("forest", &a, &st) == MR_INVALID && strstr(st.hint, "random_forest"),
	   "an unknown one: %s; %s", st.message, st.hint);
	lrn_params_init(&p, LRN_RANDOM_FOREST);
	ok(set(&p, "n_estimators", LRN_NUMBER, 250, NULL, &st) == MR_OK && p.n_estimators == 250, "n_estimators");
	ok(set(&p, "max_depth", LRN_NULL, 0, NULL, &st) == MR_OK && p.max_depth == 0, "max_depth null");
	ok(set(&p, "max_features", LRN_NUMBER, 0.5, NULL, &st) == MR_OK &&
	   p.max_features_kind == LRN_FEATURES_FRACTION, "max_features as a share");
	ok(set(&p, "class_weight", LRN_TEXT, 0, "balanced_subsample", &st) == MR_OK, "class_weight by name");
	ok(set(&p, "n_estimators", LRN_NUMBER, 2.5, NULL, &st) == MR_INVALID, "a fraction: %s", st.message);
	ok(set(&p, "n_estimators", LRN_TEXT, 0, "10", &st) == MR_INVALID, "a text for a number");
	ok(set(&p, "min_samples_leaf", LRN_NUMBER, NAN, NULL, &st) == MR_INVALID, "NaN");
	ok(set(&p, "criterion", LRN_TEXT, 0, "mse", &st) == MR_INVALID, "an unknown criterion");
	ok(set(&p, "bootstrap", LRN_NUMBER, 1, NULL, &st) == MR_INVALID, "a number for a boolean");
	ok(set(&p, "C", LRN_NUMBER, 1, NULL, &st) == MR_INVALID && strstr(st.message, "\"C\"") &&
	   strstr(st.hint, "n_estimators"), "a parameter of another algorithm: %s", st.message);
	ok(set(&p, "n_estimator", LRN_NUMBER, 1, NULL, &st) == MR_INVALID, "a misspelt one: %s", st.message);
	ok(lrn_params_json(&p, json, sizeof(json)) < sizeof(json) && strstr(json, "\"n_estimators\": 250"), "as JSON");
	ok(lrn_params_json(&p, json, 10) > 10 && strlen(json) < 10, "JSON is cut, not overrun");
	lrn_params_init(&p, LRN_LOGISTIC_REGRESSION);
	ok(set(&p, "C", LRN_NUMBER, 0, NULL, &st) == MR_INVALID, "C must be above 0");
	ok(set(&p, "class_weight", LRN_TEXT, 0, "balanced_subsample", &st) == MR_INVALID, "balanced_subsample is for forests");
}

int
main(void)
{
	test_optimum(2);
	test_optimum(3);
	test_optimum(7);
	test_logistic_options();
	test_pca(false);
	test_pca(true);
	test_pca_random();
	test_kernels();
	test_ridge(ROWS, false, true, false, 1);
	test_ridge(ROWS, true, true, true, 10);
	test_ridge(ROWS, true, false, false, 0.5);
	test_ridge(4, false, true, true, 0.3);
	test_ridge(4, true, true, false, 0.1);
	test_ridge(4, false, false, false, 0.1);
	test_ridge_degenerate();
	test_eigen();
	test_params();
	return done_testing();
}
