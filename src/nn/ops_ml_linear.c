/*
 * ops_ml_linear.c
 *	  ai.onnx.ml: linear models and support vector machines.
 *
 * Attached to a node (ops_ml.h): its numbers as floats, and its labels.  What
 * the specification leaves open (which of two classes, when no label fits) is
 * done as ONNX Runtime does it.
 */
#include <math.h>
#include <string.h>

#include "nn/ops_ml.h"

#define MAX_CLASSES 64			/* of a support vector machine: pairs lie on the stack */
#define MAX_PAIRS (MAX_CLASSES * (MAX_CLASSES - 1) / 2)	/* more than MAX_CLASSES */

static float
dot(const nn_tensor *x, int64_t row, const float *w, int64_t n)
{
	float		sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += nn_ml_number(x, row * n + i) * w[i];
	return sum;
}

/* ---- LinearRegressor, LinearClassifier ----
 *
 * Attached: coefficients (targets x columns), intercepts (targets); labels.
 */
enum
{
	l_columns, l_targets, l_post, l_two
};

static mr_code
infer_linear(nn_infer_call *c, int64_t *rows, bool attached)
{
	int64_t    *p = c->p->i;
	const float *w,
			   *b;
	int			n_w,
				n_b;
	void	   *data;

	NN_TRY(nn_ml_table(c, rows, &p[l_columns]));
	NN_TRY(nn_ml_get_post(c, &p[l_post]));
	NN_TRY(nn_ml_floats(c, "coefficients", &w, &n_w));
	NN_TRY(nn_ml_floats(c, "intercepts", &b, &n_b));
	if (p[l_targets] < 1 || p[l_targets] > n_w || n_w != p[l_targets] * p[l_columns] || (n_b && n_b != p[l_targets]))
		return nn_infer_fail(c, MR_INVALID, "%d coefficients and %d intercepts do not fit %lld targets of %lld columns", n_w, n_b,
							 (long long) p[l_targets], (long long) p[l_columns]);
	if (attached)
		return MR_OK;
	NN_TRY(nn_ml_attach(c, nn_float32, n_w + p[l_targets], &data));
	memcpy(data, w, (size_t) n_w * sizeof(float));
	if (n_b)
		memcpy((float *) data + n_w, b, (size_t) n_b * sizeof(float));
	return MR_OK;
}

mr_code
nn_infer_ml_linear_regressor(nn_infer_call *c)
{
	nn_shape	s = {2, {0}};
	bool		attached;

	NN_TRY(nn_get_int(c, "targets", 1, &c->p->i[l_targets]));
	NN_TRY(nn_ml_attached(c, 1, &attached));
	NN_TRY(infer_linear(c, &s.dims[0], attached));
	s.dims[1] = c->p->i[l_targets];
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_infer_ml_linear_classifier(nn_infer_call *c)
{
	nn_shape	s = {2, {0}};
	const float *b;
	int			targets,
				labels;
	bool		attached;

	NN_TRY(nn_ml_floats(c, "intercepts", &b, &targets));
	c->p->i[l_targets] = targets;
	NN_TRY(nn_ml_attached(c, 1, &attached));
	NN_TRY(infer_linear(c, &s.dims[0], attached));
	if (attached)
		labels = (int) nn_in(c, 2)->elements;
	else
		NN_TRY(nn_ml_attach_labels(c, "classlabels_ints", &labels));
	c->p->i[l_two] = targets == 1 && labels == 2;
	if (targets > 1 && labels != targets)
		return nn_infer_fail(c, MR_INVALID, "%d labels for %d targets", labels, targets);
	s.dims[1] = c->p->i[l_two] ? 2 : targets;
	NN_TRY(nn_set_out(c, 1, nn_float32, &s));
	s.rank = 1;
	return nn_set_out(c, 0, nn_int64, &s);
}

static float
linear_score(const nn_run_call *c, int64_t row, int64_t target)
{
	const int64_t *p = c->p->i;
	const float *w = c->in[1].data;

	return dot(&c->in[0], row, w + target * p[l_columns], p[l_columns]) + w[p[l_targets] * p[l_columns] + target];
}

mr_code
nn_run_ml_linear_regressor(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	float	   *y = c->out[0].data;

	for (int64_t r = 0; r < c->out[0].shape.dims[0]; r++, y += p[l_targets])
	{
		if (mr_interrupted(c->env))
			return MR_CANCELED;
		for (int64_t t = 0; t < p[l_targets]; t++)
			y[t] = linear_score(c, r, t);
		/* softmax of one score would say nothing */
		if (p[l_targets] > 1 || p[l_post] == nn_ml_probit || p[l_post] == nn_ml_logistic)
			nn_ml_transform(y, p[l_targets], (nn_ml_post) p[l_post]);
	}
	return MR_OK;
}

mr_code
nn_run_ml_linear_classifier(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	const int64_t *labels = c->in[2].data;
	int64_t    *label = c->out[0].data;
	int64_t		wide = p[l_two] ? 2 : p[l_targets];
	float	   *z = c->n_out > 1 ? c->out[1].data : NULL;

	for (int64_t r = 0; r < c->in[0].elements / p[l_columns]; r++)
	{
		int64_t		best = 0;
		float		top = 0;

		if (mr_interrupted(c->env))
			return MR_CANCELED;
		for (int64_t t = 0; t < p[l_targets]; t++)
		{
			float		s = linear_score(c, r, t);

			best = t == 0 || s > top ? t : best;
			top = best == t ? s : top;
			if (z)
				z[r * wide + t] = s;
		}
		if (p[l_targets] == 1)
			best = top > 0;
		if (label)
			label[r] = p[l_targets] == 1 && !p[l_two] ? best : labels[best];
		if (z && p[l_two])
			nn_ml_two_classes(z + r * wide, false, (nn_ml_post) p[l_post]);
		else if (z && wide > 1)
			nn_ml_transform(z + r * wide, wide, (nn_ml_post) p[l_post]);
	}
	return MR_OK;
}

/* ---- SVMRegressor, SVMClassifier ----
 *
 * Attached: coefficients, support vectors, rho, prob_a, prob_b as floats; labels;
 * support vectors per class.  f = gamma, coef0, degree.
 */
enum
{
	s_columns, s_vectors, s_kernel, s_post, s_classes, s_positive, s_coefficients, s_rho, s_prob, s_one_class
};

enum
{
	kernel_linear, kernel_poly, kernel_rbf, kernel_sigmoid
};

static float
kernel(const nn_run_call *c, int64_t row, const float *w)
{
	int64_t		n = c->p->i[s_columns];
	const float *f = c->p->f;
	float		sum = 0;

	if (c->p->i[s_kernel] == kernel_rbf)
	{
		for (int64_t i = 0; i < n; i++)
		{
			float		d = nn_ml_number(&c->in[0], row * n + i) - w[i];

			sum += d * d;
		}
		return expf(-f[0] * sum);
	}
	sum = dot(&c->in[0], row, w, n);
	switch (c->p->i[s_kernel])
	{
		case kernel_poly:
			return powf(f[0] * sum + f[1], f[2]);
		case kernel_sigmoid:
			return tanhf(f[0] * sum + f[1]);
	}
	return sum;
}

/* Reads what both have in common and attaches the floats. */
static mr_code
infer_svm(nn_infer_call *c, int64_t *rows, bool attached)
{
	static const char *const kernels[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
	static const char *const lists[] = {"coefficients", "support_vectors", "rho", "prob_a", "prob_b"};
	int64_t    *p = c->p->i;
	const float *list[5],
			   *params;
	int			n[5],
				n_params;
	int64_t		at = 0,
				classes = p[s_classes],
				pairs = classes * (classes - 1) / 2;
	char		name[32];
	void	   *data;

	NN_TRY(nn_ml_table(c, rows, &p[s_columns]));
	NN_TRY(nn_ml_get_post(c, &p[s_post]));
	if (!nn_get_string(c, "kernel_type", "LINEAR", name))
		return nn_infer_fail(c, MR_INVALID, "unknown kernel_type");
	while (p[s_kernel] <= kernel_sigmoid && strcmp(name, kernels[p[s_kernel]]) != 0)
		p[s_kernel]++;
	NN_TRY(nn_ml_floats(c, "kernel_params", &params, &n_params));
	for (int i = 0; i < 3; i++)
		c->p->f[i] = i < n_params ? params[i] : 0;
	for (int i = 0; i < 5; i++)
		NN_TRY(nn_ml_floats(c, lists[i], &list[i], &n[i]));
	if (p[s_kernel] > kernel_sigmoid || n_params > 3)
		return nn_infer_fail(c, MR_INVALID, "unknown kernel_type or kernel_params");
	if (p[s_vectors] == 0)
		p[s_kernel] = kernel_linear;
	/* the regressor is one sum; the classifier a sum a pair, or without vectors a sum a class */
	if (p[s_vectors] < 0 || p[s_vectors] > NN_MAX_DIM || n[1] != p[s_vectors] * p[s_columns] ||
		n[0] < (p[s_vectors] ? p[s_vectors] * (classes ? classes - 1 : 1) : p[s_columns] * (classes ? classes : 1)) ||
		n[2] < (classes && p[s_vectors] ? pairs : 1) || n[3] != n[4] || (n[3] && n[3] < pairs))
		return nn_infer_fail(c, MR_INVALID, "coefficients, support vectors, rho and prob do not fit the input's %lld columns",
							 (long long) p[s_columns]);
	p[s_coefficients] = 0;
	p[s_rho] = (int64_t) n[0] + n[1];
	p[s_prob] = n[3] ? p[s_rho] + n[2] : 0;
	p[s_positive] = 1;
	for (int i = 0; i < n[0]; i++)
		p[s_positive] = p[s_positive] && list[0][i] >= 0;
	if (attached)
		return MR_OK;
	NN_TRY(nn_ml_attach(c, nn_float32, (int64_t) n[0] + n[1] + n[2] + (n[3] ? 2 * pairs : 0), &data));
	for (int i = 0; i < 5; i++)
	{
		int64_t		count = i < 3 ? n[i] : n[i] ? pairs : 0;

		if (count)
			memcpy((float *) data + at, list[i], (size_t) count * sizeof(float));
		at += count;
	}
	return MR_OK;
}

mr_code
nn_infer_ml_svm_regressor(nn_infer_call *c)
{
	nn_shape	s = {2, {0, 1}};
	bool		attached;

	NN_TRY(nn_get_int(c, "n_supports", 0, &c->p->i[s_vectors]));
	NN_TRY(nn_get_int(c, "one_class", 0, &c->p->i[s_one_class]));
	NN_TRY(nn_ml_attached(c, 1, &attached));
	NN_TRY(infer_svm(c, &s.dims[0], attached));
	return nn_set_out(c, 0, nn_float32, &s);
}

mr_code
nn_run_ml_svm_regressor(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	const float *w = c->in[1].data;
	const float *vectors = w + p[s_rho] - p[s_vectors] * p[s_columns];
	float	   *y = c->out[0].data;

	for (int64_t r = 0; r < c->out[0].elements; r++)
	{
		float		sum = w[p[s_rho]];

		if (p[s_vectors] == 0)
			sum += dot(&c->in[0], r, w, p[s_columns]);
		for (int64_t v = 0; v < p[s_vectors]; v++)
		{
			if (v % (NN_STOP_WORK / 64 / p[s_columns] + 1) == 0 && mr_interrupted(c->env))
				return MR_CANCELED;
			sum += w[v] * kernel(c, r, vectors + v * p[s_columns]);
		}
		y[r] = !p[s_one_class] ? sum : sum > 0 ? 1 : -1;
	}
	return MR_OK;
}

mr_code
nn_infer_ml_svm_classifier(nn_infer_call *c)
{
	int64_t    *p = c->p->i;
	nn_shape	s = {2, {0}};
	const int64_t *per_class,
			   *ints;
	const pb_bytes *strings;
	int			n_per_class,
				n_ints,
				n_strings;
	bool		attached;
	void	   *data;

	NN_TRY(nn_ml_ints(c, "vectors_per_class", &per_class, &n_per_class));
	NN_TRY(nn_ml_ints(c, "classlabels_ints", &ints, &n_ints));
	NN_TRY(nn_ml_strings(c, "classlabels_strings", &strings, &n_strings));
	for (int i = 0; i < n_per_class; i++)
	{
		if (per_class[i] < 0 || per_class[i] > NN_MAX_DIM || p[s_vectors] > NN_MAX_DIM)
			return nn_infer_fail(c, MR_INVALID, "bad vectors_per_class");
		p[s_vectors] += per_class[i];
	}
	p[s_classes] = n_strings ? n_strings : n_ints;
	if (p[s_classes] < 2 || p[s_classes] > MAX_CLASSES || (p[s_vectors] && n_per_class != p[s_classes]))
		return nn_infer_fail(c, MR_UNSUPPORTED, "%lld classes; 2 to %d are supported", (long long) p[s_classes], MAX_CLASSES);
	NN_TRY(nn_ml_attached(c, 1, &attached));
	NN_TRY(infer_svm(c, &s.dims[0], attached));
	if (!attached)
	{
		NN_TRY(nn_ml_attach_labels(c, "classlabels_ints", &n_ints));
		NN_TRY(nn_ml_attach(c, nn_int64, p[s_classes], &data));
		if (p[s_vectors])
			memcpy(data, per_class, (size_t) n_per_class * sizeof(int64_t));
	}
	s.dims[1] = p[s_classes];
	if (p[s_vectors] && !p[s_prob] && p[s_classes] > 2)
		s.dims[1] = p[s_classes] * (p[s_classes] - 1) / 2;
	NN_TRY(nn_set_out(c, 1, nn_float32, &s));
	s.rank = 1;
	return nn_set_out(c, 0, nn_int64, &s);
}

/* Decisions of all pairs of classes (i < j in order), and who wins how many. */
static mr_code
decide_pairs(nn_run_call *c, int64_t row, float *decision, int *votes)
{
	const int64_t *p = c->p->i;
	const int64_t *per_class = c->in[3].data;
	const float *w = c->in[1].data;
	const float *vectors = w + p[s_rho] - p[s_vectors] * p[s_columns];
	double		sum[MAX_PAIRS] = {0};
	int64_t		classes = p[s_classes],
				v = 0;

	for (int64_t i = 0; i < classes; i++)
		for (int64_t n = 0; n < per_class[i] && v < p[s_vectors]; n++, v++)
		{
			float		k = kernel(c, row, vectors + v * p[s_columns]);

			if (v % (NN_STOP_WORK / 64 / p[s_columns] + 1) == 0 && mr_interrupted(c->env))
				return MR_CANCELED;
			/* a vector of class i has a coefficient against each other class */
			for (int64_t j = 0; j < classes; j++)
			{
				int64_t		a = i < j ? i : j,
							b = i < j ? j : i;

				if (i != j)
					sum[a * classes - a * (a + 1) / 2 + b - a - 1] += w[(i < j ? j - 1 : j) * p[s_vectors] + v] * k;
			}
		}
	for (int64_t i = 0, q = 0; i < classes - 1; i++)
		for (int64_t j = i + 1; j < classes; j++, q++)
		{
			sum[q] += w[p[s_rho] + q];
			decision[q] = (float) sum[q];
			votes[sum[q] > 0 ? i : j]++;
		}
	return MR_OK;
}

/* Probabilities of the classes from those of pairs: Wu, Lin, Weng (2004), the
 * second method, as libsvm has it. */
static void
couple(int64_t n, const float *r, float *prob)
{
	float		q[MAX_CLASSES][MAX_CLASSES] = {{0}};
	float		qp[MAX_CLASSES];
	const float eps = 0.005f / (float) n;

	for (int64_t i = 0; i < n; i++)
	{
		prob[i] = 1 / (float) n;
		for (int64_t j = 0; j < n; j++)
			if (i != j)
			{
				q[i][i] += r[j * n + i] * r[j * n + i];
				q[i][j] = -r[j * n + i] * r[i * n + j];
			}
	}
	for (int round = 0; round < 100; round++)
	{
		float		pqp = 0,
					error = 0;

		for (int64_t i = 0; i < n; i++)
		{
			qp[i] = 0;
			for (int64_t j = 0; j < n; j++)
				qp[i] += q[i][j] * prob[j];
			pqp += prob[i] * qp[i];
		}
		for (int64_t i = 0; i < n; i++)
			error = fmaxf(error, fabsf(qp[i] - pqp));
		if (error < eps)
			return;
		for (int64_t i = 0; i < n; i++)
		{
			float		d = (pqp - qp[i]) / q[i][i];

			prob[i] += d;
			pqp = (pqp + d * (d * q[i][i] + 2 * qp[i])) / (1 + d) / (1 + d);
			for (int64_t j = 0; j < n; j++)
			{
				qp[j] = (qp[j] + d * q[i][j]) / (1 + d);
				prob[j] /= 1 + d;
			}
		}
	}
}

static void
pair_probabilities(const nn_run_call *c, const float *decision, float *prob)
{
	int64_t		n = c->p->i[s_classes];
	const float *a = (const float *) c->in[1].data + c->p->i[s_prob];
	const float *b = a + n * (n - 1) / 2;
	float		r[MAX_CLASSES * MAX_CLASSES] = {0};

	for (int64_t i = 0, q = 0; i < n - 1; i++)
		for (int64_t j = i + 1; j < n; j++, q++)
		{
			float		one = 1 - nn_ml_logistic_of(decision[q] * a[q] + b[q]);

			one = fminf(fmaxf(one, 1e-7f), 1 - 1e-7f);
			r[i * n + j] = one;
			r[j * n + i] = 1 - one;
		}
	couple(n, r, prob);
}

mr_code
nn_run_ml_svm_classifier(nn_run_call *c)
{
	const int64_t *p = c->p->i;
	const int64_t *labels = c->in[2].data;
	const float *w = c->in[1].data;
	int64_t    *label = c->out[0].data;
	int64_t		classes = p[s_classes],
				pairs = classes * (classes - 1) / 2;
	nn_ml_post	post = (nn_ml_post) p[s_post];

	for (int64_t r = 0; r < c->in[0].elements / p[s_columns]; r++)
	{
		float		decision[MAX_PAIRS],
					score[MAX_PAIRS];
		float		top = 0;
		int			votes[MAX_CLASSES] = {0};
		int64_t		wide = classes,
					best = 0;

		if (p[s_vectors] == 0)
		{
			for (int64_t i = 0; i < classes; i++)
			{
				score[i] = dot(&c->in[0], r, w + i * p[s_columns], p[s_columns]) + w[p[s_rho]];
				best = score[i] > score[best] ? i : best;
			}
			top = score[best];
		}
		else
		{
			NN_TRY(decide_pairs(c, r, decision, votes));
			for (int64_t i = 1; i < classes; i++)
				best = votes[i] > votes[best] ? i : best;
			if (p[s_prob])
				pair_probabilities(c, decision, score);
			else
			{
				wide = pairs;
				memcpy(score, decision, (size_t) pairs * sizeof(float));
			}
		}
		if (classes == 2 && !p[s_prob] && (p[s_positive] ? top >= 0.5f : top > 0))
			best = 1;
		if (label)
			label[r] = labels[best];
		if (c->n_out < 2 || c->out[1].data == NULL)
			continue;
		if (wide == 1)
			nn_ml_two_classes(score, post == nn_ml_none, post);
		else
			nn_ml_transform(score, wide, post);
		wide = wide == 1 ? 2 : wide;
		memcpy((float *) c->out[1].data + r * wide, score, (size_t) wide * sizeof(float));
	}
	return MR_OK;
}
