/*
 * pca_train.c
 *	  Principal components: centred columns, explained variances with n - 1,
 *	  the largest entry of each component positive (svd_flip).
 *
 * "full" takes the eigenvectors of the covariance matrix, as scikit-learn's
 * covariance_eigh solver; "randomized" is pca_random.c; "auto" chooses by the
 * shape as scikit-learn does.  Memory of "full": two d x d matrices of doubles
 * and a block of rows.
 */
#include "learn/pca.h"

#include <math.h>
#include <string.h>

/* How many components: a count, a share of the variance, or all there are. */
static int
choose(double want, const double *values, int most, double total)
{
	double		sum = 0;

	if (want == 0)
		return most;
	if (want >= 1)
		return want > most ? most : (int) want;
	for (int c = 0; c < most; c++)
	{
		sum += fmax(values[c], 0);
		if (sum / total > want)
			return c + 1;
	}
	return most;
}

/* scikit-learn's rule. */
static bool
is_random(const lrn_params *p, int64_t rows, int cols)
{
	double		least = rows < cols ? (double) rows : cols;

	if (p->svd_solver != LRN_SVD_AUTO)
		return p->svd_solver == LRN_SVD_RANDOMIZED;
	return (rows > 500 || cols > 500) && !(cols <= 1000 && rows >= 10 * (int64_t) cols) &&
		p->n_components >= 1 && p->n_components < 0.8 * least;
}

/* mean: d; values: d, descending; vectors: k x d of unit length. */
static mr_code
by_covariance(const mr_env *env, const lrn_params *p, const lrn_matrix *m, int k,
			  double *mean, double *values, double *vectors, double *total, mr_status *st)
{
	int			d = m->cols;
	lrn_moments s;
	mr_code		code = lrn_moments_of(env, m, NULL, NULL, p->progress, p->progress_arg, &s, st);

	if (code)
		return code;
	*total = 0;
	for (int i = 0; i < d; i++)
	{
		for (int j = 0; j <= i; j++)
			s.product[(size_t) i * s.ld + (size_t) j] /= (double) (m->rows - 1);
		*total += s.product[(size_t) i * s.ld + (size_t) i];
	}
	memcpy(mean, s.mean, (size_t) d * sizeof(double));
	if (*total > 0)
		code = lrn_eigen(env, s.product, d, k, values, vectors, st);
	lrn_moments_free(env, &s);
	return code;
}

/* The sign of svd_flip, and division by the deviation where whitened. */
static void
finish_component(double *v, int d, double variance, bool whiten)
{
	int			top = 0;
	double		scale;

	for (int j = 1; j < d; j++)
		if (fabs(v[j]) > fabs(v[top]))
			top = j;
	/* scikit-learn divides by the deviation, at least eps. */
	scale = whiten ? fmax(sqrt(variance), 2.220446049250313e-16) : 1;
	if (v[top] < 0)
		scale = -scale;
	for (int j = 0; j < d; j++)
		v[j] /= scale;
}

static mr_code
train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
	  const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	size_t		d = (size_t) m->cols;
	int			most = m->rows < m->cols ? (int) m->rows : m->cols,
				k = p->n_components >= 1 ? (int) p->n_components : most;
	bool		random = is_random(p, m->rows, m->cols);
	lrn_info	info = {LRN_PCA, LRN_TRANSFORM, m->cols, 0, 0};
	double	   *values,
			   *vectors,
			   *ratio,
			   *bias,
			   *mean;
	double		total = 0,
				kept = 0;
	mr_code		code;

	if (m->rows < 2)
	{
		mr_fail(st, MR_INVALID, "pca needs at least 2 rows");
		mr_hint(st, "Components are directions in which rows differ: read more of them.");
		return MR_INVALID;
	}
	if (k > most)
	{
		mr_fail(st, MR_INVALID, "parameter \"n_components\" must be at most %d here", most);
		mr_detail(st, "There are %lld rows of %d columns.", (long long) m->rows, m->cols);
		return MR_INVALID;
	}
	if (random && p->n_components < 1)
	{
		mr_fail(st, MR_INVALID, "parameter \"n_components\" must be an integer with \"svd_solver\": \"randomized\"");
		mr_hint(st, "Say how many components, or use \"svd_solver\": \"full\".");
		return MR_INVALID;
	}
	values = mr_alloc(env, d * 4 * sizeof(double));
	vectors = mr_alloc(env, (size_t) k * d * sizeof(double));
	if (values == NULL || vectors == NULL)
	{
		code = lrn_out_of_memory(st);
		goto done;
	}
	ratio = values + d;
	bias = ratio + d;
	mean = bias + d;
	memset(bias, 0, d * sizeof(double));
	report->iterations = 1;
	if (random)
		code = lrn_pca_random(env, p, m, k, mean, values, vectors, &total, &report->iterations, st);
	else
		code = by_covariance(env, p, m, k, mean, values, vectors, &total, st);
	if (code == MR_OK && !(total > 0))
	{
		code = mr_fail(st, MR_INVALID, "all columns are constant");
		mr_hint(st, "There is no direction in which the rows differ: select other columns.");
	}
	if (code)
		goto done;
	k = choose(p->n_components, values, most, total);
	for (int i = 0; i < k; i++)
	{
		values[i] = fmax(values[i], 0);
		ratio[i] = values[i] / total;
		kept += ratio[i];
		finish_component(vectors + (size_t) i * d, m->cols, values[i], p->whiten);
	}
	info.n_outputs = k;
	report->outputs = k;
	report->variance_kept = kept;
	report->converged = true;
	report->memory = lrn_train_memory(p, m->rows, m->cols, 0);
	code = lrn_linear_write(env, &info, mean, vectors, k, bias, values, ratio, file, len, st);
done:
	mr_free(env, values);
	mr_free(env, vectors);
	return code;
}

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	double		d = cols;

	if (is_random(p, rows, cols))
		return lrn_pca_random_memory(p, rows, cols) + d * p->n_components * 8 + d * 32;
	return lrn_moments_memory(cols) + (double) lrn_eigen_memory(cols, cols) + d * d * 8 + d * 32;
}

static bool
is_sane(const lrn_info *info)
{
	return info->n_classes == 0 && info->n_outputs <= info->n_features;
}

static const lrn_choice solvers[] =
{
	{"auto", LRN_SVD_AUTO},
	{"full", LRN_SVD_FULL},
	{"covariance_eigh", LRN_SVD_FULL},
	{"randomized", LRN_SVD_RANDOMIZED},
	{.name = NULL}
};

static const lrn_param params[] =
{
	LRN_PARAM_RANDOM_STATE,
	LRN_PARAM(n_components, COUNT_OR_SHARE, .low = 1, .nullable = true),
	LRN_PARAM(whiten, BOOL),
	LRN_PARAM(svd_solver, CHOICE, .init = LRN_SVD_AUTO, .choices = solvers),
	LRN_PARAM(iterated_power, INT, .low = 1, .high = 1000, .nullable = true),
	LRN_PARAM(n_oversamples, INT, .init = 10, .low = 0, .high = 10000),
	LRN_PARAM_END
};

const lrn_learner lrn_pca = {
	.algorithm = LRN_PCA,
	.name = "pca",
	.tasks = LRN_CAN(LRN_TRANSFORM),
	.params = params,
	.memory = memory_needed,
	.train = train,
	.sane = is_sane,
	.check = lrn_linear_check,
	.compile = lrn_linear_compile,
	.open = lrn_linear_open,
	.export = lrn_linear_export,
	.row_ns = lrn_linear_row_ns,
	.predict = lrn_linear_predict,
};
