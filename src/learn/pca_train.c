/*
 * pca_train.c
 *	  Principal components by the covariance matrix, as scikit-learn's
 *	  covariance_eigh solver: centred columns, explained variances with n - 1,
 *	  the largest entry of each component positive (svd_flip).
 *
 * Memory: two d x d matrices of doubles and a block of rows.
 */
#include "learn/learner.h"

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

static mr_code
train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
	  const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	int			d = m->cols,
				most = m->rows < d ? (int) m->rows : d,
				k;
	lrn_info	info = {LRN_PCA, LRN_TRANSFORM, d, 0, 0};
	lrn_moments s = {0};
	double	   *vectors = NULL,
			   *values,
			   *bias,
			   *ratio;
	double		total = 0,
				kept = 0;
	mr_code		code;

	if (m->rows < 2)
		return mr_fail(st, MR_INVALID, "pca needs at least 2 rows");
	if (p->n_components >= 1 && p->n_components > most)
	{
		mr_fail(st, MR_INVALID, "parameter \"n_components\" must be at most %d here", most);
		mr_detail(st, "There are %lld rows of %d columns.", (long long) m->rows, d);
		return MR_INVALID;
	}
	values = mr_alloc(env, (size_t) d * 3 * sizeof(double));
	if (values == NULL)
		return lrn_out_of_memory(st);
	ratio = values + d;
	bias = ratio + d;
	memset(bias, 0, (size_t) d * sizeof(double));
	code = lrn_moments_of(env, m, NULL, NULL, p->progress, p->progress_arg, &s, st);
	if (code)
		goto done;
	for (int i = 0; i < d; i++)
	{
		for (int j = 0; j <= i; j++)
			s.product[(size_t) i * s.ld + (size_t) j] /= (double) (m->rows - 1);
		total += s.product[(size_t) i * s.ld + (size_t) i];
	}
	if (!(total > 0))
	{
		code = mr_fail(st, MR_INVALID, "all columns are constant");
		goto done;
	}
	/* A share of the variance is known only with all values: take all vectors. */
	k = p->n_components >= 1 ? (int) p->n_components : most;
	vectors = mr_alloc(env, (size_t) k * (size_t) d * sizeof(double));
	if (vectors == NULL)
	{
		code = lrn_out_of_memory(st);
		goto done;
	}
	code = lrn_eigen(env, s.product, d, k, values, vectors, st);
	if (code)
		goto done;
	k = choose(p->n_components, values, most, total);
	for (int i = 0; i < k; i++)
	{
		double	   *v = vectors + (size_t) i * (size_t) d;
		int			top = 0;

		values[i] = fmax(values[i], 0);
		ratio[i] = values[i] / total;
		kept += ratio[i];
		for (int j = 1; j < d; j++)
			if (fabs(v[j]) > fabs(v[top]))
				top = j;
		if (v[top] < 0)
			for (int j = 0; j < d; j++)
				v[j] = -v[j];
		if (p->whiten)
		{
			/* scikit-learn divides by the deviation, at least eps. */
			double		s = fmax(sqrt(values[i]), 2.220446049250313e-16);

			for (int j = 0; j < d; j++)
				v[j] /= s;
		}
	}
	info.n_outputs = k;
	report->outputs = k;
	report->variance_kept = kept;
	report->iterations = 1;
	report->converged = true;
	report->memory = lrn_train_memory(p, m->rows, m->cols, 0);
	code = lrn_linear_write(env, &info, s.mean, vectors, k, bias, values, ratio, file, len, st);
done:
	lrn_moments_free(env, &s);
	mr_free(env, values);
	mr_free(env, vectors);
	return code;
}

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	double		d = cols;

	return lrn_moments_memory(cols) + (double) lrn_eigen_memory(cols, cols) + d * d * 8 + d * 24;
}

static bool
is_sane(const lrn_info *info)
{
	return info->n_classes == 0 && info->n_outputs <= info->n_features;
}

static const lrn_param params[] =
{
	LRN_PARAM_RANDOM_STATE,
	LRN_PARAM(n_components, COUNT_OR_SHARE, .low = 1, .nullable = true),
	LRN_PARAM(whiten, BOOL),
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
	.row_ns = lrn_linear_row_ns,
	.predict = lrn_linear_predict,
};
