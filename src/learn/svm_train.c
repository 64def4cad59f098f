/*
 * svm_train.c
 *	  rbf_svm: C-support vector classification with a Gaussian kernel, one
 *	  machine a pair of classes, as scikit-learn's SVC (libsvm) defines it.
 *
 * Columns are centred, which changes no distance but keeps float32 exact where
 * values are far from 0, and multiplied by the root of gamma / ln 2: the kernel
 * exp(-gamma |x - z|^2) becomes 2^-|x - z|^2.  Rows of weight 0 are left out.
 */
#include "learn/learner.h"
#include "learn/svm.h"

#include <math.h>
#include <string.h>

/* Everything but the cache's pool in one allocation, carved in this order. */
typedef struct carver
{
	uint8_t    *at;				/* NULL: only measure */
	size_t		used;
} carver;

static void *
carve(carver *c, double n, size_t size)
{
	void	   *p = c->at ? c->at + c->used : NULL;

	c->used += ((size_t) (n * (double) size) + 63) & ~(size_t) 63;
	return p;
}

typedef struct training
{
	const mr_env *env;
	const lrn_params *params;
	const lrn_matrix *m;
	int			k;
	int			d;
	int64_t		start[LRN_SVM_CLASSES + 1]; /* of each class in row */
	int32_t    *row;			/* rows of positive weight, by class */
	double	   *C;				/* by the same */
	float	   *coef;			/* by the same x (k - 1) */
	double	   *mean;
	double	   *scale;
	double		rho[LRN_SVM_CLASSES * (LRN_SVM_CLASSES - 1) / 2];
	uint32_t	count[LRN_SVM_CLASSES];
	svm_problem pair;
} training;

static void
carve_all(carver *c, training *t, double rows, double longest)
{
	double		padded = longest + LRN_TILE,
				d = t->d;
	svm_problem *p = &t->pair;

	p->tiles = carve(c, padded * d, sizeof(float));
	p->near = carve(c, padded * d, sizeof(float));
	p->x = carve(c, d, sizeof(float));
	p->row = carve(c, padded, sizeof(float));
	p->a = carve(c, padded, sizeof(double));
	p->C = carve(c, padded, sizeof(double));
	p->f = carve(c, padded, sizeof(double));
	p->f_all = carve(c, padded, sizeof(double));
	p->up = carve(c, padded, sizeof(float));
	p->low = carve(c, padded, sizeof(float));
	p->active = carve(c, padded, sizeof(int32_t));
	p->keep = carve(c, padded, sizeof(int32_t));
	p->cache.slot_of = carve(c, padded, sizeof(int32_t));
	p->cache.row_of = carve(c, padded, sizeof(int32_t));
	p->cache.older = carve(c, padded, sizeof(int32_t));
	p->cache.newer = carve(c, padded, sizeof(int32_t));
	p->cache.moved = carve(c, padded, sizeof(int32_t));
	t->row = carve(c, rows, sizeof(int32_t));
	t->C = carve(c, rows, sizeof(double));
	t->coef = carve(c, rows * (t->k - 1), sizeof(float));
	t->mean = carve(c, d, sizeof(double));
	t->scale = carve(c, d, sizeof(double));
}

/* The least that a cache needs, in bytes. */
static double
two_rows(double n)
{
	return 2 * (n + LRN_TILE) * sizeof(float);
}

/* The cache needs room for two rows; the model is written beside all that. */
static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	training	t = {.k = n_classes, .d = cols};
	carver		c = {NULL, 0};
	double		n = (double) rows,
				bytes = n * (8 * (double) cols + 4 * (double) n_classes + 100);

	/* What does not fit a size_t needs no exact answer. */
	if (bytes > 1e18)
		return bytes;
	carve_all(&c, &t, n, n);
	return (double) sizeof(training) + (double) c.used + two_rows(n) +
		n * (cols + n_classes) * sizeof(float) * 2.5;
}

/* Rows by class; of a class or row of weight 0, none. */
static mr_code
sort_rows(training *t, const lrn_target *target, mr_status *st)
{
	double		counts[LRN_SVM_CLASSES] = {0},
				weight[LRN_SVM_CLASSES];
	int64_t		at[LRN_SVM_CLASSES],
				n = t->m->rows;
	int			present = 0;

	for (int64_t i = 0; i < n; i++)
		counts[target->class_id[i]]++;
	lrn_class_weights(t->params, t->params->class_weight, counts, (double) n, t->k, weight);
	for (int64_t i = 0; i < n; i++)
		t->start[target->class_id[i] + 1] += weight[target->class_id[i]] > 0 &&
			(target->weight == NULL || target->weight[i] > 0);
	for (int c = 0; c < t->k; c++)
	{
		present += t->start[c + 1] > 0;
		t->start[c + 1] += t->start[c];
		at[c] = t->start[c];
	}
	if (present < 2)
		return mr_fail(st, MR_INVALID, "fewer than two classes have rows of positive weight");
	for (int64_t i = 0; i < n; i++)
	{
		int			c = target->class_id[i];
		double		w = weight[c] * (target->weight ? (double) target->weight[i] : 1);

		if (!(w > 0))
			continue;
		t->row[at[c]] = (int32_t) i;
		t->C[at[c]++] = fmin(t->params->C * w, 1e30);
	}
	return MR_OK;
}

/* Means and scales; gamma "scale" is 1 / (columns x variance of all numbers). */
static mr_code
scale_columns(training *t, mr_status *st)
{
	double		n = (double) t->m->rows,
				sum = 0,
				squares = 0,
				variance,
				gamma = t->params->gamma;

	for (int j = 0; j < t->d; j++)
	{
		const float *x = t->m->col[j];
		double		mean = 0,
					square = 0,
					deviation;

		for (int64_t i = 0; i < t->m->rows; i++)
			mean += x[i];
		mean /= n;
		for (int64_t i = 0; i < t->m->rows; i++)
			square += (x[i] - mean) * (x[i] - mean);
		deviation = sqrt(square / n);
		if (!(deviation > 1e-12 * fabs(mean)))
			deviation = square = 0; /* constant */
		t->mean[j] = mean;
		t->scale[j] = t->params->standardize && deviation > 0 ? 1 / deviation : 1;
		if (t->params->standardize)
			mean = 0;
		sum += mean;
		squares += square / n * t->scale[j] * t->scale[j] + mean * mean;
		if (mr_interrupted(t->env))
			return lrn_canceled(st);
	}
	variance = squares / t->d - sum / t->d * (sum / t->d);
	if (gamma == LRN_GAMMA_SCALE)
		gamma = variance > 1e-12 * squares / t->d ? 1 / (t->d * variance) : 1;
	else if (gamma == LRN_GAMMA_AUTO)
		gamma = 1.0 / t->d;
	for (int j = 0; j < t->d; j++)
		t->scale[j] = fmin(t->scale[j] * sqrt(gamma / 0.69314718055994531), 1e300);
	return MR_OK;
}

/* Rows of two classes to tiles. */
static void
pack_pair(training *t, int a, int b)
{
	svm_problem *p = &t->pair;
	int			first = (int) (t->start[a + 1] - t->start[a]),
				n = first + (int) (t->start[b + 1] - t->start[b]);

	p->n = n;
	p->n_positive = first;
	memset(p->tiles, 0, SVM_PAD(n) * (size_t) t->d * sizeof(float));
	for (int i = 0; i < n; i++)
	{
		int64_t		at = i < first ? t->start[a] + i : t->start[b] + i - first;
		float	   *to = p->tiles + (size_t) (i / LRN_TILE) * (size_t) t->d * LRN_TILE + i % LRN_TILE;

		for (int j = 0; j < t->d; j++)
			to[(size_t) j * LRN_TILE] = svm_coordinate(t->m->col[j][t->row[at]], t->mean[j], t->scale[j]);
		p->C[i] = t->C[at];
	}
}

/* Class a against b: the solution becomes coefficients of both. */
static void
keep_pair(training *t, int a, int b, double *rho)
{
	svm_problem *p = &t->pair;
	size_t		others = (size_t) t->k - 1;

	for (int i = 0; i < p->n; i++)
		if (i < p->n_positive)
			t->coef[(size_t) (t->start[a] + i) * others + (size_t) (b - 1)] = (float) p->a[i];
		else
			t->coef[(size_t) (t->start[b] + i - p->n_positive) * others + (size_t) a] = (float) -p->a[i];
	*rho = p->rho;
}

static mr_code
solve_pairs(training *t, lrn_report *report, mr_status *st)
{
	double	   *rho = t->rho;
	int64_t		iterations = 0;

	report->converged = true;
	for (int a = 0; a < t->k; a++)
		for (int b = a + 1; b < t->k; b++)
		{
			mr_code		code;

			pack_pair(t, a, b);
			code = svm_solve(&t->pair, st);
			if (code)
				return code;
			keep_pair(t, a, b, rho++);
			iterations += t->pair.iterations;
			report->converged &= t->pair.converged;
		}
	report->iterations = iterations > INT32_MAX ? INT32_MAX : (int) iterations;
	for (int c = 0; c < t->k; c++)
		for (int64_t i = t->start[c]; i < t->start[c + 1]; i++)
			t->count[c] += svm_is_support(t->coef + (size_t) i * (size_t) (t->k - 1), t->k);
	return MR_OK;
}

/* The cache gets cache_size, or what the limit leaves, or all rows. */
static size_t
cache_floats(const training *t, size_t longest, size_t used)
{
	double		stride = (double) SVM_PAD(longest),
				bytes = fmin(t->params->cache_size * 1e6, stride * (double) longest * sizeof(float));

	if (t->params->max_memory)
		bytes = fmin(bytes, (double) t->params->max_memory - (double) used);
	return (size_t) fmax(bytes / sizeof(float), 2 * stride);
}

static mr_code
train(const mr_env *env, const lrn_params *params, const lrn_matrix *m, const lrn_target *target,
	  lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	lrn_info	info = {LRN_RBF_SVM, LRN_CLASSIFY, m->cols, target->n_classes, target->n_classes};
	carver		c = {NULL, 0};
	training   *t;
	svm_parts	parts;
	size_t		need = lrn_train_memory(params, m->rows, m->cols, target->n_classes);
	size_t		longest = 0;
	mr_code		code;

	if (target->n_classes > LRN_SVM_CLASSES)
	{
		mr_fail(st, MR_LIMIT, "rbf_svm takes at most %d classes, the target has %d", LRN_SVM_CLASSES, target->n_classes);
		mr_hint(st, "It trains a machine for each pair of classes. Group rare classes, or train a linear_svm.");
		return MR_LIMIT;
	}
	t = mr_alloc(env, sizeof(*t));
	if (t == NULL)
		return lrn_out_of_memory(st);
	memset(t, 0, sizeof(*t));
	t->env = env;
	t->params = params;
	t->m = m;
	t->k = target->n_classes;
	t->d = m->cols;
	t->pair = (svm_problem) {.env = env, .kernels = lrn_kernels_for(LRN_ISA_AUTO), .progress = params->progress,
		.progress_arg = params->progress_arg, .d = m->cols, .tol = params->tol, .max_iter = params->max_iter};
	carve_all(&c, t, (double) m->rows, (double) m->rows);
	c.at = mr_alloc(env, c.used);
	if (c.at)
	{
		memset(c.at, 0, c.used);
		c.used = 0;
		carve_all(&c, t, (double) m->rows, (double) m->rows);
		code = sort_rows(t, target, st);
	}
	else
		code = lrn_out_of_memory(st);
	if (code)
		goto done;
	for (int a = 0; a < t->k; a++)
		for (int b = a + 1; b < t->k; b++)
		{
			size_t		n = (size_t) (t->start[a + 1] - t->start[a] + t->start[b + 1] - t->start[b]);

			longest = n > longest ? n : longest;
		}
	need -= (size_t) two_rows((double) m->rows);
	t->pair.cache.floats = cache_floats(t, longest, need);
	t->pair.cache.pool = mr_alloc(env, t->pair.cache.floats * sizeof(float));
	if (t->pair.cache.pool == NULL)
	{
		code = lrn_out_of_memory(st);
		goto done;
	}
	code = scale_columns(t, st);
	if (code == MR_OK)
		code = solve_pairs(t, report, st);
	if (code)
		goto done;
	parts = (svm_parts) {t->mean, t->scale, t->rho, t->count, m->col, t->row, t->start[t->k], t->coef};
	code = svm_write(env, &info, &parts, file, len, st);
	report->memory = need + t->pair.cache.floats * sizeof(float);
done:
	mr_free(env, t->pair.cache.pool);
	mr_free(env, c.at);
	mr_free(env, t);
	return code;
}

static const lrn_choice gamma_choices[] =
{
	{"scale", LRN_GAMMA_SCALE},
	{"auto", LRN_GAMMA_AUTO},
	{.name = NULL}
};

static const lrn_param parameters[] =
{
	LRN_PARAM_RANDOM_STATE,
	LRN_PARAM_CLASS_WEIGHTS,
	LRN_PARAM(C, POSITIVE, .init = 1),
	LRN_PARAM(gamma, CHOICE_OR_POSITIVE, .init = LRN_GAMMA_SCALE, .choices = gamma_choices),
	LRN_PARAM(tol, POSITIVE, .init = 1e-3),
	LRN_PARAM(max_iter, INT, .low = 1, .high = 1000000000, .nullable = true),
	LRN_PARAM(cache_size, POSITIVE, .init = 200),
	LRN_PARAM(standardize, BOOL),
	LRN_PARAM_CALIBRATION(LRN_CALIBRATION_SIGMOID),
	LRN_PARAM_END
};

const lrn_learner lrn_rbf_svm = {
	.algorithm = LRN_RBF_SVM,
	.name = "rbf_svm",
	.tasks = LRN_CAN(LRN_CLASSIFY),
	.takes = LRN_TAKES_WEIGHTS | LRN_GIVES_SCORES,
	.params = parameters,
	.memory = memory_needed,
	.train = train,
	.sane = svm_is_sane,
	.check = svm_check,
	.compile = svm_compile,
	.open = svm_open,
	.export = lrn_svm_export,
	.row_ns = svm_row_ns,
	.predict = svm_predict,
};
