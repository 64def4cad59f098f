/*
 * test_learn_knn.c
 *	  Nearest neighbours against a plain search, bits on every instruction set,
 *	  ties, and data that is too little or too much.
 */
#include "learn/learn_int.h"
#include "unit.h"

#include <math.h>

#define ROWS	413				/* no multiple of a group */
#define COLS	6
#define K		3

static float data[COLS][ROWS];
static float *col[COLS] = {data[0], data[1], data[2], data[3], data[4], data[5]};
static int32_t y[ROWS];
static float value[ROWS];
static lrn_matrix m = {ROWS, COLS, col, NULL, NULL};
static const lrn_target target = {.class_id = y, .n_classes = K, .value = value};

static void
make_data(void)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, 8, 8);
	for (int i = 0; i < ROWS; i++)
	{
		for (int c = 0; c < COLS; c++)
			data[c][i] = (float) lrn_rng_below(&rng, 10000) / 100 * (float) (c + 1);
		y[i] = (int32_t) lrn_rng_below(&rng, K);
		value[i] = (float) i;
	}
	m.rows = ROWS;
}

static mr_code
open_new(const lrn_params *p, uint8_t **flat, lrn_model *model)
{
	mr_status	st = {0};
	lrn_report	r;
	uint8_t    *bytes;
	size_t		len,
				flat_len;
	mr_code		code = lrn_train(&mr_env_malloc, p, &m, &target, &r, &bytes, &len, &st);

	if (code)
	{
		printf("# %s: %s %s\n", st.message, st.detail, st.hint);
		return code;
	}
	if (lrn_compile(&mr_env_malloc, bytes, len, flat, &flat_len, &st) != MR_OK ||
		lrn_open(*flat, flat_len, model, &st) != MR_OK)
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
	free(bytes);
	return MR_OK;
}

/* What the definition gives, in double. */
static void
plain(const lrn_params *p, const float *row, double *out)
{
	double		scale[COLS],
				mean[COLS],
				distance[ROWS],
				total = 0;
	bool		taken[ROWS] = {false};
	int			chosen[1000];

	for (int c = 0; c < COLS; c++)
	{
		double		square = 0;

		mean[c] = 0;
		for (int i = 0; i < ROWS; i++)
			mean[c] += (double) data[c][i] / ROWS;
		for (int i = 0; i < ROWS; i++)
			square += pow((double) data[c][i] - mean[c], 2) / ROWS;
		scale[c] = p->standardize ? 1 / sqrt(square) : 1;
		mean[c] = p->standardize ? mean[c] : 0;
	}
	for (int i = 0; i < ROWS; i++)
	{
		double		s = 0,
					a2 = 0,
					b2 = 0;

		for (int c = 0; c < COLS; c++)
		{
			double		a = ((double) data[c][i] - mean[c]) * scale[c],
						b = ((double) row[c] - mean[c]) * scale[c];

			s += p->metric == LRN_COSINE ? a * b : p->metric == LRN_MANHATTAN ? fabs(a - b) : (a - b) * (a - b);
			a2 += a * a;
			b2 += b * b;
		}
		distance[i] = p->metric == LRN_COSINE ? 1 - s / sqrt(a2 * b2) : p->metric == LRN_MANHATTAN ? s : sqrt(s);
	}
	for (int c = 0; c < K; c++)
		out[c] = 0;
	for (int n = 0; n < p->n_neighbors; n++)
	{
		int			best = -1;

		for (int i = 0; i < ROWS; i++)
			if (!taken[i] && (best < 0 || distance[i] < distance[best]))
				best = i;
		taken[best] = true;
		chosen[n] = best;
		total += p->weights == LRN_WEIGHTS_UNIFORM ? 1 : 1 / distance[best];
	}
	for (int n = 0; n < p->n_neighbors; n++)
	{
		double		w = (p->weights == LRN_WEIGHTS_UNIFORM ? 1 : 1 / distance[chosen[n]]) / total;

		if (p->task == LRN_CLASSIFY)
			out[y[chosen[n]]] += w;
		else
			out[0] += w * (double) value[chosen[n]];
	}
}

static void
test_against_plain(lrn_task task, int metric, int weights, int k, bool standardize)
{
	enum {N = 61};
	static const char *const metrics[] = {"euclidean", "cosine", "manhattan"};
	lrn_params	p;
	lrn_model	model;
	uint8_t    *flat;
	float		rows[N][COLS],
				out[N][K] = {{0}};
	double		worst = 0;
	int			outputs = task == LRN_CLASSIFY ? K : 1,
				differ = 0;

	make_data();
	lrn_params_init(&p, LRN_KNN);
	p.task = task;
	p.metric = metric;
	p.weights = weights;
	p.n_neighbors = k;
	p.standardize = standardize;
	if (open_new(&p, &flat, &model) != MR_OK)
	{
		ok(false, "training");
		return;
	}
	for (int i = 0; i < N; i++)
		for (int c = 0; c < COLS; c++)
			rows[i][c] = data[c][i] + (float) (i % 7) - 3.3f;
	lrn_predict(&model, &rows[0][0], N, &out[0][0]);
	for (int i = 0; i < N; i++)
	{
		double		wanted[K];

		plain(&p, rows[i], wanted);
		for (int c = 0; c < outputs; c++)
			worst = fmax(worst, fabs(wanted[c] - (double) (&out[0][0])[i * outputs + c]) / (task == LRN_CLASSIFY ? 1 : ROWS));
	}
	ok(worst < 2e-5, "%s of %d, %s%s%s: as a plain search (%.1e)", task == LRN_CLASSIFY ? "classes" : "values", k,
	   metrics[metric], weights ? ", by distance" : "", standardize ? ", standardised" : "", worst);
	for (int isa = LRN_ISA_PORTABLE; isa <= (int) lrn_isa_best(); isa++)
	{
		lrn_set_isa(&model, (lrn_isa) isa);
		for (int i = 0; i < N; i++)
		{
			float		one[K];

			lrn_predict(&model, rows[i], 1, one);
			differ += memcmp(one, &out[0][0] + i * outputs, (size_t) outputs * sizeof(float)) != 0;
		}
	}
	ok(differ == 0, "row by row equals the batch on every instruction set");
	free(flat);
}

static void
test_degenerate(void)
{
	lrn_params	p;
	lrn_model	model;
	uint8_t    *flat;
	float		row[COLS],
				out[K];
	float	   *many[1] = {NULL};
	lrn_matrix	large = {20000000, 1, many, NULL, NULL};

	/* All points alike: the first n_neighbors rows answer. */
	make_data();
	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			data[c][i] = 3;
	for (int i = 0; i < ROWS; i++)
		y[i] = i < 2 ? 2 : i % 2;
	lrn_params_init(&p, LRN_KNN);
	ok(open_new(&p, &flat, &model) == MR_OK, "constant columns");
	for (int c = 0; c < COLS; c++)
		row[c] = 3;
	lrn_predict(&model, row, 1, out);
	ok(fabsf(out[0] - 0.4f) < 1e-6f && fabsf(out[1] - 0.2f) < 1e-6f && fabsf(out[2] - 0.4f) < 1e-6f,
	   "equal distances: the earlier rows win");
	row[2] = NAN;
	lrn_predict(&model, row, 1, out);
	ok(isnan(out[0]) && isnan(out[K - 1]) && !lrn_takes_missing(&model), "a missing value gives NaN");
	free(flat);

	/* A point met exactly decides alone. */
	make_data();
	p.weights = LRN_WEIGHTS_DISTANCE;
	ok(open_new(&p, &flat, &model) == MR_OK, "by distance");
	for (int c = 0; c < COLS; c++)
		row[c] = data[c][100];
	lrn_predict(&model, row, 1, out);
	ok(out[y[100]] == 1, "a point met exactly decides");
	free(flat);

	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			data[c][i] *= 1e35f;
	ok(open_new(&p, &flat, &model) == MR_OK, "large numbers");
	for (int c = 0; c < COLS; c++)
		row[c] = data[c][100];
	lrn_predict(&model, row, 1, out);
	ok(out[y[100]] == 1, "and their squares");
	free(flat);

	p.metric = LRN_COSINE;
	for (int c = 0; c < COLS; c++)
		data[c][5] = row[c] = 0;
	ok(open_new(&p, &flat, &model) == MR_OK, "a row of zeros has no direction");
	lrn_predict(&model, row, 1, out);
	ok(isfinite(out[0]), "and its neighbours are the first rows");
	free(flat);

	m.rows = 4;
	ok(open_new(&p, &flat, &model) == MR_INVALID, "fewer rows than neighbours are refused");
	p.n_neighbors = 4;
	ok(open_new(&p, &flat, &model) == MR_OK, "as many are not");
	free(flat);
	data[1][2] = NAN;
	ok(open_new(&p, &flat, &model) == MR_INVALID, "missing values are refused");

	m = large;
	m.rows = 17000000;
	many[0] = calloc((size_t) m.rows, sizeof(float));
	{
		float	   *v = calloc((size_t) m.rows, sizeof(float));
		lrn_target	t = {.value = v};
		mr_status	st = {0};
		uint8_t    *bytes;
		size_t		len;

		p.task = LRN_REGRESS;
		ok(lrn_train(&mr_env_malloc, &p, &m, &t, NULL, &bytes, &len, &st) == MR_LIMIT && st.hint[0],
		   "too many numbers: %s", st.message);
		free(v);
	}
	free(many[0]);
}

int
main(void)
{
	for (int metric = LRN_EUCLIDEAN; metric <= LRN_MANHATTAN; metric++)
	{
		test_against_plain(LRN_CLASSIFY, metric, LRN_WEIGHTS_UNIFORM, 5, false);
		test_against_plain(LRN_CLASSIFY, metric, LRN_WEIGHTS_DISTANCE, 40, true);
		test_against_plain(LRN_REGRESS, metric, LRN_WEIGHTS_DISTANCE, 1, false);
		test_against_plain(LRN_REGRESS, metric, LRN_WEIGHTS_UNIFORM, ROWS, true);
	}
	test_degenerate();
	return done_testing();
}
