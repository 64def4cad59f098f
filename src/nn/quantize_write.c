/*
 * quantize_write.c
 *	  The quantised network as an ONNX file with QuantizeLinear and DequantizeLinear.
 *
 * Nodes are written one by one from the lightly fused graph, in its order: BN is
 * in the convolutions already, all constants are folded.  A value of 8 bits is
 * followed by its Q-DQ pair, which its readers read; weights stand behind a DQ of
 * their own, one scale per output channel.  The operators are those of opset 13
 * (where scales per channel begin) or of the original, if that is newer.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/onnx_write.h"
#include "nn/quantize_impl.h"

#define MIN_OPSET 13

typedef struct writing
{
	nn_quantizer *q;
	nn_graph   *g;
	mr_onnx		w;
	nn_heap		heap;			/* names and weights on their way */
	bool	   *written;		/* by value: constants that are there */
	const nn_node *n;			/* at work */
	int			opset;
} writing;

/* ---- names ---- */

/* A name for something that comes with a value: "conv1.weight.scale".  Unique as
 * long as no value of the original has it; then with a number. */
static const char *
derived(writing *c, int value, const char *suffix)
{
	const char *base = c->g->values[value].name;
	size_t		room = strlen(base) + strlen(suffix) + 16;
	char	   *name = nn_heap_alloc(&c->heap, room, 1);

	if (name == NULL)
	{
		c->w.code = MR_NOMEM;
		return "";
	}
	for (int i = 0;; i++)
	{
		pb_bytes	bytes;

		if (i == 0)
			snprintf(name, room, "%s.%s", base[0] ? base : "value", suffix);
		else
			snprintf(name, room, "%s.%s%d", base[0] ? base : "value", suffix, i);
		bytes.p = (const uint8_t *) name;
		bytes.len = strlen(name);
		if (nn_find_value(c->g, bytes) < 0)
			return name;
	}
}

/* Constants made by folding have none of their own. */
static const char *
name_of(writing *c, int value)
{
	nn_value   *v = &c->g->values[value];

	if (v->name[0] == '\0')
	{
		pb_bytes	name;
		char		suffix[32];

		snprintf(suffix, sizeof(suffix), "c%d", value);
		name.p = (const uint8_t *) derived(c, value, suffix);
		name.len = strlen((const char *) name.p);
		v->name = nn_copy_string(c->g, name);	/* stays for the next build */
		if (v->name == NULL)
		{
			c->w.code = MR_NOMEM;
			v->name = "";
		}
	}
	return v->name;
}

/* ---- pieces ---- */

static void
put_tensor(writing *c, const char *name, int dtype, const nn_shape *shape, const void *data)
{
	int64_t		elements = 0;

	nn_shape_elements(shape, &elements);
	mr_onnx_tensor(&c->w, 5, name, dtype, shape->rank, shape->dims, data, (size_t) elements * nn_dtype_size(dtype));
}

static void
put_port(writing *c, uint32_t field, const nn_value *v)
{
	mr_onnx_port(&c->w, field, v->name, v->dtype, v->shape.rank, v->shape.dims, v->batch);
}

/* An attribute as it was read. */
static void
put_attr(writing *c, const nn_attr *a)
{
	size_t		at = mr_onnx_attr_begin(&c->w, a->name, a->type);

	switch (a->type)
	{
		case nn_attr_float:
			mr_onnx_float(&c->w, 2, a->f);
			break;
		case nn_attr_int:
			mr_onnx_int(&c->w, 3, a->i);
			break;
		case nn_attr_string:
			mr_onnx_bytes(&c->w, 4, a->s.p, a->s.len);
			break;
		case nn_attr_tensor:
			mr_onnx_bytes(&c->w, 5, a->s.p, a->s.len);
			break;
		case nn_attr_floats:
			for (int i = 0; i < a->n; i++)
				mr_onnx_float(&c->w, 7, a->floats[i]);
			break;
		case nn_attr_ints:
			for (int i = 0; i < a->n; i++)
				mr_onnx_int(&c->w, 8, a->ints[i]);
			break;
		default:
			break;
	}
	mr_onnx_end(&c->w, at);
}

static void
put_scalar(writing *c, const char *name, int dtype, const void *data)
{
	const nn_shape scalar = {0, {0}};

	put_tensor(c, name, dtype, &scalar, data);
}

static size_t
begin_node(writing *c, const char *op, const char *name)
{
	size_t		at = mr_onnx_begin(&c->w, 1);

	mr_onnx_text(&c->w, 4, op);
	if (name[0])
		mr_onnx_text(&c->w, 3, name);
	return at;
}

static void
put_pair(writing *c, int value)
{
	nn_quantizer *q = c->q;
	int			group = nn_quant_group(q, value);
	const char *x = name_of(c, value),
			   *scale = derived(c, value, "scale"),
			   *zero = derived(c, value, "zero"),
			   *x8 = derived(c, value, "q"),
			   *back = derived(c, value, "dq");
	uint8_t		z = (uint8_t) q->zero[group];
	size_t		at;

	put_scalar(c, scale, nn_float32, &q->scale[group]);
	put_scalar(c, zero, nn_uint8, &z);
	at = begin_node(c, "QuantizeLinear", x8);
	mr_onnx_text(&c->w, 1, x);
	mr_onnx_text(&c->w, 1, scale);
	mr_onnx_text(&c->w, 1, zero);
	mr_onnx_text(&c->w, 2, x8);
	mr_onnx_end(&c->w, at);
	at = begin_node(c, "DequantizeLinear", back);
	mr_onnx_text(&c->w, 1, x8);
	mr_onnx_text(&c->w, 1, scale);
	mr_onnx_text(&c->w, 1, zero);
	mr_onnx_text(&c->w, 2, back);
	mr_onnx_end(&c->w, at);
}

/* What a node reads for a value: a constant is written when first needed. */
static const char *
read_name(writing *c, int value)
{
	const nn_value *v;

	if (value < 0)
		return "";
	v = &c->g->values[value];
	if (v->data)
	{
		if (!c->written[value])
			put_tensor(c, name_of(c, value), v->dtype, &v->shape, v->data);
		c->written[value] = true;
		return name_of(c, value);
	}
	return c->q->value[value] ? derived(c, value, "dq") : name_of(c, value);
}

/* ---- weights ---- */

/* Weights seen as outer x channels x inner. */
typedef struct weights
{
	const float *data;
	nn_shape	shape;
	int			axis;			/* of the output channels */
	int64_t		outer,
				channels,
				inner;
	float		factor;			/* Gemm's alpha */
} weights;

static void
view_weights(weights *w, const nn_value *v, int axis, float factor)
{
	memset(w, 0, sizeof(*w));
	w->data = v->data;
	w->shape = v->shape;
	w->axis = axis;
	w->channels = v->shape.dims[axis];
	w->outer = w->inner = 1;
	for (int i = 0; i < axis; i++)
		w->outer *= v->shape.dims[i];
	for (int i = axis + 1; i < v->shape.rank; i++)
		w->inner *= v->shape.dims[i];
	w->factor = factor;
}

static mr_code
quantize_weights(writing *c, const weights *w, const float *bias, float x_scale, int8_t *out, float *scale)
{
	for (int64_t ch = 0; ch < w->channels; ch++)
	{
		float		most = 0;

		if ((ch & 63) == 0 && mr_interrupted(c->q->env))
			return mr_fail(c->g->st, MR_CANCELED, "canceled");
		for (int64_t o = 0; o < w->outer; o++)
			for (int64_t i = 0; i < w->inner; i++)
				most = fmaxf(most, fabsf(w->factor * w->data[(o * w->channels + ch) * w->inner + i]));
		if (!isfinite(most))
			return nn_node_fail(c->g, c->n, MR_INVALID, "the weights are not finite");
		scale[ch] = most > 1e-30f ? most / 127 : 1;
		/* the bias must fit 31 bits of x_scale * scale */
		if (bias && fabsf(bias[ch]) > x_scale * scale[ch] * 1e9f)
			scale[ch] = fabsf(bias[ch]) / (x_scale * 1e9f);
		for (int64_t o = 0; o < w->outer; o++)
			for (int64_t i = 0; i < w->inner; i++)
			{
				int64_t		at = (o * w->channels + ch) * w->inner + i;

				out[at] = (int8_t) lrintf(fminf(fmaxf(w->factor * w->data[at] / scale[ch], -127), 127));
			}
	}
	return MR_OK;
}

/* An int8 or int32 constant behind a DequantizeLinear; its output is `name`. */
static void
put_dequantized(writing *c, const char *name, const char *q, const char *scale_name, int dtype, const nn_shape *shape,
				const void *data, const float *scale, int64_t channels, int axis)
{
	nn_shape	vector = {1, {channels}};
	size_t		at;

	put_tensor(c, q, dtype, shape, data);
	put_tensor(c, scale_name, nn_float32, &vector, scale);
	at = begin_node(c, "DequantizeLinear", name);
	mr_onnx_text(&c->w, 1, q);
	mr_onnx_text(&c->w, 1, scale_name);
	mr_onnx_text(&c->w, 2, name);
	mr_onnx_attr_int(&c->w, "axis", axis);
	mr_onnx_end(&c->w, at);
}

/* Names of weights and bias as the layer reads them, written before it. */
static mr_code
put_weights(writing *c, const char **weight_name, const char **bias_name)
{
	nn_quantizer *q = c->q;
	const nn_node *n = c->n;
	bool		gemm = n->op->kind == nn_kind_gemm;
	const nn_value *b = n->n_in > 2 && n->in[2] >= 0 ? &c->g->values[n->in[2]] : NULL;
	int			y = n->out[0];
	float		x_scale = q->scale[nn_quant_group(q, n->in[0])];
	nn_shape	vector;
	weights		w;
	int8_t	   *w8;
	float	   *scale,
			   *bias = NULL;
	int32_t    *b32;

	view_weights(&w, &c->g->values[n->in[1]], n->op->kind == nn_kind_conv || (gemm && n->params.i[1]) ? 0 : 1,
				 gemm ? n->params.f[0] : 1);
	vector = (nn_shape) {1, {w.channels}};
	w8 = nn_heap_alloc(&c->heap, (size_t) (w.outer * w.channels * w.inner), 1);
	scale = nn_heap_alloc(&c->heap, (size_t) w.channels, sizeof(float));
	b32 = nn_heap_alloc(&c->heap, (size_t) w.channels, sizeof(int32_t));
	if (!w8 || !scale || !b32)
		return c->g->st->code;
	if (b)
	{
		bias = nn_heap_alloc(&c->heap, (size_t) w.channels, sizeof(float));
		if (bias == NULL)
			return c->g->st->code;
		for (int64_t i = 0; i < w.channels; i++)
			bias[i] = (gemm ? n->params.f[1] : 1) * ((const float *) b->data)[b->elements == 1 ? 0 : i];
	}
	NN_TRY(quantize_weights(c, &w, bias, x_scale, w8, scale));
	*weight_name = derived(c, y, "w.dq");
	put_dequantized(c, *weight_name, derived(c, y, "w"), derived(c, y, "w.scale"), nn_int8, &w.shape, w8, scale,
					w.channels, w.axis);
	*bias_name = "";
	if (bias == NULL)
		return MR_OK;
	for (int64_t i = 0; i < w.channels; i++)
	{
		scale[i] *= x_scale;
		b32[i] = (int32_t) lrintf(bias[i] / scale[i]);
	}
	*bias_name = derived(c, y, "b.dq");
	put_dequantized(c, *bias_name, derived(c, y, "b"), derived(c, y, "b.scale"), nn_int32, &vector, b32, scale,
					w.channels, 0);
	return MR_OK;
}

/* ---- nodes ---- */

/* Window attributes as fusion left them: pads may have been added. */
static void
put_window(writing *c, const nn_node *n)
{
	const int64_t *p = n->params.i;
	int			from = c->g->values[n->in[0]].shape.rank == 4 ? 0 : 1;
	int			rank = 2 - from;
	int64_t		pads[4];

	mr_onnx_attr_ints(&c->w, "kernel_shape", rank, p + nn_w_kh + from);
	mr_onnx_attr_ints(&c->w, "strides", rank, p + nn_w_sh + from);
	mr_onnx_attr_ints(&c->w, "dilations", rank, p + nn_w_dh + from);
	for (int i = 0; i < rank; i++)
	{
		pads[i] = p[nn_w_pt + from + i];
		pads[rank + i] = p[nn_w_pb + from + i];
	}
	mr_onnx_attr_ints(&c->w, "pads", 2 * rank, pads);
	mr_onnx_attr_int(&c->w, "group", p[nn_w_groups]);
}

/* A constant list of integers, named after the node's output. */
static const char *
put_ints(writing *c, const char *suffix, int n, const int64_t *v)
{
	nn_shape	s = {1, {n}};
	const char *name = derived(c, c->n->out[0], suffix);

	put_tensor(c, name, nn_int64, &s, v);
	return name;
}

/*
 * Inputs that were attributes before MIN_OPSET, or a Reshape's target that was
 * folded for a batch of one: sets what to add or replace.  NULL stays.
 */
typedef struct changes
{
	const char *input[5];		/* by index */
	const char *without[4];		/* attributes left out */
	int			n_without;
	bool		axis_1;			/* the default of an axis that was 1, and became -1 */
} changes;

static void
list_to_input(writing *c, changes *ch, const char *attr, int k)
{
	const nn_attr *a = nn_find_attr(c->n, attr);

	if (a == NULL || a->type != nn_attr_ints)
		return;
	ch->input[k] = put_ints(c, attr, a->n, a->ints);
	ch->without[ch->n_without++] = attr;
}

static void
float_to_input(writing *c, changes *ch, const char *attr, int k, float value)
{
	const char *name = derived(c, c->n->out[0], attr);

	put_scalar(c, name, nn_float32, &value);
	ch->input[k] = name;
	ch->without[ch->n_without++] = attr;
}

static mr_code
old_to_new(writing *c, changes *ch)
{
	static const char *const unknown[] = {"Resize", "Upsample", "TopK", "BatchNormalization", "Scan", NULL};
	const nn_node *n = c->n;
	const nn_attr *a;
	int			rank = n->n_in > 0 && n->in[0] >= 0 ? c->g->values[n->in[0]].shape.rank : 0;

	if (strcmp(n->op_type, "Softmax") == 0 || strcmp(n->op_type, "LogSoftmax") == 0)
	{
		/* before opset 13: all dimensions from the axis on as one */
		a = nn_find_attr(n, "axis");
		ch->axis_1 = a == NULL;
		for (int i = a ? (int) (a->i < 0 ? a->i + rank : a->i) : 1; i < rank - 1; i++)
			if (c->g->values[n->in[0]].shape.dims[i + 1] != 1)
				return nn_node_fail(c->g, n, MR_UNSUPPORTED, "cannot be written in opset %d", MIN_OPSET);
	}
	else if (strcmp(n->op_type, "Clip") == 0 && n->opset < 11)
	{
		float_to_input(c, ch, "min", 1, n->params.f[0]);
		float_to_input(c, ch, "max", 2, n->params.f[1]);
	}
	else if (strcmp(n->op_type, "Pad") == 0 && n->opset < 11)
	{
		list_to_input(c, ch, "pads", 1);
		a = nn_find_attr(n, "value");
		float_to_input(c, ch, "value", 2, a ? a->f : 0);
	}
	else if (strcmp(n->op_type, "Slice") == 0 && n->opset < 10)
	{
		list_to_input(c, ch, "starts", 1);
		list_to_input(c, ch, "ends", 2);
		list_to_input(c, ch, "axes", 3);
	}
	else if (strcmp(n->op_type, "Squeeze") == 0 || strcmp(n->op_type, "Unsqueeze") == 0 ||
			 strcmp(n->op_type, "ReduceSum") == 0)
		list_to_input(c, ch, "axes", 1);
	else if (strcmp(n->op_type, "Split") == 0)
		list_to_input(c, ch, "split", 1);
	else
		for (int i = 0; unknown[i]; i++)
			if (strcmp(n->op_type, unknown[i]) == 0 && n->opset < 11)
				return nn_node_fail(c->g, n, MR_UNSUPPORTED, "cannot be written in opset %d", MIN_OPSET);
	return MR_OK;
}

/* The shape was computed from a batch of 1: "as many as there are" instead. */
static void
reshape_any_batch(writing *c, changes *ch)
{
	const nn_node *n = c->n;
	const nn_value *s = &c->g->values[n->in[1]];
	const nn_shape *x = &c->g->values[n->in[0]].shape,
			   *y = &c->g->values[n->out[0]].shape;
	int64_t		dims[NN_MAX_RANK];
	const nn_attr *zero = nn_find_attr(n, "allowzero");

	if (s->data == NULL || s->initializer || s->dtype != nn_int64 || s->elements < 1 || s->elements > NN_MAX_RANK ||
		x->rank < 1 || y->rank < 1 || x->dims[0] != 1 || y->dims[0] != 1 || (zero && zero->i))
		return;
	memcpy(dims, s->data, (size_t) s->elements * sizeof(int64_t));
	dims[0] = 0;
	ch->input[1] = put_ints(c, "shape", (int) s->elements, dims);
}

static void
put_attrs(writing *c, const nn_node *n, const changes *ch)
{
	for (int i = 0; i < n->n_attrs; i++)
	{
		const nn_attr *a = &n->attrs[i];
		bool		wanted = true;

		for (int k = 0; k < ch->n_without; k++)
			wanted = wanted && strcmp(a->name, ch->without[k]) != 0;
		/* half types are float32 here */
		if (strcmp(n->op_type, "Cast") == 0 && strcmp(a->name, "to") == 0)
			mr_onnx_attr_int(&c->w, "to", a->i == nn_float16 || a->i == nn_bfloat16 || a->i == nn_float64 ?
							  nn_float32 : a->i);
		else if (wanted)
			put_attr(c, a);
	}
	if (ch->axis_1)
		mr_onnx_attr_int(&c->w, "axis", 1);
}

static void
put_activation(writing *c, const nn_node *n, const char *from)
{
	const char *low = derived(c, n->out[0], "min"),
			   *high = derived(c, n->out[0], "max");
	bool		clip = n->act.kind == nn_act_clip;
	size_t		at;

	if (clip && isfinite(n->act.a))
		put_scalar(c, low, nn_float32, &n->act.a);
	if (clip && isfinite(n->act.b))
		put_scalar(c, high, nn_float32, &n->act.b);
	at = begin_node(c, clip ? "Clip" : "Relu", derived(c, n->out[0], "act"));
	mr_onnx_text(&c->w, 1, from);
	if (clip && (isfinite(n->act.a) || isfinite(n->act.b)))
		mr_onnx_text(&c->w, 1, isfinite(n->act.a) ? low : "");
	if (clip && isfinite(n->act.b))
		mr_onnx_text(&c->w, 1, high);
	mr_onnx_text(&c->w, 2, name_of(c, n->out[0]));
	mr_onnx_end(&c->w, at);
}

static mr_code
put_node(writing *c, int index)
{
	const nn_node *n = c->n = &c->g->nodes[index];
	bool		layer = c->q->node[index] && (n->op->kind == nn_kind_conv || n->op->kind == nn_kind_gemm ||
											  n->op->kind == nn_kind_matmul);
	bool		act = n->act.kind != nn_act_none;
	const char *in[5] = {0};
	const char *out = act ? derived(c, n->out[0], "pre") : name_of(c, n->out[0]);
	changes		ch = {0};
	int			n_in = n->n_in;
	size_t		at;

	for (int i = 0; i < n->n_attrs; i++)
		if (n->attrs[i].type == nn_attr_strings || n->attrs[i].type == nn_attr_other)
			return nn_node_fail(c->g, n, MR_UNSUPPORTED, "a model with this operator cannot be written");
	if (layer)
	{
		NN_TRY(put_weights(c, &in[1], &in[2]));
		n_in = in[2][0] ? 3 : 2;
		if (!in[2][0])
			in[2] = NULL;
	}
	else if (n->op->domain[0] == '\0')
	{
		if (c->g->opset < MIN_OPSET)
			NN_TRY(old_to_new(c, &ch));
		if (n->op->infer == nn_infer_reshape)
			reshape_any_batch(c, &ch);
		memcpy(in, ch.input, sizeof(in));
	}
	for (int k = 0; k < 5; k++)
		n_in = in[k] && k >= n_in ? k + 1 : n_in;
	/* constants come before the node that is begun next */
	for (int k = 0; k < n->n_in; k++)
		if (k >= 5 || in[k] == NULL)
			read_name(c, n->in[k]);
	at = begin_node(c, n->op_type, n->name);
	for (int k = 0; k < n_in; k++)
		mr_onnx_text(&c->w, 1, k < 5 && in[k] ? in[k] : k < n->n_in ? read_name(c, n->in[k]) : "");
	for (int k = 0; k < n->n_out; k++)
		mr_onnx_text(&c->w, 2, n->out[k] < 0 ? "" : k == 0 ? out : name_of(c, n->out[k]));
	if (n->op->kind == nn_kind_conv)
		put_window(c, n);
	else if (layer && n->op->kind == nn_kind_gemm)
		mr_onnx_attr_int(&c->w, "transB", n->params.i[1]);
	else if (!layer)
		put_attrs(c, n, &ch);
	if (n->op->domain[0])
		mr_onnx_text(&c->w, 7, n->op->domain);
	mr_onnx_end(&c->w, at);
	if (act)
		put_activation(c, n, out);
	for (int k = 0; k < n->n_out; k++)
		if (n->out[k] >= 0 && c->q->value[n->out[k]])
			put_pair(c, n->out[k]);
	return MR_OK;
}

static mr_code
put_graph(writing *c)
{
	nn_graph   *g = c->g;

	mr_onnx_text(&c->w, 2, "quantized");
	for (int i = 0; i < g->n_inputs; i++)
	{
		const nn_value *v = &g->values[g->inputs[i]];

		put_port(c, 11, v);
		if (c->q->value[g->inputs[i]])
			put_pair(c, g->inputs[i]);
	}
	for (int i = 0; i < g->n_nodes; i++)
	{
		if (mr_interrupted(g->env))
			return mr_fail(g->st, MR_CANCELED, "canceled");
		if (!g->nodes[i].dead)
			NN_TRY(put_node(c, i));
	}
	for (int i = 0; i < g->n_outputs; i++)
	{
		const nn_value *v = &g->values[g->outputs[i]];

		if (v->data)
			read_name(c, g->outputs[i]);
		put_port(c, 12, v);
	}
	return MR_OK;
}

mr_code
nn_quant_write(nn_quantizer *q, uint8_t **onnx, size_t *len)
{
	writing		c = {.q = q, .g = &q->g};
	mr_code		rc;
	size_t		graph;

	*onnx = NULL;
	mr_onnx_init(&c.w, q->env, q->opt.max_model_bytes);
	nn_heap_init(&c.heap, q->env, SIZE_MAX / 4, q->g.st);
	c.written = nn_heap_alloc(&c.heap, (size_t) q->g.n_values + 1, sizeof(bool));
	if (c.written == NULL)
		return q->g.st->code;
	mr_onnx_int(&c.w, 1, 8);	/* IR version */
	mr_onnx_text(&c.w, 2, "millrace");
	graph = mr_onnx_begin(&c.w, 7);
	rc = put_graph(&c);
	mr_onnx_end(&c.w, graph);
	mr_onnx_opset(&c.w, "", q->g.opset > MIN_OPSET ? q->g.opset : MIN_OPSET);
	if (q->g.opset_ml)
		mr_onnx_opset(&c.w, "ai.onnx.ml", q->g.opset_ml);
	if (rc == MR_OK)
		rc = mr_onnx_code(&c.w, q->g.st);
	nn_heap_free(&c.heap);
	if (rc != MR_OK)
	{
		mr_free(q->env, c.w.p);
		return rc;
	}
	*onnx = c.w.p;
	*len = c.w.len;
	return MR_OK;
}
