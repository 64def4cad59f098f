/*
 * fuse_quant.c
 *	  Quantised graphs: from operators on 8 bits to float values kept as 8 bits.
 *
 * A graph says QuantizeLinear, DequantizeLinear around each float operator (QDQ),
 * or has operators that do all at once (QLinearConv, QLinearMatMul).  Both become
 * the float graph that is meant, in which some values are "stored": rounded to
 * 8 bits wherever they are kept (nn_value.stored), and constants remember the int8
 * they were made of (nn_value.int8).  All other passes then see plain
 * convolutions, sums and activations; the planner takes kernels for int8 where
 * both sides are so, and converts elsewhere (plan_low.c).
 *
 * DynamicQuantizeLinear, MatMulInteger, Cast, Mul becomes a MatMul that rounds its
 * input by the range it finds (nn_node.dynamic).
 *
 * What is not recognised stays as it is: plain operators, exact.
 */
#include <math.h>
#include <string.h>

#include "nn/fuse.h"
#include "nn/lower.h"
#include "nn/onnx.h"

typedef struct quant_pass
{
	nn_graph   *g;
	int			n_values;		/* before new ones came */
	bool	   *ok;				/* by value of 8 bits: all its readers are understood */
	int		   *real;			/* by such a value: the float value it stands for, -1 */
	int		   *name;			/* by value: what it is called now */
	nn_stored  *agreed;			/* by float value: what all its readers round it to, scale 0: they differ */
} quant_pass;

/* ---- constants ---- */

static const nn_value *
constant(const nn_graph *g, const nn_node *n, int k)
{
	const nn_value *v = k < n->n_in && n->in[k] >= 0 ? &g->values[n->in[k]] : NULL;

	return v && v->data ? v : NULL;
}

static int
integer_at(const nn_value *v, int64_t i)
{
	return v->dtype == nn_int8 ? ((const int8_t *) v->data)[i] : ((const uint8_t *) v->data)[i];
}

static bool
is_8bit(const nn_value *v)
{
	return v->dtype == nn_uint8 || v->dtype == nn_int8;
}

/* Scale at input k and zero point behind it, as numbers for uint8; false if they
 * are not one constant each. */
static bool
read_pair(const nn_graph *g, const nn_node *n, int k, int dtype, nn_stored *out)
{
	const nn_value *scale = constant(g, n, k),
			   *zero = constant(g, n, k + 1);
	bool		has_zero = k + 1 < n->n_in && n->in[k + 1] >= 0;

	if (scale == NULL || scale->dtype != nn_float32 || scale->elements != 1 ||
		(has_zero && (zero == NULL || zero->elements != 1 || zero->dtype != dtype)) ||
		(dtype != nn_uint8 && dtype != nn_int8))
		return false;
	out->scale = *(const float *) scale->data;
	out->zero = (has_zero ? integer_at(zero, 0) : 0) + (dtype == nn_int8 ? 128 : 0);
	return isfinite(out->scale) && out->scale > 0;
}

static bool
same_stored(const nn_stored *a, const nn_stored *b)
{
	return a->scale == b->scale && a->zero == b->zero;
}

/*
 * The int8 behind constant weights w with scales and zero points: as they are, or
 * less their zero points where that fits.  NULL: no (rc tells a failure).
 */
static const nn_int8_weights *
int8_weights(nn_graph *g, const nn_value *w, const nn_value *scale, const nn_value *zero, int axis)
{
	nn_int8_weights *o;
	int64_t		inner = 1;
	int8_t	   *q;

	if (!w || !scale || !is_8bit(w) || scale->dtype != nn_float32 || scale->shape.rank > 1 || axis < 0 ||
		axis >= w->shape.rank || (scale->elements != 1 && scale->elements != w->shape.dims[axis]) ||
		(zero && (zero->elements != 1 && zero->elements != scale->elements)))
		return NULL;
	o = nn_heap_alloc(g->heap, 1, sizeof(*o));
	q = nn_heap_alloc(g->heap, (size_t) w->elements + 1, 1);
	if (o == NULL || q == NULL)
		return NULL;
	for (int i = axis + 1; i < w->shape.rank; i++)
		inner *= w->shape.dims[i];
	for (int64_t i = 0; i < w->elements; i++)
	{
		int64_t		c = i / inner % w->shape.dims[axis];
		int			v = integer_at(w, i) - (zero ? integer_at(zero, zero->elements == 1 ? 0 : c) : 0);

		if (v < -128 || v > 127)
			return NULL;
		q[i] = (int8_t) v;
	}
	o->q = q;
	o->scale = scale->data;
	o->n_scales = scale->elements;
	o->axis = axis;
	return o;
}

/* The float32 constant that int8 weights stand for, with its origin. */
static int
dequantized(nn_graph *g, const nn_shape *shape, const nn_int8_weights *o)
{
	float	   *data;
	int			i = nn_add_constant(g, shape, &data);
	int64_t		inner = 1;

	if (i < 0)
		return -1;
	for (int k = o->axis + 1; k < shape->rank; k++)
		inner *= shape->dims[k];
	for (int64_t e = 0; e < g->values[i].elements; e++)
		data[e] = (float) o->q[e] * o->scale[o->n_scales == 1 ? 0 : e / inner % shape->dims[o->axis]];
	g->values[i].int8 = o;
	return i;
}

/* DequantizeLinear of constants was folded: remember what the result was. */
static void
remember_origins(nn_graph *g)
{
	for (int i = 0; i < g->n_nodes; i++)
	{
		const nn_node *n = &g->nodes[i];
		const nn_attr *axis;
		nn_value   *y;
		int64_t		a;

		if (n->dead || n->op->run != nn_run_dequantize || n->out[0] < 0 || !constant(g, n, 0))
			continue;
		y = &g->values[n->out[0]];
		axis = nn_find_attr(n, "axis");
		a = axis ? axis->i : 1;
		if (nn_find_attr(n, "block_size") && nn_find_attr(n, "block_size")->i)
			continue;
		a = a < 0 ? a + y->shape.rank : a;
		if (constant(g, n, 1) && constant(g, n, 1)->elements == 1)
			a = 0;
		if (y->data && y->shape.rank > 0)
			y->int8 = int8_weights(g, constant(g, n, 0), constant(g, n, 1), constant(g, n, 2), (int) a);
	}
}

/* ---- which values of 8 bits are understood ---- */

static bool
is_qlinear(const nn_node *n)
{
	return n->op->run == nn_run_qlinear_conv || n->op->run == nn_run_qlinear_matmul;
}

/* The quantisation that node n says of its first input and of its output. */
static bool
said_of_input(const nn_graph *g, const nn_node *n, nn_stored *s)
{
	return read_pair(g, n, 1, g->values[n->in[0]].dtype, s);
}

static bool
said_of_output(const nn_graph *g, const nn_node *n, nn_stored *s)
{
	return read_pair(g, n, n->op->run == nn_run_quantize ? 1 : 6, g->values[n->out[0]].dtype, s);
}

/* Can a QLinear operator become a float one with int8 weights? */
static bool
qlinear_fits(const nn_graph *g, const nn_node *n)
{
	const nn_value *w = constant(g, n, 3),
			   *scale = constant(g, n, 4);

	return w && scale && scale->shape.rank <= 1 && constant(g, n, 5) &&
		(n->n_in < 9 || n->in[8] < 0 || constant(g, n, 8)) &&
		(n->op->run == nn_run_qlinear_conv || w->shape.rank == 2);
}

/* A value is stored itself if nothing reads it but quantisations that agree. */
static nn_stored *
find_agreed(nn_graph *g)
{
	nn_stored  *is = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(nn_stored));
	bool	   *seen = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(bool));

	for (int i = 0; is && seen && i < g->n_nodes; i++)
	{
		const nn_node *n = &g->nodes[i];

		for (int k = 0; k < n->n_in && !n->dead; k++)
		{
			int			v = n->in[k];
			nn_stored	s = {0, 0};

			if (v < 0)
				continue;
			if (n->op->run != nn_run_quantize || k != 0 || n->out[0] < 0 || g->values[v].data ||
				g->values[v].dtype != nn_float32 || nn_is_output(g, v) || !said_of_output(g, n, &s))
				s.scale = 0;
			if (seen[v] && !same_stored(&s, &is[v]))
				s.scale = 0;
			is[v] = s;
			seen[v] = true;
		}
	}
	return seen ? is : NULL;
}

static mr_code
find_understood(quant_pass *p)
{
	nn_graph   *g = p->g;
	nn_stored  *is = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(nn_stored));
	bool		changed = true;

	if (is == NULL)
		return g->st->code;
	/* made by an operator that says how */
	for (int i = 0; i < g->n_nodes; i++)
	{
		const nn_node *n = &g->nodes[i];

		if (!n->dead && n->out[0] >= 0 && !g->values[n->out[0]].data && !nn_is_output(g, n->out[0]) &&
			(n->op->run == nn_run_quantize || (is_qlinear(n) && qlinear_fits(g, n))))
			p->ok[n->out[0]] = said_of_output(g, n, &is[n->out[0]]) &&
				(n->op->run != nn_run_quantize || (g->values[n->in[0]].dtype == nn_float32 && !g->values[n->in[0]].data));
	}
	/* read by operators that say the same */
	while (changed)
	{
		if (mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled while compiling a model");
		changed = false;
		for (int i = 0; i < g->n_nodes; i++)
		{
			const nn_node *n = &g->nodes[i];
			bool		fine;

			for (int k = 0; k < n->n_in && !n->dead; k++)
			{
				int			v = n->in[k];
				nn_stored	s;

				if (v < 0 || !p->ok[v])
					continue;
				fine = k == 0 && (n->op->run == nn_run_dequantize || (is_qlinear(n) && p->ok[n->out[0]])) &&
					said_of_input(g, n, &s) && same_stored(&s, &is[v]);
				if (!fine)
				{
					p->ok[v] = false;
					changed = true;
				}
			}
			if (!n->dead && is_qlinear(n) && n->out[0] >= 0 && p->ok[n->out[0]] && (n->in[0] < 0 || !p->ok[n->in[0]]))
			{
				p->ok[n->out[0]] = false;
				changed = true;
			}
		}
	}
	return MR_OK;
}

/* ---- rewriting ---- */

static mr_code
store(nn_graph *g, int value, const nn_stored *s)
{
	nn_stored  *copy = nn_heap_alloc(g->heap, 1, sizeof(nn_stored));

	if (copy == NULL)
		return g->st->code;
	*copy = *s;
	g->values[value].stored = copy;
	return MR_OK;
}

static mr_code
become(nn_graph *g, nn_node *n, const char *op)
{
	bool		known;
	const nn_op *to = nn_find_op("", op, n->opset, &known);

	if (to == NULL)
		return nn_node_fail(g, n, MR_INTERNAL, "no operator %s", op);
	n->op = to;
	n->op_type = to->name;
	return MR_OK;
}

/* A float32 value like another, made by node n. */
static int
value_like(nn_graph *g, int other, const nn_node *n)
{
	pb_bytes	nameless = {NULL, 0};
	int			i = nn_add_value(g, nameless);
	nn_value   *v;

	if (i < 0)
		return -1;
	v = &g->values[i];
	v->shape = g->values[other].shape;
	v->elements = g->values[other].elements;
	v->dtype = v->declared = nn_float32;
	v->producer = (int) (n - g->nodes);
	return i;
}

/* QLinearConv or QLinearMatMul to Conv or MatMul between float values. */
static mr_code
rewrite_qlinear(quant_pass *p, nn_node *n)
{
	nn_graph   *g = p->g;
	bool		conv = n->op->run == nn_run_qlinear_conv;
	nn_shape	ws = g->values[n->in[3]].shape;
	const nn_int8_weights *o = int8_weights(g, &g->values[n->in[3]], &g->values[n->in[4]], &g->values[n->in[5]],
											conv ? 0 : ws.rank - 1);
	nn_stored	y,
				x;
	int			w,
				out,
				bias = -1;
	int		   *in = nn_heap_alloc(g->heap, 3, sizeof(int));

	said_of_output(g, n, &y);
	said_of_input(g, n, &x);
	if (in == NULL || g->st->code == MR_NOMEM)
		return g->st->code;
	if (o == NULL)
	{
		/* weights less their zero points need 9 bits: float32 ones */
		float	   *data;
		const nn_value *q,
				   *scale,
				   *zero;
		int64_t		inner = 1,
					channels = ws.dims[conv ? 0 : 1];

		if ((w = nn_add_constant(g, &ws, &data)) < 0)
			return g->st->code;
		q = &g->values[n->in[3]];
		scale = &g->values[n->in[4]];
		zero = &g->values[n->in[5]];
		for (int k = 1; conv && k < ws.rank; k++)
			inner *= ws.dims[k];
		for (int64_t i = 0; i < q->elements; i++)
		{
			int64_t		c = i / inner % channels;

			data[i] = (float) (integer_at(q, i) - integer_at(zero, zero->elements == 1 ? 0 : c)) *
				((const float *) scale->data)[scale->elements == 1 ? 0 : c];
		}
	}
	else if ((w = dequantized(g, &ws, o)) < 0)
		return g->st->code;
	if (conv && n->n_in > 8 && n->in[8] >= 0)
	{
		nn_shape	bs = g->values[n->in[8]].shape;
		const nn_value *scale,
				   *b;
		float	   *data;

		if ((bias = nn_add_constant(g, &bs, &data)) < 0)
			return g->st->code;
		scale = &g->values[n->in[4]];
		b = &g->values[n->in[8]];
		for (int64_t i = 0; i < b->elements; i++)
			data[i] = (float) ((double) ((const int32_t *) b->data)[i] * x.scale *
							   ((const float *) scale->data)[scale->elements == 1 ? 0 : i]);
	}
	if ((out = value_like(g, n->out[0], n)) < 0)
		return g->st->code;
	NN_TRY(store(g, out, &y));
	in[0] = p->real[n->in[0]];
	in[1] = w;
	in[2] = bias;
	p->real[n->out[0]] = out;
	n->in = in;
	n->n_in = bias >= 0 ? 3 : 2;
	n->out[0] = out;
	return become(g, n, conv ? "Conv" : "MatMul");
}

/* What is quantised is stored; if others read it as it was, a copy is. */
static mr_code
rewrite_quantize(quant_pass *p, nn_node *n)
{
	nn_graph   *g = p->g;
	int			x = n->in[0];
	nn_stored	s;

	said_of_output(g, n, &s);
	if (x < p->n_values && p->agreed[x].scale > 0)
		n->dead = true;
	else
	{
		int			copy = value_like(g, x, n);

		if (copy < 0)
			return g->st->code;
		p->real[n->out[0]] = copy;
		n->out[0] = copy;
		n->n_in = 1;
		NN_TRY(become(g, n, "Identity"));
		return store(g, copy, &s);
	}
	p->real[n->out[0]] = x;
	return store(g, x, &s);
}

static mr_code
rewrite(quant_pass *p)
{
	nn_graph   *g = p->g;

	for (int i = 0; i < g->n_nodes; i++)
	{
		nn_node    *n = &g->nodes[i];
		int			x8;

		for (int k = 0; k < n->n_in; k++)
			if (n->in[k] >= 0 && n->in[k] < p->n_values)
				n->in[k] = p->name[n->in[k]];
		if (n->dead || n->n_in == 0 || n->out[0] < 0)
			continue;
		x8 = n->in[0];
		if (n->op->run == nn_run_quantize && p->ok[n->out[0]])
			NN_TRY(rewrite_quantize(p, n));
		else if (n->op->run == nn_run_dequantize && x8 >= 0 && x8 < p->n_values && p->ok[x8])
		{
			if (nn_is_output(g, n->out[0]))
			{
				n->in[0] = p->real[x8];
				n->n_in = 1;
				NN_TRY(become(g, n, "Identity"));
				continue;
			}
			p->name[n->out[0]] = p->real[x8];
			n->dead = true;
		}
		else if (is_qlinear(n) && p->ok[n->out[0]])
			NN_TRY(rewrite_qlinear(p, n));
	}
	return MR_OK;
}

/* ---- dynamic quantisation ---- */

/* The only node that reads v; reader: by value, the last of them. */
static nn_node *
sole_reader(nn_graph *g, const int *reader, int v)
{
	return v >= 0 && g->values[v].uses == 1 && !nn_is_output(g, v) ? &g->nodes[reader[v]] : NULL;
}

static nn_node *
producer(nn_graph *g, int v)
{
	return v >= 0 && g->values[v].producer >= 0 ? &g->nodes[g->values[v].producer] : NULL;
}

static bool
is_mul(const nn_node *n)
{
	return n->op->kind == nn_kind_binary && n->n_in == 2 && n->params.i[0] == nn_mul;
}

/* DynamicQuantizeLinear(x) -> MatMulInteger(W) -> Cast -> Mul(x's scale * W's scale). */
static mr_code
fuse_dynamic(nn_graph *g, const int *reader, nn_node *m)
{
	nn_node    *dyn = producer(g, m->in[0]);
	nn_node    *cast = sole_reader(g, reader, m->out[0]),
			   *mul,
			   *scales;
	const nn_value *w = constant(g, m, 1),
			   *zero = constant(g, m, 3),
			   *scale;
	const nn_int8_weights *o;
	nn_shape	ws;
	int		   *in;
	int			by,
				value;

	if (!dyn || dyn->op->run != nn_run_dynamic_quantize || m->in[0] != dyn->out[0] || m->n_in < 3 || dyn->n_out < 3 ||
		m->in[2] != dyn->out[2] || !w || w->shape.rank != 2 || (m->n_in > 3 && m->in[3] >= 0 && !zero) ||
		!cast || cast->op->infer != nn_infer_cast || g->values[cast->out[0]].dtype != nn_float32)
		return MR_OK;
	mul = sole_reader(g, reader, cast->out[0]);
	if (!mul || !is_mul(mul))
		return MR_OK;
	scales = producer(g, mul->in[mul->in[0] == cast->out[0] ? 1 : 0]);
	if (!scales || !is_mul(scales))
		return MR_OK;
	by = scales->in[0] == dyn->out[1] ? 1 : scales->in[1] == dyn->out[1] ? 0 : -1;
	scale = by < 0 ? NULL : constant(g, scales, by);
	if (scale == NULL || g->values[mul->out[0]].elements != g->values[m->out[0]].elements)
		return MR_OK;
	ws = w->shape;
	o = int8_weights(g, w, scale, zero, 1);
	if (o == NULL)
		return MR_OK;
	in = nn_heap_alloc(g->heap, 2, sizeof(int));
	value = dequantized(g, &ws, o);
	if (in == NULL || value < 0)
		return g->st->code;
	in[0] = dyn->in[0];
	in[1] = value;
	mul->in = in;
	mul->n_in = 2;
	mul->dynamic = true;
	memset(&mul->params, 0, sizeof(mul->params));
	m->dead = cast->dead = true;
	return become(g, mul, "MatMul");
}

static mr_code
fuse_dynamics(nn_graph *g)
{
	int		   *reader = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(int));

	if (reader == NULL)
		return g->st->code;
	for (int i = 0; i < g->n_nodes; i++)
		for (int k = 0; k < g->nodes[i].n_in && !g->nodes[i].dead; k++)
			if (g->nodes[i].in[k] >= 0)
				reader[g->nodes[i].in[k]] = i;
	for (int i = 0; i < g->n_nodes; i++)
		if (!g->nodes[i].dead && g->nodes[i].op->run == nn_run_matmul_integer)
			NN_TRY(fuse_dynamic(g, reader, &g->nodes[i]));
	return MR_OK;
}

bool
nn_may_skip(const nn_graph *g, int value)
{
	return g->values[value].stored == NULL;
}

bool
nn_conv_is_int8(const nn_graph *g, const nn_node *n)
{
	const nn_int8_weights *o = g->values[n->in[1]].int8;

	return nn_conv_lowers(g, n) && g->values[n->in[0]].stored && o && (o->n_scales == 1 || o->axis == 0) &&
		n->params.i[nn_w_groups] == 1;
}

mr_code
nn_fuse_quant(nn_graph *g)
{
	quant_pass	p = {.g = g,.n_values = g->n_values};
	size_t		n = (size_t) g->n_values + 1;
	bool		any = false;

	for (int i = 0; i < g->n_nodes; i++)
		any = any || g->nodes[i].op->run == nn_run_quantize || g->nodes[i].op->run == nn_run_dequantize ||
			g->nodes[i].op->run == nn_run_dynamic_quantize;
	if (!any)
		return MR_OK;
	p.ok = nn_heap_alloc(g->heap, n, sizeof(bool));
	p.real = nn_heap_alloc(g->heap, n, sizeof(int));
	p.name = nn_heap_alloc(g->heap, n, sizeof(int));
	p.agreed = find_agreed(g);
	if (!p.ok || !p.real || !p.name || !p.agreed)
		return g->st->code;
	for (int i = 0; i < g->n_values; i++)
	{
		p.real[i] = -1;
		p.name[i] = i;
	}
	nn_count_uses(g);
	remember_origins(g);
	NN_TRY(find_understood(&p));
	NN_TRY(rewrite(&p));
	nn_count_uses(g);
	return fuse_dynamics(g);
}
