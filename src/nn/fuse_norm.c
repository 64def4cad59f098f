/*
 * fuse_norm.c
 *	  Activations and normalisations that exporters write out in small operators.
 *
 *	x * 1/2 * (1 + erf(x / sqrt 2))	-> GELU
 *	x * 1/2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))	-> GELU by tanh
 *	x * sigmoid(1.702 x), x * sigmoid(x)	-> quick GELU, SiLU
 *	d / sqrt(mean(d^2) + eps), d = x - mean(x)	-> LayerNormalization; d = x: RMSNorm
 *
 * Products may be nested in any order: they are taken apart into factors.
 */
#include <math.h>
#include <string.h>

#include "nn/fuse.h"
#include "nn/onnx.h"

#define MAX_FACTORS 6
#define MAX_DEPTH 4

/* Is n one of the operators run by this function, that member of a family? */
static bool
is_op(const nn_node *n, mr_code (*run) (nn_run_call *c), int arg)
{
	return n && n->op->run == run && n->op->arg == arg && n->act.kind == nn_act_none;
}

static bool
is_binary(const nn_node *n, int which)
{
	return is_op(n, nn_run_binary, which) && n->n_in == 2;
}

/* ---- products ---- */

typedef struct factors
{
	float		number;			/* product of the constant ones */
	int			n;
	int			v[MAX_FACTORS];
} factors;

/* Take v apart: Mul, Div by a number, Pow with a small whole exponent. */
static bool
collect(const nn_graph *g, int v, int depth, factors *f)
{
	/* what others read too is a factor of its own: x, say */
	bool		open = depth == MAX_DEPTH || (depth > 0 && g->values[v].uses == 1);
	const nn_node *n = open ? nn_producer(g, v) : NULL;
	float		c;

	if (nn_const_number(g, v, &c))
	{
		f->number *= c;
		return true;
	}
	if (is_binary(n, nn_mul))
		return collect(g, n->in[0], depth - 1, f) && collect(g, n->in[1], depth - 1, f);
	if (is_binary(n, nn_div) && nn_const_number(g, n->in[1], &c))
	{
		f->number /= c;
		return collect(g, n->in[0], depth - 1, f);
	}
	if (is_op(n, nn_run_pow, nn_binary_pow) && nn_const_number(g, n->in[1], &c) && (c == 2 || c == 3))
	{
		for (int i = 0; i < (int) c; i++)
			if (!collect(g, n->in[0], depth - 1, f))
				return false;
		return true;
	}
	if (f->n == MAX_FACTORS)
		return false;
	f->v[f->n++] = v;
	return true;
}

static bool
factors_of(const nn_graph *g, int v, factors *f)
{
	f->number = 1;
	f->n = 0;
	return collect(g, v, MAX_DEPTH, f);
}

static bool
about(float a, float b)
{
	return fabsf(a - b) <= 1e-4f * fabsf(b);
}

/* Is v = number * x^n? */
static bool
is_power(const nn_graph *g, int v, float number, int x, int n)
{
	factors		f;

	if (!factors_of(g, v, &f) || f.n != n || !about(f.number, number))
		return false;
	for (int i = 0; i < n; i++)
		if (f.v[i] != x)
			return false;
	return true;
}

/* Is v = a + number?  Then *a. */
static bool
plus_number(const nn_graph *g, int v, float number, int *a)
{
	const nn_node *n = nn_producer(g, v);

	for (int k = 0; is_binary(n, nn_add) && k < 2; k++)
		if (nn_is_number(g, n->in[k], number))
		{
			*a = n->in[!k];
			return true;
		}
	return false;
}

/* Is v the argument of the tanh in x's GELU? */
static bool
is_tanh_argument(const nn_graph *g, int v, int x)
{
	factors		f;
	int			inner;

	if (!factors_of(g, v, &f) || !about(f.number, 0.79788456f))
		return false;
	if (f.n == 1)
	{
		const nn_node *n = nn_producer(g, f.v[0]);

		for (int k = 0; is_binary(n, nn_add) && k < 2; k++)
			if (n->in[k] == x && is_power(g, n->in[!k], 0.044715f, x, 3))
				return true;
	}
	for (int k = 0; f.n == 2 && k < 2; k++)
		if (f.v[k] == x && plus_number(g, f.v[!k], 1, &inner) && is_power(g, inner, 0.044715f, x, 2))
			return true;
	return false;
}

static void
make_activation(nn_node *n, int x, nn_act_kind kind)
{
	bool		known;

	n->op = nn_find_op("", "Relu", NN_MAX_OPSET, &known);	/* the family's table line; the kind is a parameter */
	memset(&n->params, 0, sizeof(n->params));
	n->params.i[0] = kind;
	n->in[0] = x;
	n->n_in = 1;
}

/* number * x * gate, gate a function of x alone */
static void
fuse_gate(nn_graph *g, nn_node *n)
{
	factors		f;

	if (g->values[n->out[0]].dtype != nn_float32 || !factors_of(g, n->out[0], &f) || f.n != 2)
		return;
	for (int k = 0; k < 2; k++)
	{
		int			x = f.v[k];
		const nn_node *gate = nn_producer(g, f.v[!k]);
		int			inner;

		if (!nn_shape_equal(&g->values[x].shape, &g->values[n->out[0]].shape))
			continue;
		if (about(f.number, 0.5f) && plus_number(g, f.v[!k], 1, &inner))
		{
			const nn_node *e = nn_producer(g, inner);

			if (is_op(e, nn_run_unary, nn_unary_erf) && is_power(g, e->in[0], 0.70710678f, x, 1))
				make_activation(n, x, nn_act_gelu);
			else if (is_op(e, nn_run_activation, nn_act_tanh) && is_tanh_argument(g, e->in[0], x))
				make_activation(n, x, nn_act_gelu_tanh);
			else
				continue;
			return;
		}
		if (f.number == 1 && is_op(gate, nn_run_activation, nn_act_sigmoid))
		{
			if (gate->in[0] == x)
				make_activation(n, x, nn_act_silu);
			else if (is_power(g, gate->in[0], 1.702f, x, 1))
				make_activation(n, x, nn_act_gelu_quick);
			else
				continue;
			return;
		}
	}
}

/* ---- normalisations ---- */

/* Is v the mean of x over its last dimension, which stays as 1? */
static bool
is_mean(const nn_graph *g, int v, int *x)
{
	const nn_node *n = nn_producer(g, v);
	int			rank;

	if (!is_op(n, nn_run_reduce, nn_reduce_mean))
		return false;
	*x = n->in[0];
	rank = g->values[*x].shape.rank;
	return rank > 0 && n->params.i[0] == 1 << (rank - 1) && g->values[v].shape.rank == rank;
}

/* Is v = sqrt(mean(d^2) + eps)? */
static bool
is_deviation(const nn_graph *g, int v, int *d, float *eps)
{
	const nn_node *root = nn_producer(g, v);
	const nn_node *sum;
	factors		f;
	int			square;

	if (!is_op(root, nn_run_unary, nn_unary_sqrt) &&
		!(is_op(root, nn_run_pow, nn_binary_pow) && nn_is_number(g, root->in[1], 0.5f)))
		return false;
	sum = nn_producer(g, root->in[0]);
	for (int k = 0; is_binary(sum, nn_add) && k < 2; k++)
		if (nn_const_number(g, sum->in[k], eps) && is_mean(g, sum->in[!k], &square) &&
			factors_of(g, square, &f) && f.number == 1 && f.n == 2)
		{
			const nn_node *a = nn_producer(g, f.v[0]),
					   *b = nn_producer(g, f.v[1]);

			*d = f.v[0];
			/* some write the difference twice */
			return f.v[0] == f.v[1] ||
				(is_binary(a, nn_sub) && is_binary(b, nn_sub) && a->in[0] == b->in[0] && a->in[1] == b->in[1]);
		}
	return false;
}

/* d / deviation: n becomes a LayerNormalization with a scale of ones. */
static mr_code
fuse_norm(nn_graph *g, nn_node *n, bool *done)
{
	const nn_node *by = nn_producer(g, n->in[1]),
			   *sub;
	nn_shape	row = {1, {0}};
	int			d,
				x,
				mean,
				of = n->in[0],
				dev = -1,
				scale;
	float		eps;
	float	   *ones;
	bool		rms;
	bool		known;

	if (is_binary(n, nn_div))
		dev = n->in[1];
	for (int k = 0; is_binary(n, nn_mul) && k < 2; k++)
	{
		by = nn_producer(g, n->in[k]);
		if (is_op(by, nn_run_unary, nn_unary_reciprocal))
			dev = by->in[0];
		else if (is_binary(by, nn_div) && nn_is_number(g, by->in[0], 1))
			dev = by->in[1];
		else
			continue;
		of = n->in[!k];
		break;
	}
	if (dev < 0 || !is_deviation(g, dev, &d, &eps))
		return MR_OK;
	sub = nn_producer(g, of);
	x = of;
	rms = true;
	if (is_binary(sub, nn_sub) && is_mean(g, sub->in[1], &mean) && mean == sub->in[0])
	{
		const nn_node *other = nn_producer(g, d);

		if (d != of && !(is_binary(other, nn_sub) && other->in[0] == sub->in[0] && other->in[1] == sub->in[1]) &&
			!(is_binary(other, nn_sub) && other->in[0] == sub->in[0] && is_mean(g, other->in[1], &x) && x == sub->in[0]))
			return MR_OK;
		x = sub->in[0];
		rms = false;
	}
	else if (d != of)
		return MR_OK;
	if (g->values[x].shape.rank < 1 || !nn_shape_equal(&g->values[x].shape, &g->values[n->out[0]].shape))
		return MR_OK;
	row.dims[0] = g->values[x].shape.dims[g->values[x].shape.rank - 1];
	scale = nn_add_constant(g, &row, &ones);
	if (scale < 0)
		return g->st->code;
	for (int64_t i = 0; i < row.dims[0]; i++)
		ones[i] = 1;
	memset(&n->params, 0, sizeof(n->params));
	n->op = nn_find_op("", "LayerNormalization", NN_MAX_OPSET, &known);
	n->params.i[nn_n_width] = row.dims[0];
	n->params.i[nn_n_rows] = row.dims[0] ? g->values[x].elements / row.dims[0] : 0;
	n->params.i[nn_n_rms] = rms;
	n->params.i[nn_n_bare] = 1;
	n->params.f[0] = eps;
	n->in[0] = x;
	n->in[1] = scale;
	n->n_in = 2;
	*done = true;
	return MR_OK;
}

/* A scale, then a shift by constant rows after a normalisation of our making. */
static bool
fuse_norm_affine(nn_graph *g, nn_node *n)
{
	for (int k = 0; n->n_in == 2 && k < 2; k++)
	{
		nn_node    *norm = nn_sole_producer(g, n->in[k]);
		const nn_value *c = &g->values[n->in[!k]];
		bool		add = n->params.i[0] == nn_add;
		int		   *in;

		if (norm == NULL || norm->op->kind != nn_kind_layernorm || norm->params.i[nn_n_bare] == 0 ||
			c->data == NULL || c->dtype != nn_float32 || c->elements != norm->params.i[nn_n_width] ||
			c->shape.rank < 1 || c->shape.dims[c->shape.rank - 1] != c->elements ||
			!nn_shape_equal(&g->values[norm->in[0]].shape, &g->values[n->out[0]].shape))
			continue;
		if (!add && norm->params.i[nn_n_bare] == 1)
		{
			norm->in[1] = n->in[!k];
			norm->params.i[nn_n_bare] = 2;
		}
		else if (add)
		{
			in = nn_heap_alloc(g->heap, 3, sizeof(int));
			if (in == NULL)
				return false;
			in[0] = norm->in[0];
			in[1] = norm->in[1];
			in[2] = n->in[!k];
			norm->in = in;
			norm->n_in = 3;
			norm->params.i[nn_n_bare] = 0;
		}
		else
			continue;
		nn_take_output(g, norm, n);
		return true;
	}
	return false;
}

mr_code
nn_fuse_norm(nn_graph *g)
{
	for (int i = 0; i < g->n_nodes; i++)
	{
		nn_node    *n = &g->nodes[i];
		bool		done = false;

		if (n->dead || (!is_binary(n, nn_mul) && !is_binary(n, nn_div) && !is_binary(n, nn_add)))
			continue;
		if ((i & 63) == 63 && mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		if (n->params.i[0] != nn_add)
			NN_TRY(fuse_norm(g, n, &done));
		if (!done && n->params.i[0] != nn_div)
			done = fuse_norm_affine(g, n);
		if (!done && n->params.i[0] == nn_mul)
			fuse_gate(g, n);
	}
	nn_sweep(g);
	return MR_OK;
}
