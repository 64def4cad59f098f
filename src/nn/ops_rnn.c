/*
 * ops_rnn.c
 *	  RNN, GRU and LSTM: both directions, both layouts, any activations, peepholes,
 *	  sequence lengths.
 *
 * Step by step, sequence by sequence: the gates of one step are sums of W x + R h
 * + biases, rows of W and R being contiguous.  The state lives in the outputs Y_h
 * and Y_c; these and one more output, the gates of a step, are added to the node
 * if the model omits them, so that the planner finds their memory.
 */
#include <math.h>

#include "nn/ops_util.h"

enum cell
{
	cell_rnn, cell_gru, cell_lstm	/* op->arg */
};

enum rnn_param
{
	r_layout, r_hidden, r_directions, r_reverse, r_before_reset, r_coupled,
	r_function = 8,				/* 6: function of each gate, of both directions */
	r_alpha_beta = 16			/* 6: two floats each */
};
/* f[0]: clip, 0: none */

enum function
{
	f_sigmoid, f_tanh, f_relu, f_affine, f_leaky, f_thresholded, f_scaled_tanh, f_hard_sigmoid, f_elu, f_softsign,
	f_softplus
};

static const struct
{
	const char *name;
	float		alpha,
				beta;
}			functions[] = {
	{"sigmoid", 0, 0}, {"tanh", 0, 0}, {"relu", 0, 0}, {"affine", 1, 0}, {"leakyrelu", 0.01f, 0},
	{"thresholdedrelu", 1, 0}, {"scaledtanh", 1, 1}, {"hardsigmoid", 0.2f, 0.5f}, {"elu", 1, 0},
	{"softsign", 0, 0}, {"softplus", 0, 0}
};

static const int gates_of[] = {1, 3, 4};	/* rows of W in units of the hidden size */
static const int functions_of[] = {1, 2, 3};

static bool
same_name(const char *lower, pb_bytes s)
{
	for (size_t i = 0; i < s.len; i++)
		if (lower[i] == '\0' || lower[i] != (s.p[i] | 0x20))
			return false;
	return lower[s.len] == '\0';
}

/* Functions of all directions, with their alphas and betas in order of use. */
static mr_code
read_functions(nn_infer_call *c, int cell, int directions)
{
	static const int defaults[3][3] = {{f_tanh}, {f_sigmoid, f_tanh}, {f_sigmoid, f_tanh, f_tanh}};
	const nn_attr *names = nn_find_attr(c->n, "activations");
	const nn_attr *alphas = nn_find_attr(c->n, "activation_alpha");
	const nn_attr *betas = nn_find_attr(c->n, "activation_beta");
	int			n = functions_of[cell];

	if ((names && (names->type != nn_attr_strings || names->n != n * directions)) ||
		(alphas && alphas->type != nn_attr_floats) || (betas && betas->type != nn_attr_floats))
		return nn_infer_fail(c, MR_INVALID, "attribute activations must be %d names", n * directions);
	for (int i = 0; i < n * directions; i++)
	{
		int			f = defaults[cell][i % n];
		float		ab[2];

		if (names)
			for (f = 0; f <= f_softplus && !same_name(functions[f].name, names->strings[i]);)
				f++;
		if (f > f_softplus)
			return nn_infer_fail(c, MR_UNSUPPORTED, "activation %d is not supported", i);
		ab[0] = alphas && i < alphas->n ? alphas->floats[i] : functions[f].alpha;
		ab[1] = betas && i < betas->n ? betas->floats[i] : functions[f].beta;
		c->p->i[r_function + i] = f;
		memcpy(&c->p->i[r_alpha_beta + i], ab, sizeof(ab));
	}
	return MR_OK;
}

static mr_code
check_input(nn_infer_call *c, int k, int rank, int64_t d0, int64_t d1, int64_t d2)
{
	const nn_value *v = nn_in(c, k);

	if (v && (v->shape.rank != rank || v->shape.dims[0] != d0 || v->shape.dims[1] != d1 ||
			  (rank > 2 && v->shape.dims[2] != d2)))
		return nn_infer_fail(c, MR_INVALID, "input %d does not have the shape that the others ask for", k);
	return MR_OK;
}

mr_code
nn_infer_rnn(nn_infer_call *c)
{
	static const char *const directions[] = {"forward", "reverse", "bidirectional"};
	int			cell = c->n->op->arg;
	int			g = gates_of[cell];
	int64_t    *p = c->p->i;
	int			direction = nn_get_choice(c, "direction", "forward", 3, directions);
	int64_t		hidden,
				steps,
				batch;
	nn_shape	x,
				s;

	NN_TRY(nn_need_outputs(c, cell == cell_lstm ? 4 : 3));
	x = nn_in(c, 0)->shape;
	for (int k = 0; k < c->n_in; k++)
		NN_TRY(k == 4 ? nn_need_index(c, k) : nn_need_float(c, k));
	if (direction < 0)
		return nn_infer_fail(c, MR_INVALID, "bad direction");
	NN_TRY(nn_get_int(c, "layout", 0, &p[r_layout]));
	NN_TRY(nn_get_int(c, "linear_before_reset", 0, &p[r_before_reset]));
	NN_TRY(nn_get_int(c, "input_forget", 0, &p[r_coupled]));
	NN_TRY(nn_get_float(c, "clip", 0, &c->p->f[0]));
	p[r_directions] = direction == 2 ? 2 : 1;
	p[r_reverse] = direction == 1;
	NN_TRY(read_functions(c, cell, (int) p[r_directions]));
	if (x.rank != 3 || nn_in(c, 2)->shape.rank != 3 || (p[r_layout] != 0 && p[r_layout] != 1))
		return nn_infer_fail(c, MR_INVALID, "input of %d dimensions", x.rank);
	hidden = nn_in(c, 2)->shape.dims[2];
	NN_TRY(nn_get_int(c, "hidden_size", hidden, &p[r_hidden]));
	steps = x.dims[p[r_layout] ? 1 : 0];
	batch = x.dims[p[r_layout] ? 0 : 1];
	if (hidden < 1 || hidden > 1 << 20 || p[r_hidden] != hidden)
		return nn_infer_fail(c, MR_INVALID, "hidden_size %lld for %lld columns", (long long) p[r_hidden], (long long) hidden);
	NN_TRY(check_input(c, 1, 3, p[r_directions], g * hidden, x.dims[2]));
	NN_TRY(check_input(c, 2, 3, p[r_directions], g * hidden, hidden));
	NN_TRY(check_input(c, 3, 2, p[r_directions], 2 * g * hidden, 0));
	if (nn_in(c, 4) && (nn_in(c, 4)->shape.rank != 1 || nn_in(c, 4)->elements != batch))
		return nn_infer_fail(c, MR_INVALID, "%lld lengths for %lld sequences", (long long) nn_in(c, 4)->elements,
							 (long long) batch);
	for (int k = 5; k <= 6; k++)
		NN_TRY(check_input(c, k, 3, p[r_layout] ? batch : p[r_directions], p[r_layout] ? p[r_directions] : batch, hidden));
	NN_TRY(check_input(c, 7, 2, p[r_directions], 3 * hidden, 0));

	s = (nn_shape) {4, {steps, p[r_directions], batch, hidden}};
	if (p[r_layout])
		s = (nn_shape) {4, {batch, steps, p[r_directions], hidden}};
	NN_TRY(nn_set_out(c, 0, nn_float32, &s));
	s = (nn_shape) {3, {p[r_directions], batch, hidden}};
	if (p[r_layout])
		s = (nn_shape) {3, {batch, p[r_directions], hidden}};
	NN_TRY(nn_set_out(c, 1, nn_float32, &s));
	if (cell == cell_lstm)
		NN_TRY(nn_set_out(c, 2, nn_float32, &s));
	s = (nn_shape) {1, {(g + 2) * hidden}};
	return nn_set_out(c, cell == cell_lstm ? 3 : 2, nn_float32, &s);
}

/* ---- run ---- */

typedef float vec4 __attribute__((vector_size(16)));

static inline float
dot(const float *a, const float *b, int64_t n)
{
	vec4		sum[4] = {{0}, {0}, {0}, {0}};
	float		s = 0;
	int64_t		i = 0;

	for (; i + 16 <= n; i += 16)
		for (int k = 0; k < 4; k++)
		{
			vec4		x,
						y;

			memcpy(&x, a + i + 4 * k, sizeof(x));
			memcpy(&y, b + i + 4 * k, sizeof(y));
			sum[k] += x * y;
		}
	sum[0] += sum[1] + sum[2] + sum[3];
	for (; i < n; i++)
		s += a[i] * b[i];
	return s + sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3];
}

static inline float
apply(int64_t f, float a, float b, float x)
{
	switch (f)
	{
		case f_sigmoid:
			return 1 / (1 + expf(-x));
		case f_tanh:
			return tanhf(x);
		case f_relu:
			return x > 0 ? x : 0;
		case f_affine:
			return a * x + b;
		case f_leaky:
			return x < 0 ? a * x : x;
		case f_thresholded:
			return x > a ? x : 0;
		case f_scaled_tanh:
			return a * tanhf(b * x);
		case f_hard_sigmoid:
			return fminf(1, fmaxf(0, a * x + b));
		case f_elu:
			return x < 0 ? a * expm1f(x) : x;
		case f_softsign:
			return x / (1 + fabsf(x));
		case f_softplus:
			return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x));
	}
	return x;
}

/* One direction at work. */
typedef struct pass
{
	nn_run_call *c;
	int			direction;
	int64_t		hidden,
				inputs;
	const float *w,
			   *r,
			   *bw,				/* biases of W and of R, or NULL */
			   *br,
			   *peep;			/* input, output, forget, or NULL */
	float	   *gates;			/* all gates of a step, then two rows more */
	float		clip;
	int64_t		work;
} pass;

/* Gate function k of this direction over n values, clipped before if asked. */
static void
activate(const pass *p, int k, float *v, int64_t n, float clip)
{
	int			at = p->direction * functions_of[p->c->op->arg] + k;
	int64_t		f = p->c->p->i[r_function + at];
	float		ab[2];

	memcpy(ab, &p->c->p->i[r_alpha_beta + at], sizeof(ab));
	for (int64_t i = 0; i < n; i++)
	{
		float		x = v[i];

		if (clip > 0)
			x = x < -clip ? -clip : x > clip ? clip : x;
		v[i] = apply(f, ab[0], ab[1], x);
	}
}

/* out[from .. to) = m v + bias (+ out if more) */
static mr_code
rows(pass *p, const float *m, const float *v, int64_t n, const float *bias, int64_t from, int64_t to, float *out, bool more)
{
	for (int64_t i = from; i < to; i++)
	{
		if (nn_stop(p->c, &p->work, n / 2 + 1))
			return MR_CANCELED;
		out[i] = (more ? out[i] : 0) + dot(m + i * n, v, n) + (bias ? bias[i] : 0);
	}
	return MR_OK;
}

static mr_code
step_rnn(pass *p, const float *x, float *h)
{
	int64_t		n = p->hidden;

	NN_TRY(rows(p, p->w, x, p->inputs, p->bw, 0, n, p->gates, false));
	NN_TRY(rows(p, p->r, h, n, p->br, 0, n, p->gates, true));
	activate(p, 0, p->gates, n, p->clip);
	memcpy(h, p->gates, (size_t) n * sizeof(float));
	return MR_OK;
}

/* Gates in order: update, reset, hidden. */
static mr_code
step_gru(pass *p, const float *x, float *h)
{
	int64_t		n = p->hidden;
	float	   *g = p->gates,
			   *z = g,
			   *r = g + n,
			   *y = g + 2 * n,
			   *t = g + 3 * n;	/* r * h; or, before the reset, at t + n, R h */

	NN_TRY(rows(p, p->w, x, p->inputs, p->bw, 0, 3 * n, g, false));
	NN_TRY(rows(p, p->r, h, n, p->br, 0, 2 * n, g, true));
	activate(p, 0, g, 2 * n, p->clip);
	if (p->c->p->i[r_before_reset])
	{
		/* rows() counts from the first gate: t - 2 n is where gate 2 lands on t */
		NN_TRY(rows(p, p->r, h, n, p->br, 2 * n, 3 * n, t - 2 * n, false));
		for (int64_t i = 0; i < n; i++)
			y[i] += r[i] * t[i];
	}
	else
	{
		for (int64_t i = 0; i < n; i++)
			t[i] = r[i] * h[i];
		NN_TRY(rows(p, p->r, t, n, p->br, 2 * n, 3 * n, g, true));
	}
	activate(p, 1, y, n, p->clip);
	for (int64_t i = 0; i < n; i++)
		h[i] = (1 - z[i]) * y[i] + z[i] * h[i];
	return MR_OK;
}

/* Gates in order: input, output, forget, cell. */
static mr_code
step_lstm(pass *p, const float *x, float *h, float *s)
{
	int64_t		n = p->hidden;
	float	   *i = p->gates,
			   *o = i + n,
			   *f = i + 2 * n,
			   *g = i + 3 * n;

	NN_TRY(rows(p, p->w, x, p->inputs, p->bw, 0, 4 * n, i, false));
	NN_TRY(rows(p, p->r, h, n, p->br, 0, 4 * n, i, true));
	for (int64_t k = 0; p->peep && k < n; k++)
	{
		i[k] += p->peep[k] * s[k];
		f[k] += p->peep[2 * n + k] * s[k];
	}
	activate(p, 0, i, n, p->clip);
	if (p->c->p->i[r_coupled])
		for (int64_t k = 0; k < n; k++)
			f[k] = 1 - i[k];
	else
		activate(p, 0, f, n, p->clip);
	activate(p, 1, g, n, p->clip);
	for (int64_t k = 0; k < n; k++)
		s[k] = f[k] * s[k] + i[k] * g[k];
	for (int64_t k = 0; p->peep && k < n; k++)
		o[k] += p->peep[n + k] * s[k];
	activate(p, 0, o, n, p->clip);
	memcpy(g, s, (size_t) n * sizeof(float));
	activate(p, 2, g, n, 0);
	for (int64_t k = 0; k < n; k++)
		h[k] = o[k] * g[k];
	return MR_OK;
}

/* One sequence in one direction. */
static mr_code
run_sequence(pass *p, int64_t b, int64_t batch, int64_t steps, int64_t len, float *h, float *s)
{
	nn_run_call *c = p->c;
	bool		by_batch = c->p->i[r_layout] != 0;
	int64_t		dirs = c->p->i[r_directions];
	bool		reverse = p->direction == 1 || c->p->i[r_reverse];

	for (int64_t k = 0; k < steps; k++)
	{
		int64_t		t = k >= len ? k : reverse ? len - 1 - k : k;
		const float *x = (const float *) c->in[0].data + (by_batch ? b * steps + t : t * batch + b) * p->inputs;
		float	   *y = (float *) c->out[0].data +
			(by_batch ? (b * steps + t) * dirs + p->direction : (t * dirs + p->direction) * batch + b) * p->hidden;
		if (k >= len)
		{
			memset(y, 0, (size_t) p->hidden * sizeof(float));
			continue;
		}
		if (c->op->arg == cell_rnn)
			NN_TRY(step_rnn(p, x, h));
		else if (c->op->arg == cell_gru)
			NN_TRY(step_gru(p, x, h));
		else
			NN_TRY(step_lstm(p, x, h, s));
		memcpy(y, h, (size_t) p->hidden * sizeof(float));
	}
	return MR_OK;
}

mr_code
nn_run_rnn(nn_run_call *c)
{
	const int64_t *q = c->p->i;
	int			cell = c->op->arg;
	int			g = gates_of[cell];
	bool		by_batch = q[r_layout] != 0;
	int64_t		hidden = q[r_hidden];
	int64_t		steps = c->in[0].shape.dims[by_batch ? 1 : 0];
	int64_t		batch = c->in[0].shape.dims[by_batch ? 0 : 1];
	int64_t		inputs = c->in[0].shape.dims[2];
	const float *bias = c->n_in > 3 ? c->in[3].data : NULL;
	const nn_tensor *lens = c->n_in > 4 && c->in[4].data ? &c->in[4] : NULL;
	const float *peep = c->n_in > 7 ? c->in[7].data : NULL;

	for (int k = 1; k <= (cell == cell_lstm ? 2 : 1); k++)
	{
		const float *start = c->n_in > 4 + k ? c->in[4 + k].data : NULL;
		size_t		bytes = (size_t) c->out[k].elements * sizeof(float);

		if (start)
			memcpy(c->out[k].data, start, bytes);
		else
			memset(c->out[k].data, 0, bytes);
	}
	for (int d = 0; d < q[r_directions]; d++)
	{
		pass		p = {.c = c,.direction = d,.hidden = hidden,.inputs = inputs,.clip = c->p->f[0]};

		p.w = (const float *) c->in[1].data + d * g * hidden * inputs;
		p.r = (const float *) c->in[2].data + d * g * hidden * hidden;
		p.bw = bias ? bias + d * 2 * g * hidden : NULL;
		p.br = bias ? p.bw + g * hidden : NULL;
		p.peep = peep ? peep + d * 3 * hidden : NULL;
		p.gates = c->out[cell == cell_lstm ? 3 : 2].data;
		for (int64_t b = 0; b < batch; b++)
		{
			int64_t		at = (by_batch ? b * q[r_directions] + d : d * batch + b) * hidden;
			int64_t		len = lens ? nn_index_at(lens, b) : steps;

			if (len < 0 || len > steps)
				return nn_bad_index(c, len, steps);
			NN_TRY(run_sequence(&p, b, batch, steps, len, (float *) c->out[1].data + at,
								cell == cell_lstm ? (float *) c->out[2].data + at : NULL));
		}
	}
	return MR_OK;
}
