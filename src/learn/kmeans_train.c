/*
 * kmeans_train.c
 *	  k-means by Lloyd's iterations, as scikit-learn's KMeans does them.
 *
 * Rows are copied once: centred, with "standardize" divided by each column's
 * deviation, laid in groups of LRN_LANES.  An iteration is one pass over them:
 * products with all centres, the least distance wins, ties go to the lower
 * number.  Sums of the clusters are kept in double and changed only by the
 * rows that moved.  A cluster without rows takes the row farthest from its
 * centre.
 *
 * Memory: the copy, and 16 bytes a row besides 4 for each local trial.
 */
#include "learn/kmeans.h"

#include <math.h>
#include <string.h>

/* ---- Lloyd ---- */

static void
pack_centres(lrn_kmeans_run *r)
{
	for (int c = 0; c < r->kp; c++)
	{
		double		norm = 0;

		for (int j = 0; j < r->d; j++)
		{
			float		v = c < r->k ? (float) r->centre[(size_t) c * (size_t) r->d + (size_t) j] : 0;

			r->packed[(size_t) j * (size_t) r->kp + (size_t) c] = v;
			norm += (double) v * (double) v;
		}
		r->half_norm[c] = c < r->k ? (float) (norm / 2) : INFINITY;
	}
}

/* Row i goes from cluster a (none if negative) to b. */
static void
move_row(lrn_kmeans_run *r, int64_t i, int a, int b)
{
	const float *x = r->x + (size_t) (i / LRN_LANES) * (size_t) r->d * LRN_LANES + (size_t) (i % LRN_LANES);
	double		w = lrn_kmeans_weight(r, i);
	double	   *to = r->sum + (size_t) b * (size_t) r->d;

	r->rows_in[b]++;
	r->mass[b] += w;
	for (int j = 0; j < r->d; j++)
		to[j] += w * (double) x[(size_t) j * LRN_LANES];
	if (a >= 0)
	{
		double	   *from = r->sum + (size_t) a * (size_t) r->d;

		r->rows_in[a]--;
		r->mass[a] -= w;
		for (int j = 0; j < r->d; j++)
			from[j] -= w * (double) x[(size_t) j * LRN_LANES];
		/* What rounding leaves behind is no cluster. */
		if (r->rows_in[a] == 0)
		{
			r->mass[a] = 0;
			memset(from, 0, (size_t) r->d * sizeof(double));
		}
	}
}

/*
 * Label all rows by the centres.  *moved: rows whose label changed; *inertia:
 * by the kernel's scores, good enough to watch.
 */
static mr_code
assign(lrn_kmeans_run *r, int64_t *moved, double *inertia)
{
	int64_t		step = lrn_kmeans_step(r, r->kp);
	double		sum = 0;

	*moved = 0;
	pack_centres(r);
	for (int64_t g = 0; g < r->groups; g += step)
	{
		int64_t		take = r->groups - g < step ? r->groups - g : step,
					first = g * LRN_LANES,
					end = (g + take) * LRN_LANES < r->n ? (g + take) * LRN_LANES : r->n;

		r->kernels->kmeans_assign(r->x + (size_t) g * (size_t) r->d * LRN_LANES, take, r->d, r->packed,
								  r->half_norm, r->kp, r->next + first, r->score + first);
		for (int64_t i = first; i < end; i++)
		{
			sum += lrn_kmeans_weight(r, i) * (double) r->score[i];
			if (r->next[i] != r->label[i])
			{
				move_row(r, i, r->label[i], r->next[i]);
				r->label[i] = r->next[i];
				++*moved;
			}
		}
		if (mr_interrupted(r->env))
			return lrn_canceled(r->st);
	}
	*inertia = r->norms + 2 * sum;
	return MR_OK;
}

/* closest[row] = squared distance to the centre of its label; returns the weighted sum. */
static mr_code
spread(lrn_kmeans_run *r, double *inertia)
{
	double		sum = 0;

	for (int64_t i = 0; i < r->n; i++)
	{
		const float *x = r->x + (size_t) (i / LRN_LANES) * (size_t) r->d * LRN_LANES + (size_t) (i % LRN_LANES);
		const double *c = r->centre + (size_t) r->label[i] * (size_t) r->d;
		double		s = 0;

		for (int j = 0; j < r->d; j++)
		{
			double		off = (double) x[(size_t) j * LRN_LANES] - c[j];

			s += off * off;
		}
		r->closest[i] = (float) s;
		sum += lrn_kmeans_weight(r, i) * s;
		if (i % 64 == 0 && mr_interrupted(r->env))
			return lrn_canceled(r->st);
	}
	*inertia = sum;
	return MR_OK;
}

/* Give each cluster without rows the row farthest from its centre. */
static mr_code
fill_empty(lrn_kmeans_run *r)
{
	double		unused;
	mr_code		code = spread(r, &unused);

	for (int e = 0; e < r->k && code == MR_OK; e++)
	{
		int64_t		far = 0;
		double		w;
		double	   *from,
				   *to;

		if (r->rows_in[e] > 0)
			continue;
		for (int64_t i = 1; i < r->n; i++)
			if (r->closest[i] > r->closest[far])
				far = i;
		/* All rows sit on their centres: there are fewer places than clusters. */
		if (!(r->closest[far] > 0))
			break;
		r->closest[far] = 0;
		w = lrn_kmeans_weight(r, far);
		from = r->moved_sum + (size_t) r->label[far] * (size_t) r->d;
		to = r->moved_sum + (size_t) e * (size_t) r->d;
		for (int j = 0; j < r->d; j++)
		{
			from[j] -= w * (double) lrn_kmeans_value(r, far, j);
			to[j] = w * (double) lrn_kmeans_value(r, far, j);
		}
		r->moved_mass[r->label[far]] -= w;
		r->moved_mass[e] = w;
		if (mr_interrupted(r->env))
			code = lrn_canceled(r->st);
	}
	return code;
}

/* Centres become the means of their rows; *shift: sum of their squared moves. */
static mr_code
update(lrn_kmeans_run *r, double *shift)
{
	size_t		d = (size_t) r->d;
	bool		empty = false;

	memcpy(r->moved_sum, r->sum, (size_t) r->k * d * sizeof(double));
	memcpy(r->moved_mass, r->mass, (size_t) r->k * sizeof(double));
	for (int c = 0; c < r->k; c++)
		empty |= r->rows_in[c] == 0;
	if (empty)
	{
		mr_code		code = fill_empty(r);

		if (code)
			return code;
	}
	*shift = 0;
	for (size_t c = 0; c < (size_t) r->k; c++)
		if (r->moved_mass[c] > 0)
			for (size_t j = 0; j < d; j++)
			{
				double		mean = r->moved_sum[c * d + j] / r->moved_mass[c],
							off = mean - r->centre[c * d + j];

				*shift += off * off;
				r->centre[c * d + j] = mean;
			}
	return MR_OK;
}

/* One start: iterations until no row moves, or the centres hardly do. */
static mr_code
one_start(lrn_kmeans_run *r, const lrn_params *p, double tol, int start, double *inertia, int *iterations, bool *converged)
{
	mr_code		code = lrn_kmeans_start(r);
	int64_t		moved = 0;
	double		shift = 0;

	memset(r->sum, 0, (size_t) r->k * (size_t) r->d * sizeof(double));
	memset(r->mass, 0, (size_t) r->k * sizeof(double));
	memset(r->rows_in, 0, (size_t) r->k * sizeof(int64_t));
	for (int64_t i = 0; i < r->n; i++)
		r->label[i] = -1;
	*converged = false;
	for (*iterations = 0; code == MR_OK && *iterations < p->max_iter && !*converged;)
	{
		code = assign(r, &moved, inertia);
		if (code == MR_OK && moved > 0)
			code = update(r, &shift);
		++*iterations;
		if (code == MR_OK && p->progress)
			p->progress(p->progress_arg, (int64_t) start * p->max_iter + *iterations,
						(int64_t) p->n_init * p->max_iter, *inertia);
		*converged = code == MR_OK && (moved == 0 || shift <= tol);
	}
	if (code == MR_OK && moved > 0)
		code = assign(r, &moved, inertia);
	if (code == MR_OK)
		code = spread(r, inertia);
	return code;
}

/* ---- data in, model out ---- */

/*
 * Mean and scale of each column, the mean variance of the scaled ones, and a
 * power of two that keeps squares of very large or small numbers in float32.
 */
static mr_code
measure(const lrn_kmeans_run *r, const lrn_params *p, const lrn_matrix *m, double *mean, double *scale,
		double *variance, double *unit)
{
	double		top = 0;
	int			exponent;

	*variance = 0;
	for (int j = 0; j < m->cols; j++)
	{
		lrn_column	c;
		mr_code		code = lrn_column_of(r->env, m->col[j], r->weight, m->rows, &c, r->st);

		if (code)
			return code;
		mean[j] = c.mean;
		scale[j] = p->standardize && c.deviation > 0 ? 1 / c.deviation : 1;
		*variance += c.square / c.mass * scale[j] * scale[j] / m->cols;
		top = fmax(top, c.top * scale[j]);
	}
	frexp(top, &exponent);
	*unit = exponent > 50 || exponent < -50 ? ldexp(1, -exponent) : 1;
	return MR_OK;
}

/* Rows in groups; those without weight stay out. */
static mr_code
copy_rows(lrn_kmeans_run *r, const lrn_matrix *m, const double *mean, const double *scale, double unit, float *weight)
{
	size_t		d = (size_t) m->cols;
	int64_t		at = 0;

	for (int64_t i = 0; i < m->rows; i++)
	{
		float	   *x = r->x + (size_t) (at / LRN_LANES) * d * LRN_LANES + (size_t) (at % LRN_LANES);

		if (r->weight && r->weight[i] == 0)
			continue;
		for (size_t j = 0; j < d; j++)
		{
			float		v = (float) (((double) m->col[j][i] - mean[j]) * scale[j] * unit);

			x[j * LRN_LANES] = v;
			r->norms += lrn_kmeans_weight(r, i) * (double) v * (double) v;
		}
		if (weight)
			weight[at] = r->weight[i];
		at++;
		if (i % 64 == 0 && mr_interrupted(r->env))
			return lrn_canceled(r->st);
	}
	r->n = at;
	if (weight)
		r->weight = weight;
	return MR_OK;
}

static double
memory_needed(const lrn_params *p, int64_t rows, int cols, int n_classes)
{
	double		n = (double) rows + LRN_LANES,
				d = cols,
				k = p->n_clusters + 8,
				trials = (lrn_kmeans_trials(p->n_clusters) + 3) & ~3;

	return n * (d * 4 + 16 + 4 * trials) + n / LRN_KMEANS_BLOCK * 8 + d * k * 36 + k * 32 + d * 32;
}

static mr_code
train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
	  const lrn_target *t, lrn_report *report, uint8_t **file, size_t *len, mr_status *st)
{
	size_t		d = (size_t) m->cols,
				k = (size_t) p->n_clusters,
				kd = k * d,
				rows = ((size_t) m->rows + LRN_LANES - 1) / LRN_LANES * LRN_LANES;
	lrn_kmeans_run r = {.env = env, .kernels = lrn_kernels_for(LRN_ISA_AUTO), .n = m->rows,
		.d = m->cols, .k = p->n_clusters, .kp = (p->n_clusters + 7) & ~7, .st = st,
	.trials = lrn_kmeans_trials(p->n_clusters), .weight = t ? t->weight : NULL};
	size_t		vectors = 3 + ((size_t) r.trials + 3) / 4 * 4 + (r.weight != NULL);
	float	   *floats = NULL;
	int32_t    *labels = NULL;
	double	   *doubles = NULL,
			   *mean,
			   *scale,
				unit = 1,
				variance = 0,
				least = INFINITY;
	mr_code		code = MR_OK;

	r.x = mr_alloc(env, rows * d * sizeof(float));
	floats = mr_alloc(env, (rows * vectors + (d + 1) * (size_t) r.kp) * sizeof(float));
	labels = mr_alloc(env, rows * 2 * sizeof(int32_t));
	doubles = mr_alloc(env, (4 * kd + 3 * k + 2 * d + rows / LRN_KMEANS_BLOCK + 1) * sizeof(double));
	if (r.x == NULL || floats == NULL || labels == NULL || doubles == NULL)
	{
		code = lrn_out_of_memory(st);
		goto done;
	}
	r.packed = floats;			/* first: aligned */
	r.half_norm = r.packed + d * (size_t) r.kp;
	r.score = r.half_norm + r.kp;
	r.closest = r.score + rows;
	r.trial = r.closest + rows;
	r.label = labels;
	r.next = labels + rows;
	r.centre = doubles;
	r.best = r.centre + kd;
	r.sum = r.best + kd;
	r.moved_sum = r.sum + kd;
	r.mass = r.moved_sum + kd;
	r.moved_mass = r.mass + k;
	r.rows_in = (int64_t *) (r.moved_mass + k);
	mean = r.moved_mass + 2 * k;
	scale = mean + d;
	r.blocks = scale + d;

	code = measure(&r, p, m, mean, scale, &variance, &unit);
	if (code == MR_OK)
	{
		memset(r.x + (rows - LRN_LANES) * d, 0, LRN_LANES * d * sizeof(float));
		code = copy_rows(&r, m, mean, scale, unit, r.weight ? floats + rows * (vectors - 1) + (d + 1) * (size_t) r.kp : NULL);
	}
	if (code)
		goto done;
	if (r.n < r.k)
	{
		code = mr_fail(st, MR_INVALID, "there are fewer rows than clusters");
		mr_detail(st, "%lld rows cannot make %d clusters.", (long long) r.n, r.k);
		mr_hint(st, "Lower \"n_clusters\".");
		goto done;
	}
	r.groups = (r.n + LRN_LANES - 1) / LRN_LANES;
	for (int start = 0; start < p->n_init && code == MR_OK; start++)
	{
		double		inertia;
		int			iterations;
		bool		converged;

		lrn_rng_seed(&r.rng, p->random_state, (uint64_t) start);
		code = one_start(&r, p, p->tol * variance * unit * unit, start, &inertia, &iterations, &converged);
		if (code || !(inertia < least))
			continue;
		least = inertia;
		memcpy(r.best, r.centre, kd * sizeof(double));
		report->iterations = iterations;
		report->converged = converged;
		report->loss = inertia / unit / unit;
	}
	if (code)
		goto done;
	for (size_t i = 0; i < kd; i++)
		r.best[i] /= unit;
	report->outputs = r.k;
	report->memory = lrn_train_memory(p, m->rows, m->cols, 0);
	code = lrn_kmeans_write(env, m->cols, r.k, mean, scale, r.best, file, len, st);
done:
	mr_free(env, r.x);
	mr_free(env, floats);
	mr_free(env, labels);
	mr_free(env, doubles);
	return code;
}

static const lrn_param parameters[] =
{
	LRN_PARAM_RANDOM_STATE,
	LRN_PARAM(n_clusters, INT, .init = 8, .low = 1, .high = LRN_MAX_CLASSES),
	LRN_PARAM(n_init, INT, .init = 1, .low = 1, .high = 1000),
	LRN_PARAM(max_iter, INT, .init = 300, .low = 1, .high = 1000000),
	LRN_PARAM(tol, REAL, .init = 1e-4),
	LRN_PARAM(standardize, BOOL),
	LRN_PARAM_END
};

const lrn_learner lrn_kmeans = {
	.algorithm = LRN_KMEANS,
	.name = "kmeans",
	.tasks = LRN_CAN(LRN_CLUSTER),
	.takes = LRN_TAKES_WEIGHTS,
	.params = parameters,
	.memory = memory_needed,
	.train = train,
	.sane = lrn_kmeans_sane,
	.check = lrn_kmeans_check,
	.compile = lrn_kmeans_compile,
	.open = lrn_kmeans_open,
	.export = lrn_kmeans_export,
	.row_ns = lrn_linear_row_ns,
	.predict = lrn_kmeans_predict,
};
