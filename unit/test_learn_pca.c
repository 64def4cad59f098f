/*
 * test_learn_pca.c
 *	  PCA against conditions that define it; the kernels and the eigenvectors
 *	  beneath.
 */
#include "learn_data.h"

#include <math.h>

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

int
main(void)
{
	test_pca(false);
	test_pca(true);
	test_pca_random();
	test_kernels();
	test_eigen();
	return done_testing();
}
